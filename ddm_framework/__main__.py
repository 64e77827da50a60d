"""`python -m ddm_framework` is the command `ddm`."""

import sys
from pathlib import Path

# `python -m` looks for modules in the current folder first, which may be a stranger's; the command `ddm` does not.
if not sys.flags.safe_path and Path(sys.path[0] or ".").resolve() == Path.cwd() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from ddm_framework.cli import main

main()
