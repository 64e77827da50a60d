"""A digest of the code behind a component: its own file, and the files that it imports from its own package."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from ddm_framework.files import check_file, opened
from ddm_framework.plugin.registry import LOCAL_PREFIX
from ddm_framework.resources import check_fits

_CORE = "ddm_framework"


def code_digest(target: Callable[..., Any], home: str = "") -> str:
    """A digest of all files that determine what a component does.

    These are the module that defines its function, the module under which it is registered, and every module of their
    top-level packages that they import, directly or indirectly. Imports inside functions and for type checkers count
    too. Code of other packages is not included: the manifest records their versions.

    Args:
        target: the component's function.
        home: the module under which it is registered.
    Returns:
        16 hexadecimal digits; empty for a function of the core or without a file.
    """
    names = {_defining(target), home or _defining(target)}
    files = {name: path for each in names for name, path in _closure(each).items()}
    if not files:
        return ""
    if len(files) == 1:
        return file_digest(*files.values())
    told = "\n".join(f"{name} {file_digest(path)}" for name, path in sorted(files.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _defining(target: Any) -> str:
    """The module that defines a function, without decorators and partial applications, or the class of an object."""
    while isinstance(target, partial):
        target = target.func
    function = inspect.unwrap(target) if callable(target) else target
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _closure(name: str) -> dict[str, Path]:
    """Files of a module and of what it imports from its own top-level package, by module."""
    if name.partition(".")[0] in (_CORE, "__main__", "builtins"):
        return {}
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        path = _file_of(module)
        if module in found or path is None:
            continue
        found[module] = path
        waiting += [each for each in _imported(module, path) if _is_own(each, name)]
    return found


def _is_own(module: str, name: str) -> bool:
    """Whether a module belongs to what the component's author wrote: one package, or the folder of a local file."""
    top = module.partition(".")[0]
    if top == name.partition(".")[0]:
        return True
    path, local = _file_of(top), _file_of(name)
    if not name.startswith(LOCAL_PREFIX) or top == _CORE or path is None or local is None:
        return False
    return local.parent == (path.parent.parent if path.name.startswith("__init__.") else path.parent)


def _file_of(module: str) -> Path | None:
    """The file of a module, which need not be imported; None if there is none."""
    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None) if loaded is not None else getattr(_spec(module), "origin", None)
    path = Path(origin) if origin else None
    return path if path is not None and path.is_file() else None


def _spec(module: str) -> ModuleSpec | None:
    """The spec of a module. Nothing is imported to find it, not even the packages that contain the module."""
    parent, _, _ = module.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(module)
        outer: Any = sys.modules.get(parent)
        folders = outer.__path__ if outer is not None else getattr(_spec(parent), "submodule_search_locations", None)
        return PathFinder.find_spec(module, list(folders or ()))
    except (AttributeError, ImportError, ValueError):
        return None


def _imported(module: str, path: Path) -> Iterator[str]:
    """Names of the modules that a file imports."""
    package = module if path.name.startswith("__init__.") else module.rpartition(".")[0]
    for level, base, names in _statements(path, path.stat().st_mtime_ns):
        outer = package.rsplit(".", level - 1)[0] if level > 1 else package
        whole = ".".join(filter(None, [outer if level else "", base]))
        if not names:
            yield from (whole.rsplit(".", depth)[0] for depth in range(whole.count(".") + 1))
        for name in names:
            yield _module_of(whole, name)


def _module_of(module: str, name: str) -> str:
    """The module that `from module import name` needs: a module of that name, or where the name comes from."""
    if _file_of(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    loaded = sys.modules.get(module)
    if loaded is None or name in vars(loaded):
        return module
    try:  # a package with lazy imports has no import statement that says where a name comes from
        return str(getattr(getattr(loaded, name), "__module__", module))
    except Exception:
        return module


@cache
def _statements(path: Path, changed: int) -> tuple[tuple[int, str, tuple[str, ...]], ...]:  # noqa: ARG001 - in the cache key
    """The import statements of a file: (level, module, names), without names for a plain `import`."""
    if path.suffix != ".py":
        return ()
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return tuple(found)


def file_digest(path: Path) -> str:
    """A digest of the contents of a file: 16 hexadecimal digits."""
    check_fits(check_file(path), f"{path}", "name a smaller file")
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
