"""A component's record is checked where it is made, in the plugin's own line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ddm_framework.plugin.components import KINDS, Component, hook_name


def test_every_kind_has_a_hook_in_the_plural() -> None:
    assert [hook_name(kind) for kind in KINDS] == [
        "ddm_register_datasets",
        "ddm_register_backbones",
        "ddm_register_clusterers",
        "ddm_register_distances",
        "ddm_register_objectives",
        "ddm_register_attributors",
        "ddm_register_studies",
    ]


@pytest.mark.parametrize("name", ["a", "vit", "resnet18", "my_objective", "F1", "a__1"])
def test_plain_names_are_taken(name: str) -> None:
    assert Component(name, "package.module:function").name == name


@pytest.mark.parametrize(
    "name", ["", "1st", "_private", "my-objective", "my objective", "a.b", "naïve", "a\n", None, 3]
)
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="is not a plain name like 'my_objective'") as caught:
        Component(name, "package.module:function")
    assert str(caught.value).startswith(f"component name {name!r} ")


@pytest.mark.parametrize("target", ["a:b", "package.module:function", "_private:_function", "ddm_local_x_0f:measure"])
def test_targets_name_a_module_and_a_function(target: str) -> None:
    assert Component("x", target).target == target


@pytest.mark.parametrize(
    "target", ["", "a", "a.b", ":b", "a:", "a:b.c", "a:b:c", "a b:c", "a-b:c", "a:b()", "1:b", None]
)
def test_other_targets_are_refused(target: Any) -> None:
    with pytest.raises(ValueError, match=r"is not .module:function., as in") as caught:
        Component("x", target)
    assert str(caught.value).startswith(f"target {target!r} of component 'x' ")


def test_records_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Component("x", "a:b").name = "y"  # type: ignore[misc]
