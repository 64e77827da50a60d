"""`ddm check`: from what the user typed to results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddm_framework.errors import DDMError
from ddm_framework.files import is_file, is_folder
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.progress import ProgressDisplay
from ddm_framework.recipe.yaml_source import parse
from ddm_framework.testing.running import Result, count_checks, run_checks


def check_package(package: str, settings: Sequence[str], display: ProgressDisplay) -> list[Result]:
    """All checks of an installed package, or of a local file.

    Args:
        package: name of a distribution, or the path of a Python file.
        settings: options, each `kind.name.option=value`.
        display: where progress is shown.
    Raises:
        DDMError: for an unknown package, a file that cannot be loaded, or options that do not fit.
    """
    path, options = Path(package), parsed(settings)
    registry = load_plugins([path] if path.suffix == ".py" or is_file(path) else [])
    try:
        total = count_checks(registry, package)
    except DDMError as error:
        if not is_folder(path):
            raise
        advice = f"install it (pip install -e {package}) and check it by the name that its pyproject.toml gives it"
        raise DDMError(f"{package} is a folder; {advice}") from error
    results = []
    with display.bar(f"checking {package}", total) as advance:
        for result in run_checks(registry, package, options):
            results.append(result)
            advance()
    if not results:
        raise DDMError(f"{package} brings no component; yield Component records from its hooks")
    return results


def parsed(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`kind.name.option=value` as options by component; values are YAML, as on the command line of `ddm run`.

    Raises:
        DDMError: for text of another form.
    """
    options: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = key.split(".")
        if not equals or len(parts) != 3 or not all(parts):
            raise DDMError(f"--set takes kind.name.option=value, as in dataset.mnist.root=data, found {setting!r}")
        value = parse(text, f"--set {key}", Path.cwd(), has_lines=False).value if text else None
        options.setdefault(f"{parts[0]}.{parts[1]}", {})[parts[2]] = value
    return options
