"""`python -m ddm_framework` is the command `ddm`."""

from ddm_framework.cli.commands import main

main()
