"""A command with its workers: how long it takes, and the most memory that all of them hold at a time."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY = 0.05
"""Seconds between two looks."""


@dataclass(frozen=True)
class Seen:
    """What became of a command.

    Attributes:
        status: its exit status.
        seconds: from its start to its end.
        peak_bytes: resident memory of it and its workers together, at the worst look.
        out, complaint: its standard output and error.
        ended: why it was ended, if it was.
    """

    status: int
    seconds: float
    peak_bytes: int
    out: str
    complaint: str
    ended: str


def watched(command: Sequence[str], seconds: float = float("inf"), memory: float = float("inf")) -> Seen:
    """Run a command, and end it with its workers after so many seconds or from so many bytes on."""
    begun, most, ended = time.perf_counter(), 0, ""
    with tempfile.TemporaryDirectory() as folder:
        out, complaint = Path(folder, "out"), Path(folder, "err")
        with out.open("w") as stdout, complaint.open("w") as stderr:
            process = psutil.Popen(list(command), stdout=stdout, stderr=stderr)
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    family = [process, *process.children(recursive=True)]
                    most = max(most, sum(each.memory_info().rss for each in family))
                    late = time.perf_counter() - begun > seconds
                    if late or most > memory:
                        ended = f"more than {seconds:.0f} s" if late else f"more than {memory / 1e9:.0f} GB"
                        for each in reversed(family):
                            each.kill()
                        process.wait()
                time.sleep(EVERY)
        spent = time.perf_counter() - begun
        return Seen(process.returncode, spent, most, out.read_text(), complaint.read_text(), ended)
