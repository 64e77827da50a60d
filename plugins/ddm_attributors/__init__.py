"""Attribution methods: which clusters of training data made the network do that?"""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_attributors() -> Iterator[Component]:
    """The distilled datamodel itself."""
    yield Component("ddm", "ddm_attributors.ddm:attribute", "Distilled datamodel, by the recipe's own design", "Alg. 1")
