"""Types of options as a reader of recipes would say them."""

from pathlib import Path

import pytest

from ddm_framework.plugin.type_words import as_written, in_words


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("int", "integer"),
        ("bool", "true or false"),
        ("Path | None", "path, or null"),
        ("Annotated[int, Field(ge=1)] | None", "integer ≥ 1, or null"),
        ("Annotated[float, Field(ge=0, lt=1)]", "number ≥ 0 and < 1"),
        ("Literal['max', 'average']", "`max` | `average`"),
        ("Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]", "list of integer ≥ 1 (at least 1)"),
        ("Annotated[list[dict[str, Any]], ChoicesOf('attributor')]", "list of mapping (attributors)"),
        ("Union[Literal['all'], int]", "`all`, or integer"),
        ("Optional[int]", "integer, or null"),
        ("Count", "Count"),
        ("not a type", "not a type"),
    ],
)
def test_in_words(annotation: str, words: str) -> None:
    assert in_words(annotation) == words


def test_defaults_are_written_as_in_a_recipe() -> None:
    assert [as_written(value) for value in (None, False, Path("data"), 0.1, [1])] == [
        "null",
        "false",
        "data",
        "0.1",
        "[1]",
    ]
