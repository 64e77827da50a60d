"""A function's signature is the schema of its options: read, refused with a reason, and strictly applied."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from plugin_sites import REGISTRY
from pydantic import Field

from ddm_framework.errors import PluginError
from ddm_framework.plugin.choosing import choose
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.registry import Registered
from ddm_framework.plugin.signatures import NUM_CORE_ARGUMENTS, Signature, read_signature

COMPONENTS = [registered for kind in KINDS for registered in REGISTRY.components(kind)]


def distance(
    synthetic: Undefined,  # type: ignore[name-defined] # noqa: F821 - types of the core's arguments are not looked up
    target: Undefined,  # type: ignore[name-defined] # noqa: F821
    /,
    *,
    eps: Annotated[float, Field(gt=0)] = 1e-8,
    power: int = 2,
    name: str | None = None,
    reduce: Literal["mean", "sum"] = "mean",
    weights: list[float] | None = None,
    shape: tuple[int, ...] = (1, 2),
    spans: dict[str, tuple[int, int]] | None = None,
    file: Path | None = None,
    files: list[Path] = [],  # noqa: B006
    extra: Any = None,
) -> None:
    """Options of many types."""


def read(function: Callable[..., Any], kind: str = "distance") -> Signature:
    return read_signature(function, kind, "distance 'mine' of plugin p")


SIGNATURE = read(distance)


def test_options_are_read_in_order_as_written_with_their_defaults() -> None:
    assert [(option.name, option.hint) for option in SIGNATURE.options][1:4] == [
        ("power", int),
        ("name", str | None),
        ("reduce", Literal["mean", "sum"]),
    ]
    assert SIGNATURE.defaults()["eps"] == 1e-8
    assert SIGNATURE.defaults()["shape"] == (1, 2)
    assert tuple(SIGNATURE.defaults()) == SIGNATURE.names
    assert {option.name for option in SIGNATURE.options if option.takes_path} == {"file", "files"}


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        ({}, {"eps": 1e-8, "reduce": "mean", "shape": (1, 2), "extra": None}),
        ({"eps": 2}, {"eps": 2.0}),
        ({"name": "a", "reduce": "sum"}, {"name": "a", "reduce": "sum"}),
        ({"weights": [1, 0.5]}, {"weights": [1.0, 0.5]}),
        ({"shape": [3, 4, 5]}, {"shape": (3, 4, 5)}),
        ({"spans": {"a": [1, 2]}}, {"spans": {"a": (1, 2)}}),
        ({"file": Path("a"), "files": [Path("b")]}, {"file": Path("a"), "files": [Path("b")]}),
        ({"extra": {"anything": [1, "a", None]}}, {"extra": {"anything": [1, "a", None]}}),
    ],
)
def test_values_as_a_recipe_gives_them_fill_the_options(values: dict[str, Any], filled: dict[str, Any]) -> None:
    model, problems = SIGNATURE.validated(values, "distance 'mine'")
    assert problems == []
    assert {name: getattr(model, name) for name in filled} == filled
    assert type(model.eps) is float  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("eps", 0, "eps: input should be greater than 0, found 0"),
        ("eps", math.nan, "eps: input should be a finite number, found nan"),
        ("eps", "1e-3", "eps: input should be a valid number, found '1e-3'"),
        ("eps", True, "eps: input should be a valid number, found True"),
        ("power", 2.0, "power: input should be a valid integer, found 2.0"),
        ("power", "2", "power: input should be a valid integer, found '2'"),
        ("power", True, "power: input should be a valid integer, found True"),
        ("power", None, "power: input should be a valid integer, found None"),
        ("name", 1, "name: input should be a valid string, found 1"),
        ("reduce", "max", "reduce: input should be 'mean' or 'sum', found 'max'"),
        ("weights", 1.0, "weights: input should be a valid list, found 1.0"),
        ("weights", [1.0, "a"], "weights: input should be a valid number, found [1.0, 'a']"),
        ("shape", [1, "2"], "shape: input should be a valid integer, found [1, '2']"),
        ("shape", [1.0], "shape: input should be a valid integer, found [1.0]"),
        ("shape", 3, "shape: input should be a valid tuple, found 3"),
        ("file", 3, "file: input should be an instance of Path, found 3"),
        ("name", list(range(99)), f"name: input should be a valid string, found {repr(list(range(99)))[:77]}..."),
    ],
)
def test_values_of_another_type_or_range_are_told(name: str, value: Any, message: str) -> None:
    assert SIGNATURE.validated({name: value}, "distance 'mine'")[0] is None
    assert told(SIGNATURE, {name: value}, "distance 'mine'") == [(name, message)]


def told(signature: Signature, *arguments: Any) -> list[tuple[str, str]]:
    """Option and message of each problem."""
    return [(str(place[0]), message) for place, message in signature.validated(*arguments)[1]]


def test_the_place_of_a_wrong_member_of_a_list_is_its_own() -> None:
    _, problems = SIGNATURE.validated({"weights": [1.0, "a"]}, "distance 'mine'")
    assert [place for place, _ in problems] == [("weights", 1)]


def test_all_problems_are_told_at_once_with_the_nearest_names() -> None:
    names = ", ".join(SIGNATURE.names)
    assert told(SIGNATURE, {"powr": 3, "eps": -1, "zzz": 0}, "distance 'mine'") == [
        ("powr", f"distance 'mine' has no option 'powr'; did you mean 'power'? (options: {names})"),
        ("zzz", f"distance 'mine' has no option 'zzz' (options: {names})"),
        ("eps", "eps: input should be greater than 0, found -1"),
    ]


def test_settings_of_the_core_beside_the_options_are_named_too() -> None:
    def plain(a: Any, b: Any, /) -> None: ...

    signature = read(plain)
    assert told(signature, {"x": 1}, "distance 'mine'") == [("x", "distance 'mine' has no option 'x' (it has none)")]
    assert told(signature, {"featurs": 1}, "it", ["features"]) == [
        ("featurs", "it has no option 'featurs'; did you mean 'features'? (options: features)")
    ]


def takes_keywords(a: Any, b: Any, /, *, x: int = 1, **others: Any) -> None: ...
def takes_many(a: Any, b: Any, /, *others: Any) -> None: ...
def takes_either(a: Any, b: Any) -> None: ...
def takes_one(a: Any, /) -> None: ...
def without_default(a: Any, b: Any, /, *, x: int) -> None: ...
def without_annotation(a: Any, b: Any, /, *, x=1) -> None: ...  # type: ignore[no-untyped-def]
def unknown_annotation(a: Any, b: Any, /, *, x: Nowhere = 1) -> None: ...  # type: ignore[name-defined] # noqa: F821
def underscore(a: Any, b: Any, /, *, _x: int = 1) -> None: ...
def unusable_annotation(a: Any, b: Any, /, *, x: Annotated[str, Field(pattern="(")] = "") -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (takes_keywords, "argument '**others' must stand before '/' (from the core) or after '*' (an option of the "),
        (takes_many, "argument '*others' must stand before '/' (from the core) or after '*' (an option of the recipe)"),
        (takes_either, "argument 'a' must stand before '/' (from the core) or after '*' (an option of the recipe)"),
        (takes_one, "it has 1 positional-only arguments before '/', the core passes 2"),
        (without_default, "option 'x' needs an annotation and a default"),
        (without_annotation, "option 'x' needs an annotation and a default"),
        (unknown_annotation, "an annotation cannot be resolved: name 'Nowhere' is not defined"),
        (underscore, "option '_x' must not start with an underscore"),
        (unusable_annotation, "its options do not form a valid schema: "),
        (dict, "it has no signature; wrap it in a function of your own"),
        (3, "it has no signature; wrap it in a function of your own"),
    ],
)
def test_a_signature_that_is_no_schema_is_refused(function: Any, problem: str) -> None:
    with pytest.raises(PluginError) as caught:
        read(function)
    assert str(caught.value).startswith(f"distance 'mine' of plugin p: {problem}")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_number_of_arguments_from_the_core(kind: str) -> None:
    core = ", ".join(f"a{index}" for index in range(NUM_CORE_ARGUMENTS[kind]))
    scope: dict[str, Any] = {"__name__": __name__}
    exec(f"def right({core}{', /' if core else ''}): ...\ndef wrong({core}{', ' if core else ''}b, /): ...", scope)
    assert read(scope["right"], kind).names == ()
    with pytest.raises(PluginError, match=f"the core passes {NUM_CORE_ARGUMENTS[kind]}$"):
        read(scope["wrong"], kind)


def test_classes_callable_objects_and_wrapped_functions_have_signatures_too() -> None:
    class Made:
        def __init__(self, a: Any, b: Any, /, *, x: int = 1) -> None: ...

    class Called:
        def __call__(self, a: Any, b: Any, /, *, x: int = 1) -> None: ...

    @functools.wraps(distance)
    def wrapper(*arguments: Any, **options: Any) -> None: ...

    assert read(Made).names == read(Called()).names == ("x",)
    assert read(wrapper).names == SIGNATURE.names
    assert read(torch.no_grad()(distance)).names == SIGNATURE.names


def test_options_may_be_called_like_attributes_of_a_model() -> None:
    def shadowing(
        a: Any, b: Any, /, *, copy: int = 1, json: str = "x", schema: int = 2, model_name: str = "y"
    ) -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signature = read(shadowing)
    model = signature.model.model_validate({"copy": 5})
    assert [getattr(model, name) for name in signature.names] == [5, "x", 2, "y"]


@pytest.mark.parametrize("registered", COMPONENTS, ids=lambda each: f"{each.kind}-{each.component.name}")
def test_every_registered_component_is_a_schema_that_its_own_defaults_satisfy(registered: Registered) -> None:
    signature = read_signature(registered.load(), registered.kind, registered.component.name)
    as_in_a_recipe = {
        name: list(value) if isinstance(value, tuple) else value for name, value in signature.defaults().items()
    }
    assert choose(REGISTRY, registered.kind, registered.component.name, as_in_a_recipe)
