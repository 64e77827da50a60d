"""A run's folder: which stages are done, with which inputs, so that they are reused, resumed or refused."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ddm_framework.artifacts import load_json, save_json
from ddm_framework.errors import RunFolderError
from ddm_framework.recipes import differences

STAGES = ("training", "partition", "matching", "online")
MANIFEST = "manifest.json"
_OWN = (MANIFEST, "recipe.yaml", "metrics.json", "report.html", "offline", "online", "questions")
_PACKAGES = ("ddm-framework", "torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors")


@dataclass(frozen=True, slots=True)
class StageInputs:
    """What a stage's result depends on.

    Attributes:
        hashed: plain values; the stage is reused while their digest stays the same.
        shown: further values that help to say what changed, such as the path that data came from.
    """

    hashed: Mapping[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A digest of the hashed values."""
        text = json.dumps(self.hashed, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = {"stages": {}}

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder, or a new or empty one.

        Raises:
            RunFolderError: if the folder holds other things, or its manifest cannot be read.
        """
        folder = cls(path)
        if (path / MANIFEST).exists():
            manifest = load_json(path / MANIFEST)
            if not isinstance(manifest, dict) or not isinstance(manifest.get("stages"), dict):
                raise RunFolderError(f"{path / MANIFEST} is not a manifest of ddm; choose another folder with --out")
            folder.manifest = manifest
        elif path.exists() and (not path.is_dir() or any(each.name not in _OWN for each in path.iterdir())):
            raise RunFolderError(f"{path} exists and is not a run folder of ddm; choose another folder with --out")
        return folder

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A finished run.

        Raises:
            RunFolderError: if there is none in this folder, or it is not finished.
        """
        if not (path / MANIFEST).is_file():
            raise RunFolderError(
                f"{path} holds no run of ddm (no {MANIFEST}); make one with `ddm run RECIPE --out {path}`"
            )
        folder = cls.open(path)
        missing = [stage for stage in STAGES if not folder.is_done(stage)]
        if missing:
            raise RunFolderError(
                f"the run in {path} is not finished ({', '.join(missing)}); run its recipe again to go on"
            )
        return folder

    def file(self, *parts: str) -> Path:
        """A file of the run."""
        return self.path.joinpath(*parts)

    def is_done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return bool(self.manifest["stages"].get(stage, {}).get("done"))

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, as spent when it was made."""
        return {stage: float(record.get("seconds", 0.0)) for stage, record in self.manifest["stages"].items()}

    def note(self, **values: Any) -> None:
        """Add values to the manifest."""
        self.manifest.update(values)
        self._write()

    def claim(self, inputs: Mapping[str, StageInputs], *, fresh: bool) -> None:
        """Make sure that what the folder holds came from these inputs.

        Args:
            inputs: of each stage, in order.
            fresh: discard the first stage that differs and everything after it, instead of refusing.
        Raises:
            RunFolderError: listing what differs.
        """
        stages = self.manifest["stages"]
        changed = [name for name in inputs if name in stages and stages[name]["hash"] != inputs[name].digest]
        if changed and not fresh:
            raise RunFolderError(self._refusal(changed, inputs))
        if fresh:
            unreadable = [name for name in inputs if name in stages and not self._readable(name)]
            first = next((name for name in inputs if name in (*changed, *unreadable)), None)
            if first is not None:
                self.discard([name for name in STAGES if STAGES.index(name) >= STAGES.index(first)])

    def _refusal(self, changed: Sequence[str], inputs: Mapping[str, StageInputs]) -> str:
        lines = []
        for name in changed:
            record = self.manifest["stages"][name]
            old = {**record.get("shown", {}), **record["inputs"]}
            new = json.loads(json.dumps({**inputs[name].shown, **inputs[name].hashed}, default=str))
            for place, before, after in differences(old, new):
                line = f"  {place}: {before!r} there, {after!r} asked for"
                if not place.startswith("after") and line not in lines:
                    lines.append(line)
        return (
            f"{self.path} holds a run with other settings (stage {changed[0]}):\n"
            + "\n".join(lines)
            + "\nchoose another folder with --out, or discard that stage and what follows from it with --fresh"
        )

    def _readable(self, stage: str) -> bool:
        """Whether the files of a stage are whole, by their recorded sizes and a look at their headers."""
        from ddm_framework.artifacts import load_tensors

        for path in stage_files(self.path, stage):
            if path.suffix == ".safetensors":
                try:
                    load_tensors(path)
                except RunFolderError:
                    return False
        recorded = self.manifest["stages"][stage].get("files", [])
        return all((self.path / name).is_file() for name in recorded)

    def discard(self, stages: Sequence[str]) -> None:
        """Forget stages and remove their files."""
        for stage in stages:
            self.manifest["stages"].pop(stage, None)
        self._write()
        for stage in stages:
            for path in stage_files(self.path, stage):
                path.unlink(missing_ok=True)

    @contextmanager
    def stage(self, name: str, inputs: StageInputs) -> Iterator[StageClock]:
        """Work on a stage; it counts as done when the block ends without an error."""
        record = self.manifest["stages"].setdefault(name, {"seconds": 0.0})
        record.update(inputs=dict(inputs.hashed), shown=dict(inputs.shown), hash=inputs.digest, done=False)
        self._write()
        clock = StageClock(self, record)
        yield clock
        files = [path.relative_to(self.path).as_posix() for path in stage_files(self.path, name)]
        record.update(done=True, files=files, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        clock.saved()

    def _write(self) -> None:
        save_json(self.path / MANIFEST, self.manifest)


class StageClock:
    """Counts the seconds of a stage, those before an interruption included."""

    def __init__(self, folder: RunFolder, record: dict[str, Any]) -> None:
        self._folder, self._record = folder, record
        self._before, self._begun = float(record.get("seconds", 0.0)), time.monotonic()
        self._stopped = False

    def stop(self) -> None:
        """What the stage does from here on is not counted."""
        self.saved()
        self._stopped = True

    def saved(self) -> None:
        """Something lasting was written: remember the time spent on it too."""
        if not self._stopped:
            self._record["seconds"] = round(self._before + time.monotonic() - self._begun, 3)
        self._folder._write()


def stage_files(path: Path, stage: str) -> list[Path]:
    """The files that a stage writes, those of an unfinished one included."""
    patterns = {
        "training": ("offline/trajectory/*",),
        "partition": ("offline/partition.safetensors",),
        "matching": ("offline/synset.safetensors", "offline/synset/*"),
        "online": ("online/*", "metrics.json", "report.html"),
    }
    return sorted(file for pattern in patterns[stage] for file in path.glob(pattern) if file.is_file())


def environment() -> dict[str, Any]:
    """What a run was made with: versions, machine, and the git revision of the current folder if it has one."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "platform": platform.platform(), "git_revision": _git_revision()}


def _git_revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    asked = subprocess.run([git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
