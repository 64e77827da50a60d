"""Read a YAML recipe as data, remembering the line of every value; nothing in it can run code or explode."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddm_framework.errors import Mark, Problem, RecipeError

MAX_BYTES = 1_000_000
Place = tuple[str | int, ...]


@dataclass(slots=True)
class Source:
    """A tree of plain values, and for every place in it the mark and the folder that relative paths start from."""

    value: Any
    marks: dict[Place, Mark] = field(default_factory=dict)
    folders: dict[Place, Path] = field(default_factory=dict)

    def mark(self, place: Place) -> Mark | None:
        """The mark of a place, or of the nearest place around it."""
        return next((self.marks[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.marks), None)

    def folder(self, place: Place) -> Path:
        """The folder that a relative path at this place starts from."""
        around = (self.folders[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self.folders)
        return next(around, Path.cwd())

    def overlay(self, other: Source, place: Place = ()) -> None:
        """Merge another tree over this one: mappings key by key, anything else whole."""
        mine, theirs = self.at(place), other.at(place)
        if isinstance(mine, dict) and isinstance(theirs, dict) and _same_component(mine, theirs):
            self._copy_marks(other, place, deep=False)
            for key in theirs:
                if key in mine:
                    self.overlay(other, (*place, key))
                else:
                    mine[key] = theirs[key]
                    self._copy_marks(other, (*place, key), deep=True)
            return
        self._replace(place, theirs)
        self._copy_marks(other, place, deep=True)

    def at(self, place: Place) -> Any:
        """The value at a place."""
        value = self.value
        for key in place:
            value = value[key]
        return value

    def put(self, place: Place, value: Any, mark: Mark, folder: Path) -> None:
        """Set the value at a place, with one mark for all of it."""
        self._replace(place, value)
        self.marks[place], self.folders[place] = mark, folder

    def _replace(self, place: Place, value: Any) -> None:
        if place:
            self.at(place[:-1])[place[-1]] = value
        else:
            self.value = value
        for known in [each for each in self.marks if each[: len(place)] == place]:
            del self.marks[known]
            self.folders.pop(known, None)

    def _copy_marks(self, other: Source, place: Place, *, deep: bool) -> None:
        for known in other.marks:
            if known == place or (deep and known[: len(place)] == place):
                self.marks[known] = other.marks[known]
                self.folders[known] = other.folders[known]


def _same_component(mine: dict[Any, Any], theirs: dict[Any, Any]) -> bool:
    """Options belong to their component: `use` of another component starts its section anew."""
    return "use" not in theirs or mine.get("use", theirs["use"]) == theirs["use"]


def read_source(path: Path) -> Source:
    """Read one file.

    Raises:
        RecipeError: for a missing, unreadable or too large file, bad YAML, duplicate keys, or aliases.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _error(f"the file is larger than {MAX_BYTES:,} bytes; a recipe is a page of text", path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise _error(f"cannot read the recipe: {reason}", path) from None
    return parse(text, str(path), path.resolve().parent)


def parse(text: str, file: str, folder: Path, has_lines: bool = True) -> Source:
    """Parse YAML text.

    Args:
        text: the YAML.
        file: how to name the source in a mark.
        folder: where relative paths start.
        has_lines: whether its line numbers mean anything to the user (not in `--set`).
    Raises:
        RecipeError: as `read_source`.
    """
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                where = Mark(file, event.start_mark.line + 1 if has_lines else None)
                raise RecipeError(
                    [Problem("aliases (*name) are not allowed in a recipe; use `extends:` to share", where)]
                )
        node = yaml.compose(text, Loader=_Scalars)
        source = Source(None)
        problems: list[Problem] = []
        source.value = _build(node, (), source, problems, file, folder, has_lines) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Mark(file, mark.line + 1 if mark and has_lines else None)
        raise RecipeError([Problem(f"not valid YAML: {error.problem or error.context}", where)]) from None
    except yaml.YAMLError as error:
        raise RecipeError([Problem(f"not valid YAML: {' '.join(str(error).split())}", Mark(file))]) from None
    except RecursionError:
        raise RecipeError([Problem("nested too deeply for a recipe", Mark(file))]) from None
    if problems:
        raise RecipeError(problems)
    return source


def _build(
    node: yaml.Node, place: Place, source: Source, problems: list[Problem], file: str, folder: Path, lines: bool
) -> Any:
    """Plain values of a YAML node, recording marks on the way."""
    source.marks[place] = Mark(file, node.start_mark.line + 1 if lines else None)
    source.folders[place] = folder
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key, key_node, value_node in _pairs(node, problems, file):
            if key in mapping:
                first = source.marks[(*place, key)]
                problems.append(
                    Problem(
                        f"key {key!r} stands twice (first at line {first.line})",
                        Mark(file, key_node.start_mark.line + 1),
                    )
                )
                continue
            mapping[key] = _build(value_node, (*place, key), source, problems, file, folder, lines)
            source.marks[(*place, key)] = Mark(file, key_node.start_mark.line + 1 if lines else None)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(child, (*place, index), source, problems, file, folder, lines)
            for index, child in enumerate(node.value)
        ]
    try:
        return _SCALARS.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        text = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
        problems.append(Problem(f"not a plain value: {text}", source.marks[place]))
        return None


def _pairs(node: yaml.MappingNode, problems: list[Problem], file: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    for key_node, value_node in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
            yield str(key_node.value), key_node, value_node
        else:
            problems.append(Problem("a key must be a plain word", Mark(file, key_node.start_mark.line + 1)))


class _Scalars(yaml.SafeLoader):
    """SafeLoader with numbers as people write them: `5e-4` is a float (YAML 1.1 wants `5.0e-4`)."""


_Scalars.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)
_SCALARS = _Scalars("")


def _error(message: str, path: Path) -> RecipeError:
    return RecipeError([Problem(message, Mark(str(path)))])
