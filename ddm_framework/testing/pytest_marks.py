"""Checks as tests: a decorator for pytest, which is imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddm_framework.errors import DDMError, suggestion
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.testing.checks import checks_of
from ddm_framework.testing.subject import NO_OPTIONS, Options, Subject, plugins_of, subjects

if TYPE_CHECKING:
    from pytest import MarkDecorator

NO_FAILURES: Mapping[str, str] = {}


def parametrize_with_checks(
    kind: str | None = None,
    plugin: str | None = None,
    file: str | Path | None = None,
    *,
    options: Options = NO_OPTIONS,
    expected_failures: Mapping[str, str] = NO_FAILURES,
) -> MarkDecorator:
    """Run a test once for each check of each component, as its arguments `component` and `check`.

        @parametrize_with_checks(plugin="ddm-example")
        def test_contract(component, check):
            check(component)

    Args:
        kind: only components of this kind.
        plugin: only those of an installed distribution, such as `ddm-example`.
        file: only those of a local file.
        options: that components are checked with, as in `{"dataset.mnist": {"root": "data"}}`.
        expected_failures: a reason by `kind.name.check`, as in `{"backbone.mlp.check_samples_do_not_mix": "why"}`; a
            check that passes although it is expected to fail fails the test.
    Raises:
        DDMError: if no component is found, a plugin cannot be loaded, or a name in an argument is unknown.
    """
    import pytest

    found = _chosen(kind, plugin, file, options)
    pairs = {f"{each.id}.{check.name}": (each, check) for each in found for check in checks_of(each.kind)}
    for name, reason in expected_failures.items():
        if name not in pairs:
            raise DDMError(
                f"expected_failures names {name!r}, and there is no such check{suggestion(name, list(pairs))}"
            )
        if not reason.strip():
            raise DDMError(f"expected_failures gives no reason for {name!r}; say why it fails")
    parameters = [
        pytest.param(*pair, id=name, marks=_marks(pytest, expected_failures.get(name))) for name, pair in pairs.items()
    ]
    return pytest.mark.parametrize(("component", "check"), parameters)


def _marks(pytest: Any, reason: str | None) -> list[Any]:
    return [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]


def _chosen(kind: str | None, plugin: str | None, file: str | Path | None, options: Options) -> list[Subject]:
    """The components to be checked; none is an error, since a test of nothing passes."""
    if plugin is not None and file is not None:
        raise DDMError("name a plugin or a file to check, not both")
    registry = load_plugins([] if file is None else [Path(file)])
    named = plugin if file is None else str(Path(file))
    for each in [] if named is None else plugins_of(registry, named):
        if each.failure:
            raise DDMError(f"plugin {each.name} cannot be loaded: {each.failure}")
    found = subjects(registry, kind=kind, plugin=named, options=options)
    if not found:
        what = "component" if kind is None else kind
        raise DDMError(f"{named or 'what is installed'} brings no {what} to check; is its package installed?")
    return found
