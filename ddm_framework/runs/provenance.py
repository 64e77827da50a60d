"""What a stage was made from and what a run was made with, and how that differs from what is requested now."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from ddm_framework.files import FileError, is_folder, read_text

DISTRIBUTION = "ddm-framework"
_PACKAGES = (DISTRIBUTION, "torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors")
_CODE = ("code", "inner")
"""Keys under which the digests of components' code stand; runs made before code was looked at have none."""
_MOST_OF_GIT = 10_000_000
"""Bytes that a file of git's is read up to; a repository with 100,000 packed branches has fewer."""
_REVISION = re.compile(r"[0-9a-f]{40,64}")


class _Absent:
    """Stands for a value that one of two trees does not have."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()
Difference = tuple[tuple[str, ...], Any, Any]
"""A place in two trees, and the value of each there."""


@dataclass(frozen=True, slots=True)
class StageInputs:
    """What a stage's result depends on.

    Attributes:
        hashed: plain values; the stage is reused while they stay the same.
        shown: further values that help to say what changed, such as the path that data came from.
        defaults: of the settings among the hashed values, in the same places. A setting that was added after the stage
            was made changes nothing as long as it has its default.
        code_of: digest of the code of a component, by kind and name, for those that the stage looked up while it ran.
    """

    hashed: Mapping[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    code_of: Callable[[str], str] = field(default=lambda _: "", repr=False, compare=False)

    @property
    def digest(self) -> str:
        """A digest of the hashed values."""
        text = json.dumps(self.hashed, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def changes(self, record: Mapping[str, Any], before: str | None = None) -> list[Difference]:
        """Differences from what a stage was made from; none if it can be reused.

        Args:
            record: of the stage, as the manifest holds it.
            before: the recorded digest of the previous stage if that can be reused. A stage made from it remains valid
                even if the digest would be computed differently today.
        """
        used = [(name, digest, self.code_of(name)) for name, digest in record.get("used", {}).items()]
        found: list[Difference] = [(("code", name), old, new) for name, old, new in used if old != new]
        if record["hash"] == self.digest:
            return found
        old = {**record.get("shown", {}), **record["inputs"]}
        new = json.loads(json.dumps({**self.shown, **self.hashed}, default=str))
        told = [each for each in differences(old, new) if not self._is_none(each, before)]
        decisive = [each for each in told if each[0][0] in self.hashed or each[0][0] in record["inputs"]]
        return [*told, *found] if decisive or found else []

    def _is_none(self, difference: Difference, before: str | None) -> bool:
        """Whether a difference can be ignored: the value is new since the stage was made, and has no effect."""
        place, old, new = difference
        if place == ("after",):
            return before is not None and old == before
        if old is ABSENT:
            return place[-1] in _CODE or new == _at(self.defaults, place)
        return new is ABSENT and old in ({}, [])


def differences(old: Any, new: Any, place: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Places at which two trees of plain values differ, with both values; `ABSENT` where one has none."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), (*place, str(key)))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, (*place, str(index)))
    elif old != new:
        yield place, old, new


def _at(tree: Any, place: tuple[str, ...]) -> Any:
    """The value at a place, or `ABSENT`."""
    for key in place:
        if isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, Mapping) and key in tree:
            tree = tree[key]
        else:
            return ABSENT
    return json.loads(json.dumps(tree, default=str))


def worth_telling(found: Sequence[Difference]) -> list[Difference]:
    """Without what follows from the rest: the stage before, and the code of a component that gave way to another."""
    replaced = {place[:-1] for place, _, _ in found if place[-1] == "use"}
    return [each for each in found if each[0] != ("after",) and not (each[0][-1] in _CODE and each[0][:-1] in replaced)]


def in_words(difference: Difference) -> str:
    """One line of a message."""
    place, old, new = difference
    if place[0] == "code":
        return f"  the code of {place[-1]} has changed"
    if set(place) & set(_CODE):
        return f"  {'.'.join(place)}: the code has changed"
    return f"  {'.'.join(place)}: {old!r} there, {new!r} asked for"


def versions_in_words(manifest: Mapping[str, Any], told: list[Difference]) -> str:
    """One sentence with the version that made a run and this one, where the reason may lie between them."""
    made, now = manifest.get("versions", {}).get(DISTRIBUTION), own_version()
    between = any(old is ABSENT or new is ABSENT or set(place) & set(_CODE) for place, old, new in told)
    return f"\nit was made by {DISTRIBUTION} {made}, and this is {now}" if made and (between or made != now) else ""


def own_version() -> str:
    """Of this installation of ddm."""
    return _version(DISTRIBUTION) or "of an unknown version"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """What a run is made with: versions, machine, and the git revision of the current folder if it has one."""
    installed = {package: found for package in _PACKAGES if (found := _version(package))}
    versions = {"python": platform.python_version(), **installed}
    return {"versions": versions, "platform": platform.platform(), "git_revision": git_revision(Path.cwd())}


def git_revision(folder: Path) -> str | None:
    """The commit that is checked out around a folder, read from git's own files.

    The program `git` is not called: it runs what the configuration of a repository tells it to (`core.fsmonitor` and
    others), and the folder may be a stranger's.
    """
    for around in (folder, *folder.parents):
        if is_folder(around / ".git"):
            return _revision(around / ".git")
    return None


def _revision(git: Path) -> str | None:
    """What HEAD names: a commit, or a branch whose commit stands in a file of its own or among the packed ones."""
    head = _line(git / "HEAD")
    branch = head.removeprefix("ref: ")
    if branch == head:
        found = head
    elif ".." in branch or not branch.startswith("refs/"):
        return None
    else:
        packed = (line.split(" ") for line in _text(git / "packed-refs").splitlines())
        found = _line(git / branch) or next((line[0] for line in packed if line[1:] == [branch]), "")
    return found if _REVISION.fullmatch(found) else None


def _line(path: Path) -> str:
    return _text(path).partition("\n")[0].strip()


def _text(path: Path) -> str:
    try:
        return read_text(path, _MOST_OF_GIT)
    except FileError:
        return ""
