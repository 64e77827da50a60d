"""A component with its options: the one way to choose one, for recipes, studies, Python and the conformance kit."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ddm_framework.errors import DDMError
from ddm_framework.plugin.registry import LOCAL_PREFIX, Registry
from ddm_framework.plugin.signatures import read_signature


@dataclass(frozen=True, slots=True)
class Choice:
    """A component that a recipe picked, with every option spelled out."""

    kind: str
    name: str
    options: dict[str, Any]
    target: Callable[..., Any] = field(repr=False, compare=False)

    def __call__(self, *core: Any) -> Any:
        """Call the component with the core's arguments and the recipe's options."""
        return self.target(*core, **self.options)

    def code(self) -> dict[str, str]:
        """A digest of the file of a local plugin (`--plugin`), so that an edited one is not taken for the old one."""
        module = sys.modules.get(self.target.__module__)
        if module is None or not module.__name__.startswith(LOCAL_PREFIX):
            return {}
        return {"code": hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:16]}

    def as_dict(self) -> dict[str, Any]:
        """As written in a recipe."""
        return {"use": self.name, **{name: plain(value) for name, value in self.options.items()}}


def resolved(value: Any) -> Any:
    """A default path is relative to the current folder, and so spelled out, as the resolved recipe lies elsewhere."""
    return value.resolve() if isinstance(value, Path) else value


def plain(value: Any) -> Any:
    """Values as YAML and JSON can hold them."""
    if isinstance(value, BaseModel):
        return {key: plain(each) for key, each in value.model_dump(by_alias=True).items()}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def choose(registry: Registry, kind: str, name: str, options: Mapping[str, Any]) -> Choice:
    """A component with options given from Python.

    Raises:
        DDMError: for an unknown name or wrong options.
    """
    registered = registry.get(kind, name)
    target = registered.load()
    signature = read_signature(target, kind, f"{kind} {name!r} of plugin {registered.plugin}")
    if problems := signature.problems(options, f"{kind} {name!r}"):
        raise DDMError("\n".join(message for _, message in problems))
    return Choice(kind, name, {**signature.defaults(), **options}, target)
