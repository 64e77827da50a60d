"""A component and its options come in by one door: text as paths, lists as tuples, components as options, grids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_sites import RECIPE, REGISTRY, Site, hooks, swap

from ddm_framework import DDMError, RecipeError, use
from ddm_framework.plugin.choice import Choice, Grid, plain
from ddm_framework.plugin.choosing import choose, choose_grid
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.plugin.registry import Registry
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.yaml_source import parse, write

HEAD = """\
from pathlib import Path
from typing import Annotated, Any, Literal

from ddm_framework import Choice, ComponentOf, Grid, Report, use
"""
BODY = """\
yield Component("drawn", "fake_parts:drawn")
    yield Component("contrast", "fake_parts:contrast")


@hookimpl
def ddm_register_studies():
    yield Component("several", "fake_parts:several")
    yield Component("grids", "fake_parts:grids")


def drawn(a, b, /, *, file: Path | None = None, shape: tuple[int, int] = (1, 2), names: tuple[Path, ...] = (),
          sizes: list[int] | None = None, mode: Literal["auto"] | Path = "auto", scale: float = 1.0):
    return a


def contrast(a, b, /, *, of: Annotated[Choice, ComponentOf("objective")] = use("margin"),
             against: Annotated[Choice | None, ComponentOf("objective")] = None):
    return of(a, b)


def several(a, /, *, parts: Annotated[list[Choice], ComponentOf("objective")] = [use("drawn")]):
    return parts


def grids(a, /, *, parts: Annotated[list[Grid], ComponentOf("objective")] = [use("drawn")]):
    return parts
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.chdir(tmp_path)
    with Site(tmp_path / "site") as site:
        site.add("fake_parts", HEAD + hooks(BODY))
        yield load_plugins()


def test_text_is_a_path_and_a_list_a_tuple_wherever_the_type_says_so(registry: Registry, tmp_path: Path) -> None:
    given = {"file": "a.bin", "shape": [3, 4], "names": ["x", "../y"], "sizes": [5], "scale": 2}
    options = choose(registry, "objective", "drawn", given, tmp_path / "deep").options
    assert options == {
        "file": tmp_path / "deep" / "a.bin",
        "shape": (3, 4),
        "names": (tmp_path / "deep" / "x", tmp_path / "y"),
        "sizes": [5],
        "mode": "auto",
        "scale": 2.0,
    }
    assert choose(registry, "objective", "drawn", {"mode": "b.txt"}).options["mode"] == tmp_path / "b.txt"


def test_what_python_gives_is_taken_as_it_is(registry: Registry, tmp_path: Path) -> None:
    given = {"file": tmp_path / "a", "shape": (3, 4), "names": (Path("x"),)}
    options = choose(registry, "objective", "drawn", given).options
    assert (options["file"], options["shape"], options["names"]) == (tmp_path / "a", (3, 4), (tmp_path / "x",))


def test_a_listed_component_takes_a_path_and_a_tuple(registry: Registry, tmp_path: Path) -> None:
    study = "study: {use: several, parts: [{use: drawn, file: w.pth, shape: [5, 6]}, {use: drawn}]}"
    (tmp_path / "r.yaml").write_text(swap("study: {use: attribution, queries: all}", study))
    first, second = load_recipe("r.yaml", registry).study(None)
    assert isinstance(first, Choice)
    assert (first.options["file"], first.options["shape"]) == (tmp_path / "w.pth", (5, 6))
    assert first(7, None) == 7
    assert (second.options["file"], second.options["shape"], second.given) == (None, (1, 2), {})


def test_the_built_in_study_takes_a_checkpoint_of_a_listed_backbone(tmp_path: Path) -> None:
    study = "study: {use: architectures, backbones: [{use: convnet}, {use: timm, model: resnet18, checkpoint: w.pth}]}"
    (tmp_path / "r.yaml").write_text(swap("study: {use: attribution, queries: all}", study))
    recipe = load_recipe(str(tmp_path / "r.yaml"), REGISTRY)
    assert recipe.study.options["backbones"][1].options["checkpoint"] == tmp_path / "w.pth"


def test_a_component_is_an_option_of_another(registry: Registry, tmp_path: Path) -> None:
    written = "objectives: [{use: contrast, of: {use: drawn, file: a, shape: [1, 1]}}]"
    (tmp_path / "r.yaml").write_text(swap("objectives: [{use: output_shift}]", written))
    (choice,) = load_recipe("r.yaml", registry).objectives
    inner = choice.options["of"]
    assert isinstance(inner, Choice)
    assert (inner.kind, inner.name, inner.options["file"]) == ("objective", "drawn", tmp_path / "a")
    assert choice(3, None) == 3
    assert [each.name for each in choice.inner()] == ["contrast", "drawn"]


def test_a_default_component_is_chosen_too_and_one_may_be_left_out(registry: Registry) -> None:
    options = choose(registry, "objective", "contrast").options
    assert options["of"] == choose(registry, "objective", "margin")
    assert options["against"] is None


