"""A component's code is its own file and what that imports of its own package, however it is imported."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_sites import REGISTRY, Site, hooks

from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.plugin.source_code import _closure, code_digest

FILES = {
    "__init__.py": "",
    "main.py": "from fake_pkg import direct\nfrom .relative import f\nimport fake_pkg.plain\n"
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fake_pkg.typed import T\n"
    "from fake_pkg.deep import g\n"
    "def run(a, /):\n    from fake_pkg.late import late\n    return late()\n",
    "direct.py": "import json\n",
    "relative.py": "from . import further\ndef f(): ...\n",
    "further.py": "import fake_pkg.main\n",
    "plain.py": "",
    "typed.py": "class T: ...\n",
    "late.py": "def late(): return 1\n",
    "deep/__init__.py": "from .inner import g\n",
    "deep/inner.py": "from ..above import h\ndef g(): ...\n",
    "above.py": "def h(): ...\n",
    "apart.py": "",
}
SEEN = ["direct", "relative", "further", "plain", "typed", "late", "deep/__init__", "deep/inner", "above", "main"]


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    with Site(tmp_path / "site") as site:
        site.path.mkdir()
        root = site.path / "fake_pkg"
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        yield root


def run_of(package: Path) -> Callable[..., Any]:
    import importlib

    function: Callable[..., Any] = importlib.import_module(f"{package.name}.main").run
    return function


@pytest.mark.parametrize("name", SEEN)
def test_a_changed_file_that_is_imported_changes_the_digest(package: Path, name: str) -> None:
    before = code_digest(run_of(package))
    file = package / f"{name}.py"
    file.write_text(file.read_text() + "# changed\n")
    assert code_digest(run_of(package)) != before


def test_a_file_that_is_not_imported_changes_nothing(package: Path) -> None:
    before = code_digest(run_of(package))
    (package / "apart.py").write_text("# changed\n")
    (package / "new.py").write_text("")
    assert code_digest(run_of(package)) == before


def test_the_digest_does_not_depend_on_the_place(package: Path, tmp_path: Path) -> None:
    before = code_digest(run_of(package))
    with Site(tmp_path / "elsewhere") as site:
        site.path.mkdir()
        (site.path / "fake_pkg").symlink_to(package)
        assert code_digest(run_of(package)) == before


def test_decorated_and_partial_functions_are_those_that_they_wrap(package: Path) -> None:
    function = run_of(package)

    @functools.wraps(function)
    def wrapped(*_: object) -> None: ...

    assert code_digest(wrapped) == code_digest(functools.partial(function)) == code_digest(function)


def test_an_import_from_a_lazy_package_leads_to_where_the_name_comes_from(package: Path) -> None:
    (package / "lazy").mkdir()
    lazy = (
        "def __getattr__(name):\n    import importlib\n"
        "    return getattr(importlib.import_module('fake_pkg.lazy.hidden'), name)\n"
    )
    (package / "lazy" / "__init__.py").write_text(lazy)
    (package / "lazy" / "hidden.py").write_text("def hidden(): ...\n")
    (package / "main.py").write_text("from fake_pkg.lazy import hidden\ndef run(a, /): ...\n")
    before = code_digest(run_of(package))
    (package / "lazy" / "hidden.py").write_text("def hidden(): return 1\n")
    assert code_digest(run_of(package)) != before


def test_the_module_that_a_component_is_registered_under_counts_too(package: Path) -> None:
    (package / "named.py").write_text("from fake_pkg.main import run\nCONSTANT = 1\n")
    before = code_digest(run_of(package), "fake_pkg.named")
    (package / "named.py").write_text("from fake_pkg.main import run\nCONSTANT = 2\n")
    assert code_digest(run_of(package), "fake_pkg.named") != before


def test_a_local_file_sees_the_files_beside_it_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fake_beside.py").write_text("VALUE = 1\n")
    code = hooks('yield Component("mine", f"{__name__}:measure")')
    code += "import torch\nimport ddm_framework\nimport fake_beside\ndef measure(a, b, /): ...\n"
    (tmp_path / "mine.py").write_text(code)
    registry = load_plugins([tmp_path / "mine.py"])
    registered = registry.get("objective", "mine")
    target = registered.load()
    assert {path.name for path in _closure(registered.home).values()} == {"mine.py", "fake_beside.py"}
    before = code_digest(target, registered.home)
    (tmp_path / "fake_beside.py").write_text("VALUE = 2\n")
    assert code_digest(target, registered.home) != before


def test_the_core_and_functions_of_no_file_have_none() -> None:
    assert code_digest(load_plugins) == ""
    assert code_digest(len) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_code_of_its_own_package_alone(kind: str) -> None:
    for registered in REGISTRY.components(kind):
        files = _closure(registered.home)
        assert files
        assert {name.partition(".")[0] for name in files} == {registered.home.partition(".")[0]}
        assert len(code_digest(registered.load(), registered.home)) == 16
