"""Each common check catches a component that breaks it, and lets a plain one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from checked import assert_all_pass, result, results_of, subject_of
from pydantic import Field
from torch import Tensor

from ddm_framework.plugin.components import Component
from ddm_framework.plugin.registry import Registered, Registry
from ddm_framework.testing import Subject
from ddm_framework.testing.checks import CHECKS, COMMON


def good(features: Tensor, num_clusters: int, generator: torch.Generator, /, *, stride: int = 1) -> Tensor:
    """Every so manieth sample; `stride` is not used."""
    return torch.arange(len(features)) % num_clusters


def with_stars(features: Tensor, num_clusters: int, generator: torch.Generator, /, **options: Any) -> Tensor:
    """Open to any option."""
    return torch.arange(len(features)) % num_clusters


def with_a_wrong_default(
    features: Tensor, num: int, generator: Any, /, *, a: Annotated[int, Field(ge=1)] = 0
) -> Tensor:
    """An option `a` of at least one."""
    return torch.arange(len(features)) % num


def with_a_complex_default(features: Tensor, num: int, generator: Any, /, *, a: complex = 1j) -> Tensor:
    """An option `a` that no recipe can hold."""
    return torch.arange(len(features)) % num


def undocumented(features: Tensor, num_clusters: int, generator: torch.Generator, /, *, stride: int = 1) -> Tensor:
    return torch.arange(len(features)) % num_clusters


def silent_about_an_option(features: Tensor, num: int, generator: Any, /, *, stride: int = 1) -> Tensor:
    """Says nothing of its option."""
    return torch.arange(len(features)) % num


BROKEN = {
    "check_signature_is_a_schema": (with_stars, "must stand before '/'"),
    "check_defaults_are_valid": (with_a_wrong_default, "a: input should be greater than or equal to 1, found 0"),
    "check_defaults_can_be_written_in_a_recipe": (with_a_complex_default, "use defaults that YAML can hold"),
    "check_documentation_explains_every_option": (silent_about_an_option, "does not name stride"),
}


def test_a_plain_component_passes() -> None:
    assert_all_pass("clusterer", good)


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_caught(check: str) -> None:
    function, message = BROKEN[check]
    found = result("clusterer", check, function)
    assert found.outcome == "failed"
    assert message in found.message


def test_a_missing_docstring_is_caught() -> None:
    found = result("clusterer", "check_documentation_explains_every_option", undocumented)
    assert found.outcome == "failed"
    assert "no docstring" in found.message


@pytest.mark.parametrize(
    ("summary", "message"), [(" ", "is empty"), ("a\nb", "one line"), ("x" * 101, "101 characters")]
)
def test_a_summary_is_one_short_line(summary: str, message: str) -> None:
    found = results_of(subject_of("clusterer", good, summary=summary))["check_summary_is_one_line"]
    assert found.outcome == "failed"
    assert message in found.message


def test_what_cannot_be_imported_fails_once_and_the_rest_is_skipped_with_the_reason() -> None:
    registered = Registered("clusterer", Component("lost", "fake_nowhere:assign", "Nowhere"), "tests")
    found = results_of(Subject(registered, Registry((), [])))
    assert found["check_target_can_be_imported"].outcome == "failed"
    for check in CHECKS["clusterer"]:
        assert found[check.name].outcome == "skipped"
        assert "cannot be imported: ModuleNotFoundError" in found[check.name].message


def test_every_common_check_is_tested_here() -> None:
    tested = {*BROKEN, "check_summary_is_one_line", "check_target_can_be_imported"}
    assert tested == {check.name for check in COMMON}


def test_a_path_is_a_default_that_a_recipe_can_hold() -> None:
    def stored(
        features: Tensor, num: int, generator: Any, /, *, folder: Path = Path("x"), pair: tuple[int, int] = (1, 2)
    ) -> Tensor:
        """Options `folder` and `pair`."""
        return torch.arange(len(features)) % num

    assert result("clusterer", "check_defaults_can_be_written_in_a_recipe", stored).outcome == "passed"