def test_a_choice_may_be_given_where_a_component_is_an_option(registry: Registry) -> None:
    margin = choose(registry, "objective", "margin")
    assert choose(registry, "objective", "contrast", {"of": margin}).options["of"] is margin
    with pytest.raises(DDMError, match="objective: write"):
        choose(registry, "objective", "contrast", {"of": choose(registry, "distance", "cosine")})


def test_what_is_written_is_read_back(registry: Registry, tmp_path: Path) -> None:
    study = "study: {use: grids, parts: [{use: drawn, scale: [1, 2], shape: [3, 4], file: a}]}"
    objective = "objectives: [{use: contrast, of: {use: drawn, file: b}}]"
    text = swap("study: {use: attribution, queries: all}", study).replace(
        "objectives: [{use: output_shift}]", objective
    )
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe("r.yaml", registry)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "r.yaml").write_text(recipe.as_yaml())
    again = load_recipe("deep/r.yaml", registry)
    assert again == recipe
    assert plain(again.study) == plain(recipe.study)
    assert parse(write(recipe.as_dict()), "r.yaml", tmp_path).value == recipe.as_dict()


def test_a_list_of_values_is_tried_and_one_that_fits_as_it_is_is_not(registry: Registry) -> None:
    grid = choose_grid(registry, "objective", "drawn", {"scale": [0.5, 2], "shape": [3, 4], "sizes": [7, 8]})
    assert isinstance(grid, Grid)
    assert [(each.options["scale"], each.options["shape"], each.options["sizes"]) for each in grid.choices] == [
        (0.5, (3, 4), [7, 8]),
        (2.0, (3, 4), [7, 8]),
    ]
    assert grid.as_dict() == {"use": "drawn", "scale": [0.5, 2], "shape": [3, 4], "sizes": [7, 8]}
    assert [each.given["scale"] for each in grid.choices] == [0.5, 2]


def test_a_grid_of_two_options_is_all_their_combinations(registry: Registry) -> None:
    grid = choose_grid(registry, "objective", "drawn", {"scale": [1, 2], "shape": [[1, 2], [3, 4], [5, 6]]})
    assert [(each.options["scale"], each.options["shape"]) for each in grid.choices] == [
        (scale, shape) for scale in (1.0, 2.0) for shape in ((1, 2), (3, 4), (5, 6))
    ]


@pytest.mark.parametrize(
    ("study", "place", "message"),
    [
        ("{use: several, parts: [{use: drawn, scale: a}]}", 13, "scale: input should be a valid number, found 'a'"),
        ("{use: several, parts: [{use: drawn, scale: [1, 2]}]}", 13, "scale: input should be a valid number, found"),
        ("{use: several, parts: [{use: drwn}]}", 13, "unknown objective 'drwn'; did you mean 'drawn'?"),
        ("{use: several, parts: [drawn]}", 13, "objective: write {use: name, option: value}, found 'drawn'"),
        ("{use: several, parts: {use: drawn}}", 13, "parts: input should be a valid list"),
        ("{use: several, parts: drawn}", 13, "objective: write {use: name, option: value}, found 'drawn'"),
        ("{use: grids, parts: [{use: drawn, scale: [1, a]}]}", 13, "scale: input should be a valid number, found 'a'"),
        ("{use: grids, parts: [{use: drawn, scale: []}]}", 13, "scale: input should be a valid number, found []"),
        ("{use: grids, parts: [{use: drawn, colour: 1}]}", 13, "objective 'drawn' has no option 'colour'"),
        ("{use: grids, parts: [{use: drawn, shape: [1, 2, 3]}]}", 13, "shape: input should be a valid tuple, found 1"),
    ],
)
def test_what_is_wrong_with_a_listed_component_is_told_at_its_line(
    registry: Registry, tmp_path: Path, study: str, place: int, message: str
) -> None:
    text = RECIPE.replace("study: {use: attribution, queries: all}", f"study:\n  {study}\n")
    line = next(n for n, each in enumerate(text.splitlines(), 1) if each.strip().startswith(study[:8]))
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", registry)
    assert f"r.yaml:{line}: {message}" in str(caught.value)
    assert len(caught.value.problems) == len({str(each) for each in caught.value.problems})


def test_every_fault_of_an_inner_component_is_told_from_python(registry: Registry) -> None:
    given: dict[str, Any] = {"of": use("drawn", shape=[1], scale="x"), "against": use("nothing")}
    with pytest.raises(DDMError) as caught:
        choose(registry, "objective", "contrast", given)
    told = str(caught.value)
    assert "scale: input should be a valid number, found 'x'; `ddm show objective drawn` explains them" in told
    assert "unknown objective 'nothing'" in told
    assert "shape" in told


def test_conformance_and_recipes_choose_alike(registry: Registry) -> None:
    from ddm_framework.testing.subject import subjects

    (subject,) = [each for each in subjects(registry, kind="objective", plugin="fake-parts") if each.name == "drawn"]
    assert subject.with_options(file="a", shape=[1, 1]) == choose(
        registry, "objective", "drawn", {"file": "a", "shape": [1, 1]}
    )
