"""Fake distributions with plugins, laid out as pip installs them, and a recipe to try them on."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ddm_framework.plugin.discovery import load_plugins

REGISTRY = load_plugins()
"""The built-in components."""

RECIPE = """\
schema: 1
seed: 0
dataset: {use: digits}
backbone: {use: convnet, width: 8, depth: 1}
clusterer: {use: kmeans, clusters_per_class: 2, features: target}
distance: {use: cosine}
training: {epochs: 4, lr: 0.05}
matching: {steps: 2, step_length: 2}
online: {steps: 1}
objectives: [{use: output_shift}]
study: {use: attribution, queries: all}
"""


def line_of(key: str, text: str = RECIPE) -> int:
    """The line on which a top-level key stands, from 1."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key}:"))


def swap(old: str, new: str, text: str = RECIPE) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


HEAD = "from ddm_framework import Component, hookimpl\n"


def hooks(body: str, hook: str = "ddm_register_objectives", arguments: str = "", mark: str = "@hookimpl") -> str:
    """A plugin of one hook; its body stands at line 4."""
    return f"{HEAD}{mark}\ndef {hook}({arguments}):\n    {body}\n"


GOOD = hooks('yield Component("gauge", "fake_good:gauge", "A good one")') + (
    "def gauge(logits, reference, /, *, scale: float = 1.0):\n    return logits * scale\n"
)

YIELD = 'yield Component("x", "a:b")'

BROKEN: dict[str, tuple[str, str]] = {
    "fake_raises": ('raise RuntimeError("no\\nluck")', "RuntimeError: no luck (fake_raises.py:1)"),
    "fake_library": (
        'import json\n\njson.loads("{")',
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) "
        "(fake_library.py:3)",
    ),
    "fake_exits": ("import sys\nsys.exit(3)", "SystemExit: 3 (fake_exits.py:2)"),
    "fake_leaves": ("import sys\nsys.exit()", "SystemExit: no message (fake_leaves.py:2)"),
    "fake_syntax": ("def f(:", "SyntaxError: invalid syntax (fake_syntax.py, line 1)"),
    "fake_imports": ("import fake_nowhere", "ModuleNotFoundError: No module named 'fake_nowhere' (fake_imports.py:1)"),
    "fake_misspelt": (
        hooks(YIELD, "ddm_register_objectivs"),
        "there is no hook 'ddm_register_objectivs'; did you mean 'ddm_register_objectives'?",
    ),
    "fake_misspelt_unmarked": (
        hooks(YIELD, "ddm_register_studys", mark=""),
        "there is no hook 'ddm_register_studys'; did you mean 'ddm_register_studies'?",
    ),
    "fake_foreign_hook": (
        hooks(YIELD, "register_objectives"),
        "PluginValidationError: unknown hook 'register_objectives' in plugin",
    ),
    "fake_unmarked": (
        hooks(YIELD, mark=""),
        "function ddm_register_objectives is not marked with @hookimpl, so it would be ignored",
    ),
    "fake_arguments": (
        hooks(YIELD, arguments="config"),
        "PluginValidationError: Plugin 'fake-arguments:main' for hook 'ddm_register_objectives' hookimpl definition: "
        "ddm_register_objectives(config) Argument(s) {'config'} are declared in the hookimpl but can not be found in "
        "the hookspec",
    ),
    "fake_record": (
        hooks('yield ("x", "a:b")'),
        "ddm_register_objectives must yield Component records, it yielded ('x', 'a:b')",
    ),
    "fake_name": (
        hooks('yield Component("my objective", "a:b")'),
        "ValueError: component name 'my objective' is not a plain name like 'my_objective' (fake_name.py:4)",
    ),
    "fake_target": (
        hooks('yield Component("x", "a.b")'),
        "ValueError: target 'a.b' of component 'x' is not 'module:function', as in 'my_package.mine:measure' "
        "(fake_target.py:4)",
    ),
    "fake_single": (
        hooks('return Component("x", "a:b")'),
        "ddm_register_objectives must yield Component records, it returned "
        "Component(name='x', target='a:b', summary='', source='')",
    ),
    "fake_nothing": (
        hooks('Component("x", "a:b")'),
        "ddm_register_objectives must yield Component records, it returned None",
    ),
    "fake_text": (
        hooks('return "x"'),
        "ddm_register_objectives must yield Component records, it yielded 'x'",
    ),
    "fake_twice": (
        hooks(f"{YIELD}\n    {YIELD}"),
        "ddm_register_objectives yields two components named 'x'",
    ),
    "fake_late": (hooks(f"{YIELD}\n    raise OSError('disk')"), "OSError: disk (fake_late.py:5)"),
}
"""Modules that break as plugins, and the reason that `ddm plugins` gives (its beginning)."""


@dataclass(frozen=True)
class Site:
    """A folder of installed distributions; as a context, it stands on `sys.path`."""

    path: Path

    def add(
        self, module: str, code: str, *, name: str = "", entry_points: str = "", metadata: str | None = None
    ) -> None:
        """Install a module as a distribution of version 1.0, whose entry point `main` names it."""
        name = name or module.replace("_", "-")
        info = self.path / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (self.path / f"{module}.py").write_text(code, encoding="utf-8")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" if metadata is None else metadata, encoding="utf-8"
        )
        (info / "entry_points.txt").write_text(entry_points or f"[ddm]\nmain = {module}\n", encoding="utf-8")
        importlib.invalidate_caches()

    def __enter__(self) -> Site:
        sys.path.insert(0, str(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.path.remove(str(self.path))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(self.path)):
                del sys.modules[name]
