"""YAML is read as data with the line of every value, and nothing in it can run code or explode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddm_framework.errors import Mark, RecipeError
from ddm_framework.recipe.yaml_source import MAX_BYTES, MAX_DEPTH, Source, parse, read_source, write

HERE = Path("/recipes")


def read(text: str) -> Source:
    return parse(text, "r.yaml", HERE)


def told(text: str, has_lines: bool = True) -> list[str]:
    """The problems of a text."""
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml", HERE, has_lines)
    return [str(problem) for problem in caught.value.problems]


def test_every_value_has_the_line_of_its_key() -> None:
    source = read("a: 1\nb:\n  c: 2\n\n  d: [x,\n    y]\n")
    assert source.value == {"a": 1, "b": {"c": 2, "d": ["x", "y"]}}
    lines = {place: mark.line for place, mark in source.marks.items()}
    assert lines == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "d"): 5,
        ("b", "d", 0): 5,
        ("b", "d", 1): 6,
    }
    assert set(source.folders.values()) == {HERE}


def test_a_place_without_a_mark_has_that_of_what_is_around_it() -> None:
    source = read("a:\n  b: 1\n")
    assert source.mark(("a", "b", "c", 0)) == Mark("r.yaml", 2)
    assert source.mark(("z",)) == Mark("r.yaml", 1)
    assert source.folder(("z",)) == HERE


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_an_empty_file_is_an_empty_mapping_on_line_one(text: str) -> None:
    source = read(text)
    assert source.value == {}
    assert source.mark(("anything",)) == Mark("r.yaml", 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5e-4", 0.0005),
        ("-2E+3", -2000.0),
        ("1.5e3", 1500.0),
        ("1.e2", 100.0),
        (".5e3", 500.0),
        ("1_0e2", 1000.0),
        ("5.0e-4", 0.0005),
        ("0.05", 0.05),
        ("10", 10),
        ("1e", "1e"),
        ("e3", "e3"),
        ("1e-3x", "1e-3x"),
        ("'1e-3'", "1e-3"),
        (".e3", ".e3"),
        ("true", True),
        ("null", None),
        ("1e-3-model", "1e-3-model"),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: Any) -> None:
    found = read(f"x: {text}").value["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: [1\n", "r.yaml:3: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got "),
        (
            "a: {b: 1\nc: 2\n",
            "r.yaml:2: not valid YAML: while parsing a flow mapping, expected ',' or '}', but got ':'",
        ),
        ("a: 1\n b: 2\n", "r.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", "r.yaml:2: not valid YAML: while scanning for the next token, found character '\\t' that "),
        ("a: 'b\n", "r.yaml:2: not valid YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: not valid YAML: expected a single document in the stream, but found another "),
        ("a: 1\nb: \x00\n", "r.yaml:2: not valid YAML: character #x0000"),
        ("a: @b\n", "r.yaml:1: not valid YAML: while scanning for the next token, found character '@' that cannot "),
        ("a: &x [1]\nb: *x\n", "r.yaml:2: aliases (*name) are not allowed in a recipe; use `extends:` to share"),
        ("a: *x\n", "r.yaml:1: aliases (*name) are not allowed in a recipe; use `extends:` to share"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "r.yaml:3: aliases (*name) are not allowed in a recipe; use `extends:` to "),
        ("a:\n  <<: {b: 1}\n", "r.yaml:2: a key must be a plain word"),
        ("a: 1\n? [b, c]\n: 2\n", "r.yaml:2: a key must be a plain word"),
        ("a: 1\nb: 2\na: 3\n", "r.yaml:3: key 'a' occurs twice (first at line 1)"),
        ("a: {b: 1,\n b: 2}\n", "r.yaml:2: key 'b' occurs twice (first at line 1)"),
        ("1: a\n'1': b\n", "r.yaml:2: key '1' occurs twice (first at line 1)"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "r.yaml:1: a tag such as 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed in a recipe",
        ),
        ("a: !!set {b}\n", "r.yaml:1: a tag such as 'tag:yaml.org,2002:set' is not allowed in a recipe"),
        ("a: !mine {b: 1}\n", "r.yaml:1: a tag such as '!mine' is not allowed in a recipe"),
        ("a: !!python/name:os.system\n", "r.yaml:1: '' cannot be read as a plain value of the kind 'python/name:os."),
        ("a:\n  b: !!bool x\n", "r.yaml:2: 'x' cannot be read as a plain value of the kind 'bool'"),
        ("a: !!int ''\n", "r.yaml:1: '' cannot be read as a plain value of the kind 'int'"),
        ("a: !!timestamp x\n", "r.yaml:1: 'x' cannot be read as a plain value of the kind 'timestamp'"),
        ("a: 2020-13-45\n", "r.yaml:1: '2020-13-45' cannot be read as a plain value of the kind 'timestamp'"),
        (f"a: {'9' * 5000}\n", f"r.yaml:1: '{'9' * 76}... cannot be read as a plain value of the kind 'int'"),
    ],
)
def test_what_is_no_plain_data_is_told_with_its_line(text: str, problem: str) -> None:
    (found,) = told(text)
    assert found.startswith(problem)


def test_all_problems_of_a_file_are_told_at_once() -> None:
    assert told("a: 1\na: 2\n? [b]\n: 1\nc: !!bool x\n") == [
        "r.yaml:2: key 'a' occurs twice (first at line 1)",
        "r.yaml:3: a key must be a plain word",
        "r.yaml:5: 'x' cannot be read as a plain value of the kind 'bool'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{a: 1, a: 2}", "r.yaml: key 'a' occurs twice"),
        ("{[a]: 1}", "r.yaml: a key must be a plain word"),
        ("[1", "r.yaml: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("\x00", "r.yaml: not valid YAML: character #x0000"),
        ("*a", "r.yaml: aliases (*name) are not allowed in a recipe; use `extends:` to share"),
    ],
)
def test_lines_are_left_out_where_they_mean_nothing(text: str, problem: str) -> None:
    assert told(text, has_lines=False) == [problem]


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    assert told(bomb) == ["r.yaml:2: aliases (*name) are not allowed in a recipe; use `extends:` to share"]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_deep_nesting_is_refused_whether_closed_or_not(opening: str, closing: str) -> None:
    assert told("x:\n" + " " + opening * 5000) == ["r.yaml:2: nested too deeply for a recipe"]
    assert told(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1)) == [
        "r.yaml:1: nested too deeply for a recipe"
    ]
    assert read(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH).value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"seed: 0 # \xff\n", "cannot read the recipe: it is not UTF-8 text"),
        ("seed: 0\n".encode("utf-16"), "cannot read the recipe: it is not UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), f"cannot read the recipe: it is larger than {MAX_BYTES:,} bytes"),
        (None, "cannot read the recipe: there is no such file"),
    ],
)
def test_files_that_are_no_text_of_a_page_are_told(content: bytes | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_source(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe: it is a folder, not a file"):
        read_source(tmp_path)


def test_a_file_is_read_with_its_name_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_bytes("\ufeffname: größe\r\nseed: 1\r\n".encode())
    source = read_source(Path("r.yaml"))
    assert source.value == {"name": "größe", "seed": 1}
    assert source.mark(("seed",)) == Mark("r.yaml", 2)
    assert source.folder(("seed",)) == tmp_path


def test_another_tree_lies_over_this_one_key_by_key() -> None:
    base = parse("a: {x: 1, y: 2}\nb: [1, 2]\nc: 3\n", "base.yaml", Path("/base"))
    base.overlay(parse("\na: {y: 5}\nb: [7]\nd: {z: 1}\n", "mine.yaml", Path("/mine")))
    assert base.value == {"a": {"x": 1, "y": 5}, "b": [7], "c": 3, "d": {"z": 1}}
    assert {str(base.mark(place)) for place in [("a", "y"), ("b", 0), ("d", "z")]} == {
        "mine.yaml:2",
        "mine.yaml:3",
        "mine.yaml:4",
    }
    assert str(base.mark(("a", "x"))) == "base.yaml:1"
    assert (base.folder(("a", "x")), base.folder(("a", "y"))) == (Path("/base"), Path("/mine"))
    assert str(base.mark(("b", 1))) == "mine.yaml:3"


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ("{use: a, x: 1}", "{use: b}", {"use": "b"}),
        ("{use: a, x: 1}", "{use: b, y: 2}", {"use": "b", "y": 2}),
        ("{use: a, x: 1}", "{use: a, y: 2}", {"use": "a", "x": 1, "y": 2}),
        ("{use: a, x: 1}", "{y: 2}", {"use": "a", "x": 1, "y": 2}),
        ("{x: 1}", "{use: b}", {"x": 1, "use": "b"}),
        ("{use: a, x: {y: 1}}", "3", 3),
        ("3", "{use: a}", {"use": "a"}),
    ],
)
def test_options_stay_only_with_their_component(base: str, over: str, merged: Any) -> None:
    source = read(f"s: {base}")
    source.overlay(read(f"s: {over}"))
    assert source.value == {"s": merged}


def test_a_value_put_in_replaces_what_was_there_with_one_mark() -> None:
    source = read("a: {x: {y: 1}}\n")
    source.put(("a", "x"), {"y": 2, "z": 3}, Mark("--set a.x"), Path("/now"))
    assert source.value == {"a": {"x": {"y": 2, "z": 3}}}
    assert str(source.mark(("a", "x", "y"))) == "--set a.x"
    assert source.folder(("a", "x", "z")) == Path("/now")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.from_regex(r"[-+.0-9eE_]+"),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text("abc=<1", min_size=1), children, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(st.text("abc", min_size=1), plain, max_size=3))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert read(write(value)).value == value


@pytest.mark.parametrize(
    "text", ["1e-3", "5E4", ".5e3", "=", "<<", "null", "~", "0x1f", "1:30", "yes", "2020-01-01", "*a"]
)
def test_text_that_looks_like_something_else_is_read_back_as_text(text: str) -> None:
    assert read(write({"x": [text]})).value == {"x": [text]}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.text("ab: -[]{},&*!#\n\t'\"|>%@?1e", max_size=60))
def test_any_text_is_plain_data_or_a_problem(text: str) -> None:
    try:
        parse(text, "r.yaml", HERE)
    except RecipeError as error:
        assert error.problems
        assert all(str(problem).startswith("r.yaml:") for problem in error.problems)
