"""`ddm new-plugin`: a package with one working component, to be changed into your own."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ddm_framework.errors import DDMError
from ddm_framework.plugin import Registry, hook_name
from ddm_framework.plugin.components import check_kind
from ddm_framework.runs import save_text

FUNCTIONS = {
    "dataset": "load",
    "backbone": "build",
    "clusterer": "assign",
    "distance": "distance",
    "objective": "measure",
    "attributor": "attribute",
    "study": "run",
}
"""The name of the function of each kind in the package."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def check_name(kind: str, name: str, registry: Registry) -> None:
    """Make sure that a component of this name can be created.

    Raises:
        DDMError: for an unknown kind, a name that is no plain one, or one that is taken.
    """
    check_kind(kind)
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise DDMError(f"{name!r} cannot name a component; take small letters, digits and underscores, as in my_{kind}")
    if name in registry.names(kind):
        owner = registry.components(kind)[registry.names(kind).index(name)].plugin
        raise DDMError(f"{kind} {name!r} is brought by {owner} already; choose another name")
    if importlib.util.find_spec(f"ddm_{name}") is not None:
        raise DDMError(f"a package ddm_{name} is installed already; choose another name")


def write_package(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the package.

    Args:
        kind: of the component.
        name: of the component; its package is `ddm_<name>`.
        folder: to be made.
    Returns:
        The files written.
    Raises:
        DDMError: if the folder is there already, or cannot be written to.
    """
    if os.path.lexists(folder):
        raise DDMError(f"{folder} exists already; choose another folder with --out, or another name")
    written = []
    for path, text in _files(kind, name):
        save_text(folder / path, text)
        written.append(folder / path)
    return written


def _files(kind: str, name: str) -> Iterator[tuple[str, str]]:
    """Path and text of each file."""
    values = {
        "kind": kind,
        "name": name,
        "package": f"ddm_{name}",
        "distribution": f"ddm-{name.replace('_', '-')}",
        "function": FUNCTIONS[kind],
        "hook": hook_name(kind),
        "words": name.replace("_", " "),
    }
    package = f"src/{values['package']}"
    templates = {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        f"{package}/__init__.py": "hook.py.j2",
        f"{package}/{name}.py": f"components/{kind}.py.j2",
        f"tests/test_{name}.py": "test.py.j2",
    }
    environment = Environment(
        loader=PackageLoader("ddm_framework", "templates/plugin"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for path, template in templates.items():
        yield path, environment.get_template(template).render(values)
    yield f"{package}/py.typed", ""
