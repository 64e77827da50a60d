"""`ddm runs`: run folders, how far each is, and what came out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddm_framework.cli.listing import wide_console
from ddm_framework.errors import DDMError, RunFolderError
from ddm_framework.runs.run_folder import MANIFEST, STAGES, RunFolder, is_locked
from ddm_framework.runs.safe_files import load_json

DEEPEST = 4
"""Folders below the one that is looked through; runs lie in `runs/`, or in folders of it."""


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """Run folders in a folder, by path.

    Returns:
        For each its folder, recipe, state, test accuracy, seconds, end and version of ddm; None where it is not known.
    Raises:
        DDMError: if there is no such folder.
    """
    if not folder.is_dir():
        raise DDMError(f"there is no folder {folder}; name the one that holds your runs, as in `ddm runs runs`")
    return [_told(path) for path in sorted(_run_folders(folder, DEEPEST))]


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a manifest; what is inside one of them, such as its variants, is no run of its own."""
    if (folder / MANIFEST).is_file():
        yield folder
        return
    if not depth:
        return
    try:
        with os.scandir(folder) as entries:
            below = [Path(each) for each in entries if each.is_dir(follow_symlinks=False) and each.name[0] != "."]
    except OSError:  # not ours to read
        return
    for each in below:
        yield from _run_folders(each, depth - 1)


def _told(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = dict.fromkeys(("recipe", "state", "test_accuracy", "seconds", "finished", "version"))
    told = {"folder": str(path), **told}
    try:
        folder = RunFolder.open(path)
    except RunFolderError as error:
        return {**told, "state": f"unreadable: {error}"}
    stages = folder.manifest["stages"]
    return {
        **told,
        "recipe": folder.manifest.get("recipe"),
        "state": state_of(folder),
        "test_accuracy": _accuracy(folder),
        "seconds": round(sum(folder.seconds().values()), 1),
        "finished": stages.get(STAGES[-1], {}).get("finished"),
        "version": folder.manifest.get("versions", {}).get("ddm-framework"),
    }


def state_of(folder: RunFolder) -> str:
    """`finished`, or the stage that a process works on or stopped in."""
    missing = [stage for stage in STAGES if not folder.is_done(stage)]
    if is_locked(folder.path):
        return f"running: {missing[0]}" if missing else "running"
    return f"stopped in {missing[0]}" if missing else "finished"


def _accuracy(folder: RunFolder) -> float | None:
    try:
        found = load_json(folder.file("metrics.json"))
        return float(found["target"]["test_accuracy"])
    except (RunFolderError, KeyError, TypeError, ValueError):
        return None


def print_runs(found: Sequence[Mapping[str, Any]], folder: Path, console: Console | None = None) -> None:
    """A table of run folders."""
    console = console or wide_console()
    if not found:
        console.print(Text(f"{folder} holds no run; make one with `ddm run RECIPE`"), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in ("recipe", "state", "test accuracy", "seconds", "finished"):
        table.add_column(name, no_wrap=name != "state")
    for each in found:
        accuracy, spent = each["test_accuracy"], each["seconds"]
        cells = (
            each["folder"],
            each["recipe"] or "",
            each["state"],
            "" if accuracy is None else f"{accuracy:.1%}",
            "" if spent is None else f"{spent:.0f}",
            (each["finished"] or "")[:16].replace("T", " "),
        )
        table.add_row(*map(Text, cells))
    console.print(table)
