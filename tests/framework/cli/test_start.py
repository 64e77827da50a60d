"""A command imports what it needs, when it needs it: the first bar comes soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = ("sklearn", "scipy.stats", "matplotlib", "timm", "torch._dynamo", "sympy")
RUN = """
import sys
from unittest import mock
from ddm_framework.cli import main
from ddm_framework.stages import foretelling

foretelling.TOLD_FROM = 1e9  # a machine that is busy enough would make this run a long one, which is timed

def stop(*_arguments):
    print(*(name for name in {slow!r} if name in sys.modules))
    raise SystemExit

sys.argv = ["ddm", "run", "digits_convnet", "--out", {out!r}, "--set", "training.epochs=4", "--set", "matching.steps=1"]
with mock.patch({place!r}, stop):
    main()
"""


def imported(place: str, out: Path) -> set[str]:
    """Slow modules that a run has imported when it calls a function."""
    script = RUN.format(slow=SLOW, out=str(out), place=place)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[0].split())


def test_nothing_slow_is_imported_before_training(tmp_path: Path) -> None:
    assert imported("ddm_framework.stages.offline.train_target", tmp_path / "out") == set()


def test_matching_does_not_import_pytorchs_compiler(tmp_path: Path) -> None:
    found = imported("ddm_framework.runs.artifacts.save_synsets", tmp_path / "out")
    assert "sklearn" in found  # k-means
    assert not found & {"torch._dynamo", "sympy", "timm", "matplotlib"}


@pytest.mark.parametrize("command", [["ls"], ["--help"]])
def test_a_list_needs_no_pytorch(command: list[str]) -> None:
    script = f"import sys; sys.argv = ['ddm', *{command!r}]\nfrom ddm_framework.cli import main\ntry: main()\n"
    script += "finally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stderr.split()[-1] == "False"
