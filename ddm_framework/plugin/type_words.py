"""A type as a reader of recipes would say it: `Annotated[int, Field(ge=1)] | None` is `integer ≥ 1, or null`."""

from __future__ import annotations

import ast
from typing import Any

_PLAIN = {
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "str": "text",
    "Path": "path",
    "None": "null",
    "Any": "anything",
    "PositiveInt": "integer ≥ 1",
    "NonNegativeInt": "integer ≥ 0",
    "PositiveFloat": "number > 0",
    "NonNegativeFloat": "number ≥ 0",
    "Fraction": "number ≥ 0 and < 1",
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of", "pattern": "like"}
_LENGTHS = {"min_length": "at least", "max_length": "at most"}


def in_words(annotation: str) -> str:
    """The annotation of an option in words; what is not known to this module stays as it is written."""
    try:
        return _words(ast.parse(annotation, mode="eval").body)
    except SyntaxError:
        return annotation


def as_written(value: Any) -> str:
    """A default as a recipe would write it: `null`, `false`, `data`."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _words(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=value):
            return _PLAIN.get(str(value), str(value))
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _PLAIN.get(name, name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_words(left)}, or {_words(right)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            return " | ".join(f"`{_value(each)}`" for each in _several(values))
        case ast.Subscript(value=ast.Name(id="Union"), slice=kinds):
            return ", or ".join(map(_words, _several(kinds)))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=kind):
            return f"{_words(kind)}, or null"
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *marks])):
            return " ".join([_words(kind), *filter(None, map(_mark, marks))])
        case ast.Subscript(value=ast.Name(id="list"), slice=kind):
            return f"list of {_words(kind)}"
        case ast.Subscript(value=ast.Name(id="dict")):
            return "mapping"
    return ast.unparse(node)


def _mark(node: ast.expr) -> str:
    """The bounds in a `Field(...)`, or the kind of component that a list holds."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name) and node.func.id == "ChoicesOf":
        return f"({_value(node.args[0])}s)"
    bounds = [f"{_BOUNDS[each.arg]} {_value(each.value)}" for each in node.keywords if each.arg in _BOUNDS]
    lengths = [f"{_LENGTHS[each.arg]} {_value(each.value)}" for each in node.keywords if each.arg in _LENGTHS]
    return " ".join(filter(None, [" and ".join(bounds), f"({' and '.join(lengths)})" if lengths else ""]))


def _several(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _value(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)
