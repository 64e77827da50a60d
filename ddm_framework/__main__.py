"""`python -m ddm_framework` is the command `ddm`."""

from ddm_framework.cli import main

main()
