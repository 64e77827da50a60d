"""Types of options as a reader of recipes would say them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import pytest
from annotated_types import Ge
from plugin_sites import REGISTRY
from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, Strict

from ddm_framework.plugin.choice import Choice, Grid
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.signatures import ComponentOf, read_signature
from ddm_framework.plugin.type_words import as_written, in_words

Count = Annotated[int, Field(ge=1)]
Seconds = NewType("Seconds", float)


class Spans(BaseModel):
    """A mapping in a recipe."""


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "integer"),
        (bool, "true or false"),
        (Any, "anything"),
        (None, "null"),
        (Path | None, "path, or null"),
        (Annotated[int, Field(ge=1)] | None, "integer ≥ 1, or null"),
        (Count, "integer ≥ 1"),
        (PositiveInt, "integer ≥ 1"),
        (NonNegativeInt, "integer ≥ 0"),
        (PositiveFloat, "number > 0"),
        (Annotated[int, Ge(2), Strict()], "integer ≥ 2"),
        (Annotated[float, Field(ge=0, lt=1)], "number ≥ 0 and < 1"),
        (Annotated[int, Field(multiple_of=8)], "integer a multiple of 8"),
        (Annotated[str, Field(pattern="^a")], "text like ^a"),
        (Literal["max", "average"], "`max` | `average`"),
        (Literal[True, 3], "`true` | `3`"),
        (Annotated[list[Count], Field(min_length=1)], "list of integer ≥ 1 (at least 1)"),
        (Annotated[list[Count], AfterValidator(sorted)], "list of integer ≥ 1"),
        (list[Literal["a", "b"]], "list of `a` | `b`"),
        (tuple[float, ...], "list of number"),
        (tuple[int, int], "list of 2: integer, integer"),
        (Sequence[int], "list of integer"),
        (list, "list"),
        (dict[str, tuple[int, int]], "mapping"),
        (Spans, "mapping"),
        (Seconds, "number"),
        (Literal["all"] | int, "`all`, or integer"),
        (Annotated[Choice, ComponentOf("objective")], "objective"),
        (Annotated[Choice | None, ComponentOf("objective")], "objective, or null"),
        (Annotated[list[Choice], ComponentOf("study")], "list of studies"),
        (Annotated[list[Grid], ComponentOf("attributor"), Field(min_length=2)], "list of attributors (at least 2)"),
    ],
)
def test_in_words(hint: Any, words: str) -> None:
    assert in_words(hint) == words


def test_defaults_are_written_as_in_a_recipe() -> None:
    values = (None, False, Path("data"), 0.1, [1], [{"use": "ddm", "steps": (1, None)}])
    assert [as_written(value) for value in values] == [
        "null",
        "false",
        "data",
        "0.1",
        "[1]",
        "[{use: ddm, steps: [1, null]}]",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_alias_of_an_author_is_shown(kind: str) -> None:
    known = {"integer", "number", "text", "path", "null", "mapping", "list", "of", "or", "true", "false", "anything"}
    known |= {"a", "multiple", "at", "least", "most", "and", *KINDS, *(f"{each}s" for each in KINDS)}
    for registered in REGISTRY.components(kind):
        for option in read_signature(registered.load(), kind, "it").options:
            words = in_words(option.hint)
            plain = " ".join(part for place, part in enumerate(words.split("`")) if place % 2 == 0)
            unknown = set(plain.replace(",", " ").replace("(", " ").replace(")", " ").split()) - known
            assert not {each for each in unknown if each[0].isalpha()}, f"{registered.who}, {option.name}: {words}"
