"""What a plugin yields: one lightweight record per component; its code is imported only when it is used."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddm_framework.errors import DDMError, suggestion

KINDS = ("dataset", "backbone", "clusterer", "distance", "objective", "attributor", "study")
"""The kinds of component, in the order in which a run uses them."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of component.

    Raises:
        DDMError: if the kind is unknown; the message suggests the nearest ones.
    """
    if kind not in KINDS:
        raise DDMError(f"there is no kind {kind!r}{suggestion(kind, KINDS)} (kinds: {', '.join(KINDS)})")


def hook_name(kind: str) -> str:
    """The hook that registers components of a kind: `backbone` -> `ddm_register_backbones`."""
    return "ddm_register_studies" if kind == "study" else f"ddm_register_{kind}s"


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a plugin.

    Args:
        name: what a recipe writes after `use:`; letters, digits and underscores.
        target: `module:function`, imported when a recipe picks the component and not before.
        summary: one line for `ddm ls`.
        source: where the idea comes from (`Eq. 6`, `Table 5`, a paper).
    Raises:
        ValueError: if the name or the target is malformed.
    """

    name: str
    target: str
    summary: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"component name {self.name!r} is not a plain name like 'my_objective'")
        if not isinstance(self.target, str) or not _TARGET.fullmatch(self.target):
            raise ValueError(
                f"target {self.target!r} of component {self.name!r} is not 'module:function', "
                "as in 'my_package.mine:measure'"
            )
