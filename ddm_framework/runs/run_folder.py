"""The folder of a run: which stages are done, and with which inputs, so that they are reused, resumed or refused."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError, field_validator

from ddm_framework.errors import RunFolderError
from ddm_framework.files import FileError, is_file, is_folder, is_link, read_text, why
from ddm_framework.recipe.yaml_source import MAX_BYTES
from ddm_framework.runs.provenance import Difference, StageInputs, in_words, versions_in_words, worth_telling
from ddm_framework.runs.safe_files import AGAIN, PARTIAL, load_json, remove_partials, save_json

STAGES = ("training", "partition", "matching", "online")
"""The stages of a run, in their order."""
MANIFEST = "manifest.json"
RECIPE = "recipe.yaml"
SAMPLES = "samples.csv"
LOCK = ".lock"
"""The file that keeps a second process out; it means nothing when nobody holds it."""
NETWORKS = "networks"
"""Folder of the networks that are kept for the next question."""
_FOLDERS = ("offline", "offline/trajectory", "offline/synset", "online", NETWORKS, "variants", "questions")
"""Folders within that of a run; a link in the place of one would lead ddm to write and remove files elsewhere."""
_NOT_OURS = "is not a run folder of ddm; choose another folder (`ddm run --out`)"


class _Stage(BaseModel):
    """What the manifest says of a stage; other things that it says are kept."""

    hash: str
    inputs: dict[str, Any]
    shown: dict[str, Any] = {}
    files: list[str] = []
    used: dict[str, str] = {}
    seconds: float = 0.0
    done: bool = False

    @field_validator("files")
    @classmethod
    def _within(cls, files: list[str]) -> list[str]:
        if any(PurePosixPath(each).is_absolute() or ".." in PurePosixPath(each).parts for each in files):
            raise ValueError("a file outside of the run folder")
        return files


class _Manifest(BaseModel):
    stages: dict[str, _Stage]
    recipe: str = ""
    versions: dict[str, str] = {}
    data: dict[str, Any] = {}


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
        try:
            if _is_there(path / MANIFEST):
                folder.manifest = _read_manifest(path / MANIFEST)
            elif _is_there(path) and (
                not is_folder(path) or any(each.suffix != PARTIAL and each.name != LOCK for each in path.iterdir())
            ):
                raise RunFolderError(f"{path} exists and has no {MANIFEST}, so it {_NOT_OURS}")
        except OSError as error:
            raise RunFolderError(f"cannot look into {path}: {why(error)}") from error
        inner = (path / name for name in (LOCK, *_FOLDERS))
        if links := [each for each in (*inner, *path.glob("variants/*")) if is_link(each)]:
            raise RunFolderError(
                f"{links[0]} is a link, and ddm would write and remove files where it leads; put a real"
                f" {'file' if links[0].name == LOCK else 'folder'} in its place"
            )
        return folder

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A finished run.

        Raises:
            RunFolderError: if there is none in this folder, or it is not finished.
        """
        if not is_file(path / MANIFEST):
            raise RunFolderError(
                f"{path} holds no run of ddm (no {MANIFEST}); make one with `ddm run RECIPE --out {path}`"
            )
        folder = cls.open(path)
        if missing := [stage for stage in STAGES if not folder.is_done(stage)]:
            raise RunFolderError(
                f"the run in {path} is not finished ({', '.join(missing)}); run its recipe again to go on"
            )
        return folder

    def file(self, *parts: str) -> Path:
        """A file of the run."""
        return self.path.joinpath(*parts)

    def recipe_text(self) -> str:
        """The recipe that the run was made with, as its folder spells it out.

        Raises:
            RunFolderError: if it is missing or cannot be read.
        """
        try:
            return read_text(self.path / RECIPE, MAX_BYTES)
        except FileError as error:
            raise RunFolderError(f"{error}; run the recipe that made {self.path} again, which writes it anew") from None

    def files(self, stage: str) -> list[Path]:
        """The files of a stage: those that it made if it is done, otherwise those that exist."""
        if self.is_done(stage):
            return [self.path / name for name in self.manifest["stages"][stage].get("files", [])]
        return stage_files(self.path, stage)

    def is_done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return bool(self.manifest["stages"].get(stage, {}).get("done"))

    def input(self, stage: str, name: str) -> Any:
        """One of the inputs that a stage was started with; None if it was not started."""
        return self.manifest["stages"].get(stage, {}).get("inputs", {}).get(name)

    def stamp(self, stage: str, path: Path) -> dict[str, str]:
        """The stamp of a file: the inputs that its stage was made from, and its own name."""
        return {"inputs": self.manifest["stages"][stage]["hash"], "file": path.relative_to(self.path).as_posix()}

    def seconds(self) -> dict[str, float]:
        """Seconds that each stage took when it was made."""
        return {stage: float(record.get("seconds", 0.0)) for stage, record in self.manifest["stages"].items()}

    def note(self, **values: Any) -> None:
        """Add values to the manifest."""
        self.manifest.update(values)
        self._write()

    def claim(self, inputs: Mapping[str, StageInputs], *, fresh: bool) -> None:
        """Make sure that the contents of the folder were made from these inputs and are complete.

        Args:
            inputs: of each stage, in order.
            fresh: discard the first stage that differs or is damaged and everything after it, instead of refusing.
        Raises:
            RunFolderError: listing what differs, or naming the damaged file.
        """
        self._sweep()
        begun = [name for name in inputs if name in self.manifest["stages"]]
        damaged = {name: damage for name in begun if (damage := self._damage(name))}
        if not fresh:
            self.check(inputs)
            if damaged:
                raise RunFolderError(next(iter(damaged.values())))
        bad = [name for name in begun if name in damaged or name in self._changed(inputs)]
        if bad:
            self.discard(STAGES[STAGES.index(bad[0]) :])

    def check(self, inputs: Mapping[str, StageInputs]) -> None:
        """Make sure that the stages started so far had these inputs.

        Raises:
            RunFolderError: listing what differs.
        """
        changed = self._changed(inputs)
        if not changed:
            return
        told = worth_telling([each for found in changed.values() for each in found])
        raise RunFolderError(
            f"{self.path} holds a run with other settings (stage {next(iter(changed))}):\n"
            + "\n".join(dict.fromkeys(map(in_words, told)))
            + versions_in_words(self.manifest, told)
            + "\nchoose another folder with --out, or discard that stage and what follows from it with --fresh"
        )

    def reusable(self, inputs: Mapping[str, StageInputs]) -> list[str]:
        """The stages that are finished and were made from these inputs."""
        changed = self._changed(inputs)
        return [name for name in inputs if self.is_done(name) and name not in changed]

    def _changed(self, inputs: Mapping[str, StageInputs]) -> dict[str, list[Difference]]:
        """What differs in each stage that cannot be reused: the first one, and with it all that follow."""
        stages = self.manifest["stages"]
        changed: dict[str, list[Difference]] = {}
        for name in inputs:
            if name in stages:
                before = self._before(name)
                found = inputs[name].changes(stages[name], None if changed else before)
                if found or changed:
                    changed[name] = found
        return changed

    def _before(self, stage: str) -> str | None:
        """The recorded digest of the stage before; None if it is not of this folder."""
        place = STAGES.index(stage)
        record = self.manifest["stages"].get(STAGES[place - 1]) if place else None
        return None if record is None else str(record["hash"])

    def _damage(self, stage: str) -> str:
        """What is wrong with the files of a stage, judged by their headers; empty if nothing is."""
        from ddm_framework.runs.tensor_files import check_tensors  # torch takes long, and a list of runs needs none

        for path in self.files(stage):
            try:
                if path.suffix == ".safetensors":
                    check_tensors(path, stamp=self.stamp(stage, path))
                elif path.suffix == ".json":
                    load_json(path)
                elif not is_file(path):
                    return f"{path} is missing; run with --fresh to make it again"
            except RunFolderError as error:
                return str(error)
        return ""

    def _sweep(self) -> None:
        """Remove partial files of killed processes; the stages' own folders belong to nobody else, whatever its id."""
        for pattern in (f".*{PARTIAL}", f"offline/**/.*{PARTIAL}", f"online/.*{PARTIAL}"):
            for path in self.path.glob(pattern):
                with suppress(OSError):
                    path.unlink()
        for folder in (self.path / NETWORKS, self.path / "questions"):
            remove_partials(folder)

    def discard(self, stages: Sequence[str]) -> None:
        """Forget stages and remove their files."""
        for stage in stages:
            self.manifest["stages"].pop(stage, None)
        self._write()
        for stage in stages:
            self._remove_files(stage)
        if set(stages) - {"online"}:
            shutil.rmtree(self.path / NETWORKS, ignore_errors=True)

    def _remove_files(self, stage: str) -> None:
        for path in stage_files(self.path, stage):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RunFolderError(f"cannot remove {path}: {error.strerror}") from error

    @contextmanager
    def stage(self, name: str, inputs: StageInputs) -> Iterator[StageClock]:
        """Work on a stage; it counts as done when the block ends without an error."""
        if name not in self.manifest["stages"]:
            self._remove_files(name)  # an interrupted `discard` may have left some
        record = self.manifest["stages"].setdefault(name, {"seconds": 0.0})
        record.update(inputs=dict(inputs.hashed), shown=dict(inputs.shown), hash=inputs.digest, done=False)
        record.pop("used", None)
        self._write()
        clock = StageClock(self, record)
        yield clock
        files = [path.relative_to(self.path).as_posix() for path in stage_files(self.path, name)]
        record.update(done=True, files=files, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        clock.saved()

    def _write(self) -> None:
        save_json(self.path / MANIFEST, self.manifest)


class StageClock:
    """Counts the seconds of a stage, including those before an interruption."""

    def __init__(self, folder: RunFolder, record: dict[str, Any]) -> None:
        self._folder, self._record = folder, record
        self._before, self._begun = float(record.get("seconds", 0.0)), time.monotonic()
        self._stopped = False

    def used(self, code: Mapping[str, str]) -> None:
        """Record digests of the code that the stage looked up while it ran; if one changes, the stage is redone."""
        self._record["used"] = dict(code)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is done here is not the stage's own work, and does not count."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._begun += time.monotonic() - begun

    def stop(self) -> None:
        """Stop counting: what the stage does from here on is not its own work."""
        self.saved()
        self._stopped = True

    def saved(self) -> None:
        """Record the time so far, because something lasting was written."""
        if not self._stopped:
            self._record["seconds"] = round(self._before + time.monotonic() - self._begun, 3)
        self._folder._write()


def stage_files(path: Path, stage: str) -> list[Path]:
    """The files in the folder that a stage wrote or would write over."""
    patterns = {
        "training": (
            *(f"offline/trajectory/{name}_*.safetensors" for name in ("epoch", "velocity", "squares", "constants")),
            "offline/trajectory/resume.safetensors",
        ),
        "partition": ("offline/partition.safetensors",),
        "matching": ("offline/synset.safetensors", "offline/synset/*.safetensors"),
        "online": ("online/attribution.safetensors", "metrics.json", "report.html", SAMPLES),
    }
    return sorted(file for pattern in patterns[stage] for file in path.glob(pattern) if file.is_file())


def _is_there(path: Path) -> bool:
    """Whether anything has this name, a link that leads nowhere included.

    Raises:
        OSError: if the system cannot tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; the system removes the lock however this process ends.

    Raises:
        RunFolderError: if another process works in it, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RunFolderError(f"{path} exists and {_NOT_OURS}") from None
    except OSError as error:
        raise RunFolderError(f"cannot make the run folder {path}: {why(error)}") from error
    if _is_there(path / LOCK) and (is_link(path / LOCK) or not is_file(path / LOCK)):
        raise RunFolderError(f"{path / LOCK} is not the file that ddm writes; remove it")
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunFolderError(
            f"another ddm works in {path} right now; wait for it, or choose another folder with --out"
        ) from None
    except (OSError, NotImplementedError):
        pass  # a file system that knows no locks
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process works in a run folder right now."""
    if not (path / LOCK).is_file():
        return False
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False  # a folder that cannot be written to, or a file system that knows no locks
    lock.release()
    return False


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = load_json(path)
        _Manifest.model_validate(manifest, strict=True)
    except RunFolderError as error:
        raise RunFolderError(f"{str(error).removesuffix(f'; {AGAIN}')}, so {path.parent} {_NOT_OURS}") from None
    except ValidationError:
        raise RunFolderError(f"{path} is not a manifest of ddm, so {path.parent} {_NOT_OURS}") from None
    return manifest
