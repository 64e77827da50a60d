"""Read a YAML recipe as plain data with the line of every value; it can neither run code nor exhaust the memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddm_framework.errors import Mark, Place, Problem, RecipeError, shown
from ddm_framework.files import FileError, read_text

MAX_BYTES = 100_000
MAX_DEPTH = 20
EMPTY: Mapping[str, Collection[str]] = {}


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

    def overlay(self, other: Source, place: Place = (), lasting: Mapping[str, Collection[str]] = EMPTY) -> None:
        """Merge another tree over this one: mappings key by key, anything else whole.

        Options belong to their component: if `use` names another one, all keys of the section are dropped, except for
        those that `lasting` lists for the section of that name.
        """
        mine, theirs = self.at(place), other.at(place)
        if not (isinstance(mine, dict) and isinstance(theirs, dict)):
            self._take(other, place)
            return
        if "use" in theirs:
            self.choose(place, theirs["use"], lasting)
        self.marks[place], self.folders[place] = other.marks[place], other.folders[place]
        for key in theirs:
            if key in mine:
                self.overlay(other, (*place, key), lasting)
            else:
                self._take(other, (*place, key))

    def choose(self, place: Place, component: Any, lasting: Mapping[str, Collection[str]]) -> None:
        """Drop the options at a place if its component is replaced by another one."""
        section = self.at(place)
        if section.get("use", component) == component:
            return
        kept = lasting.get(str(place[-1]), ()) if place else ()
        for key in [key for key in section if key not in kept]:
            del section[key]
            self._forget((*place, key))

    def at(self, place: Place) -> Any:
        """The value at a place."""
        value = self.value
        for key in place:
            value = value[key]
        return value

    def put(self, place: Place, value: Any, mark: Mark, folder: Path) -> None:
        """Set the value at a place, with one mark for all of it."""
        if place:
            self.at(place[:-1])[place[-1]] = value
        else:
            self.value = value
        self._forget(place)
        self.marks[place], self.folders[place] = mark, folder

    def _take(self, other: Source, place: Place) -> None:
        """Replace the value at a place, and all marks within, by those of another tree."""
        self.put(place, other.at(place), other.marks[place], other.folders[place])
        for known in other.marks:
            if known[: len(place)] == place:
                self.marks[known], self.folders[known] = other.marks[known], other.folders[known]

    def _forget(self, place: Place) -> None:
        for known in [each for each in self.marks if each[: len(place)] == place]:
            del self.marks[known]
            self.folders.pop(known, None)


def read_source(path: Path) -> Source:
    """Read one file.

    Raises:
        RecipeError: for a missing, unreadable or too large file, bad YAML, duplicate keys, aliases, tags of lists and
            mappings, or too deep nesting.
    """
    try:
        text = read_text(path, MAX_BYTES)
    except FileError as error:
        raise _error(f"cannot read the recipe: {error.reason}", path) from None
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

    def mark(where: Any) -> Mark:
        return Mark(file, where.line + 1 if has_lines else None)

    try:
        _refuse_tricks(text, mark)
        node = yaml.compose(text, Loader=_Scalars)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        reason = ", ".join(each for each in (error.context, error.problem) if each)
        raise RecipeError([Problem(f"not valid YAML: {reason}", mark(where) if where else Mark(file))]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if has_lines else None
        reason = f"not valid YAML: character #x{error.character:04x}"
        raise RecipeError([Problem(reason, Mark(file, line))]) from None
    if node is None:
        return Source({}, {(): Mark(file, 1 if has_lines else None)}, {(): folder})
    source = Source(None)
    problems: list[Problem] = []
    source.value = _build(node, (), source, problems, mark, folder)
    if problems:
        raise RecipeError(problems)
    return source


def _refuse_tricks(text: str, mark: Callable[[Any], Mark]) -> None:
    """Refuse aliases, which can make a small file huge, and deep nesting, which exhausts the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecipeError([Problem("nested too deeply for a recipe", mark(event.start_mark))])
        if isinstance(event, yaml.AliasEvent):
            message = "aliases (*name) are not allowed in a recipe; use `extends:` to share"
            raise RecipeError([Problem(message, mark(event.start_mark))])


def _build(
    node: yaml.Node, place: Place, source: Source, problems: list[Problem], mark: Callable[[Any], Mark], folder: Path
) -> Any:
    """Plain values of a YAML node, recording marks on the way."""
    source.marks[place] = mark(node.start_mark)
    source.folders[place] = folder
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, problems, source.marks[place])
    if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
        problems.append(Problem(f"a tag such as {node.tag!r} is not allowed in a recipe", source.marks[place]))
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(child, (*place, index), source, problems, mark, folder) for index, child in enumerate(node.value)
        ]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        where = mark(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
            problems.append(Problem("a key must be a plain word", where))
            continue
        key = str(key_node.value)
        if key in mapping:
            line = source.marks[(*place, key)].line
            first = f" (first at line {line})" if line else ""
            problems.append(Problem(f"key {key!r} occurs twice{first}", where))
            continue
        mapping[key] = _build(value_node, (*place, key), source, problems, mark, folder)
        source.marks[(*place, key)] = where
    return mapping


def _scalar(node: yaml.ScalarNode, problems: list[Problem], mark: Mark) -> Any:
    try:
        return _SCALARS.construct_object(node)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError):
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        problems.append(Problem(f"{shown(node.value)} cannot be read as a plain value of the kind {kind!r}", mark))
        return None


class _Scalars(yaml.SafeLoader):
    """SafeLoader with numbers as people write them: `5e-4` is a float (YAML 1.1 wants `5.0e-4`)."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Scalars` reads back: text that looks like one of its numbers is put in quotes."""


for _class in (_Scalars, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )
_SCALARS = _Scalars("")


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quote text with a next-line character, which PyYAML would otherwise write unescaped and read as a space."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _represent_text)


def write(value: Any) -> str:
    """YAML text that `parse` reads back as the same plain values."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _error(message: str, path: Path) -> RecipeError:
    return RecipeError([Problem(message, Mark(str(path)))])
