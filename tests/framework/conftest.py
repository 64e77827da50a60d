"""A network of few weights in float64, clusters of images and a trajectory, and gradients by ordinary autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import pytest
import torch
import torch.nn.functional as F
from ddm_backbones import convnet
from run_fixtures import asked_tiny
from torch import Tensor, nn

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.api import Run
from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.stacks import Parameters
from ddm_framework.offline.partition import Partition
from ddm_framework.runs.run_folder import NETWORKS

SIZES = (5, 3, 1, 4, 2, 6)
"""Images of each cluster; two clusters per class."""


@dataclass(frozen=True)
class Toy:
    """What matching and fine-tuning need, small enough to be recomputed one cluster at a time."""

    network: Network
    initial: Parameters
    data: ImageSet
    partition: Partition
    trajectory: dict[int, Parameters]
    _real: dict[tuple[int, int], Parameters] = field(default_factory=dict)

    @property
    def target(self) -> Parameters:
        return self.trajectory[max(self.trajectory)]

    def module(self, parameters: Parameters) -> nn.Module:
        """An ordinary module with these weights."""
        module = copy.deepcopy(self.network.module).requires_grad_()
        module.load_state_dict(parameters)
        return module

    def gradient(
        self, parameters: Parameters, images: Tensor, labels: Tensor, *, create_graph: bool = False
    ) -> Parameters:
        """Gradient of the mean loss by `torch.autograd`, of one network on one set of images."""
        self._reused.load_state_dict(parameters)
        weights = dict(self._reused.named_parameters())
        loss = F.cross_entropy(self._reused(images), labels)
        return dict(zip(weights, torch.autograd.grad(loss, weights.values(), create_graph=create_graph), strict=True))

    @cached_property
    def _reused(self) -> nn.Module:
        return self.module(self.initial)

    def cluster(self, index: int) -> ImageSet:
        """The real images of one cluster."""
        return self.data.take(self.partition.members(index))

    def real_gradient(self, cluster: int, epoch: int) -> Parameters:
        """Gradient of the mean loss on one real cluster along the trajectory, computed once."""
        if (cluster, epoch) not in self._real:
            real = self.cluster(cluster)
            self._real[cluster, epoch] = self.gradient(self.trajectory[epoch], real.images, real.labels)
        return self._real[cluster, epoch]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, which on a busy machine wait for one another ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., tuple[Network, Parameters]]:
    """`make_network(size, classes, dtype, width, depth)`: a ConvNet with group norm, and its initial weights."""

    def make(
        size: int = 4, classes: int = 3, dtype: torch.dtype = torch.float64, width: int = 4, depth: int = 1
    ) -> tuple[Network, Parameters]:
        info = DataInfo((1, size, size), classes, (0.5,), (0.25,), tuple(map(str, range(classes))))
        build = partial(convnet.build, width=width, depth=depth, norm="group", groups=2)
        network, initial = build_network(build, info, 0, torch.device("cpu"))
        network.module.to(dtype)
        return network, {name: each.to(dtype) for name, each in initial.items()}

    return make


@pytest.fixture(scope="session")
def toy(make_network: Callable[..., tuple[Network, Parameters]]) -> Toy:
    """Six clusters of 1 to 6 images in three classes, mixed up, and a random walk of three epochs."""
    network, initial = make_network()
    random = torch.Generator().manual_seed(0)
    order = torch.randperm(sum(SIZES), generator=random)
    clusters = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))[order]
    partition = Partition(clusters, torch.arange(3).repeat_interleave(2))
    images = torch.randn(len(clusters), 1, 4, 4, generator=random, dtype=torch.float64)
    trajectory = {0: initial}
    for epoch in range(1, 4):
        trajectory[epoch] = {
            name: each + 0.2 * torch.randn(each.shape, generator=random, dtype=each.dtype)
            for name, each in trajectory[epoch - 1].items()
        }
    return Toy(network, initial, ImageSet(images, partition.classes[clusters]), partition, trajectory)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of three classes, two clusters each."""
    return ddm_framework.open_run(asked_tiny(tmp_path_factory.getbasetemp() / "tiny"))


@pytest.fixture(scope="session", autouse=True)
def _shared_run_stays_as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever asks the run that others copy changes what they start from, depending on who comes first."""
    yield
    run = tmp_path_factory.getbasetemp() / "tiny" / "run"
    left = [name for name in (NETWORKS, "variants") if (run / name).exists()]
    assert not left, f"a test asked {run}, which is there to be copied (left behind: {left}); use asked_tiny"


@pytest.fixture
def workspace(run: Run) -> Workspace:
    """Of that run, with nothing loaded yet."""
    return ddm_framework.open_run(run.path).workspace
