"""Components that work like the built-in ones, but kill their process at the call that DDM_TEST_KILL names."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ddm_backbones import convnet
from ddm_clusterers import kmeans
from ddm_distances import cosine
from ddm_studies import attribution
from torch import Tensor, nn

from ddm_framework import Component, DataInfo, Report, Workspace, hookimpl

_calls: Counter[str] = Counter()


def _call(stage: str) -> None:
    _calls[stage] += 1
    if os.environ.get("DDM_TEST_KILL") == f"{stage}:{_calls[stage]}":
        os.kill(os.getpid(), signal.SIGKILL)


@hookimpl
def ddm_register_backbones() -> Iterator[Component]:
    yield Component("fatal_convnet", f"{__name__}:build")


@hookimpl
def ddm_register_clusterers() -> Iterator[Component]:
    yield Component("fatal_kmeans", f"{__name__}:assign")


@hookimpl
def ddm_register_distances() -> Iterator[Component]:
    yield Component("fatal_cosine", f"{__name__}:distance")


@hookimpl
def ddm_register_studies() -> Iterator[Component]:
    yield Component("fatal_attribution", f"{__name__}:run")


class _Counted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        _call("training")
        return self.inner(images)


def build(data: DataInfo, /) -> nn.Module:
    """A convnet; each pass through it, of however many networks, counts as a call of `training`."""
    return _Counted(convnet.build(data, width=4, depth=1))


def assign(features: Tensor, num_clusters: int, generator: Any, /) -> Tensor:
    """K-means; `partition`."""
    _call("partition")
    return kmeans.assign(features, num_clusters, generator, restarts=1)


def distance(synthetic: Mapping[str, Tensor], target: Mapping[str, Tensor], /) -> Tensor:
    """Cosine; `matching`."""
    _call("matching")
    return cosine.distance(synthetic, target)


def run(workspace: Workspace, /) -> Report:
    """An attribution; `online` before it, `report` after it."""
    _call("online")
    report = attribution.run(workspace, show=1)
    _call("report")
    return report
