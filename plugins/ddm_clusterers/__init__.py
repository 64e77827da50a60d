"""How the samples of a class are divided into clusters (Sec. 6.1)."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_clusterers() -> Iterator[Component]:
    """K-means on features, and the order of the data set."""
    yield Component("kmeans", "ddm_clusterers.kmeans:assign", "K-means within each class", "Sec. 6.1")
    yield Component(
        "sequential", "ddm_clusterers.sequential:assign", "Runs of samples in file order", "Table 1, w/o cluster"
    )
