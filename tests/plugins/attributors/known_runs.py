"""Runs whose truth is known: a convex model that is solved exactly, and a network small enough to retrain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from ddm_backbones import convnet
from ddm_datasets import digits
from ddm_objectives.margin import margin
from torch import Tensor, nn
from torch.func import hessian, jacrev

from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.stacks import Parameters, take
from ddm_framework.network.target import Target
from ddm_framework.network.training import start, train
from ddm_framework.offline.partition import Partition
from ddm_framework.online.questions import Queries, Reference, declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.recipe.settings import General, Training
from ddm_framework.runs.workspace import Workspace

MARGIN = declared(Choice("objective", "margin", {}, margin))
CLASSES, PIXELS, NUM_TRAIN, NUM_CLUSTERS, DECAY = 3, 4, 60, 6, 0.05


def workspace_of(
    network: Network, trajectory: dict[int, Parameters], data: ImageSet, partition: Partition, training: Training
) -> Workspace:
    """What an attributor sees of a run, without a folder behind it."""
    recipe: Any = SimpleNamespace(general=General(), training=training, target=SimpleNamespace(checkpoint=None))
    workspace = Workspace(recipe, None, None, torch.device("cpu"))  # type: ignore[arg-type]
    vars(workspace).update(
        info=network.info,
        _built=(network, trajectory[0]),
        trained=Target(network, trajectory),
        data=SimpleNamespace(train=data, info=network.info),
        partition=partition,
    )
    return workspace


@dataclass(frozen=True)
class Regression:
    """Softmax regression with weight decay, in float64, and its derivatives by definition.

    Attributes:
        workspace: its target is the optimum; the epoch before is another point.
        queries: labelled.
    """

    workspace: Workspace
    queries: Queries

    def losses(self, weights: Tensor) -> Tensor:
        """Cross entropy (n,) of the training images."""
        data = self.workspace.data.train
        return F.cross_entropy(logits(weights, data.images), data.labels, reduction="none")

    def margins(self, weights: Tensor, asked: Queries | ImageSet) -> Tensor:
        """Margin (N,) of some images by their labels."""
        found = logits(weights, asked.images)
        return margin(found, Reference(asked.images, asked.labels, found, self.workspace.info))[:, 0]

    def hessian(self, weights: Tensor) -> Tensor:
        """Of the mean loss, weight decay included."""
        return hessian(lambda at: self.losses(at).mean())(weights) + DECAY * torch.eye(len(weights)).to(weights)

    def loss_gradients(self, weights: Tensor) -> Tensor:
        """(n, weights)."""
        return jacrev(self.losses)(weights)

    def margin_gradients(self, weights: Tensor, asked: Queries | ImageSet) -> Tensor:
        """(N, weights)."""
        return jacrev(self.margins)(weights, asked)

    def by_cluster(self, scores: Tensor) -> Tensor:
        """Scores (N, n) of single images summed over each cluster, (N, K)."""
        members = [self.workspace.partition.members(k) for k in range(NUM_CLUSTERS)]
        return torch.stack([scores[:, each].sum(1) for each in members], 1)

    def optimum(self, present: Tensor) -> Tensor:
        """Weights that minimise the decayed loss of the images that are present, by Newton's method."""
        weights = torch.zeros(CLASSES * (PIXELS + 1), dtype=torch.float64)

        def objective(at: Tensor) -> Tensor:
            return (self.losses(at) * present).mean() + DECAY / 2 * at.square().sum()

        for _ in range(20):
            weights = weights - torch.linalg.solve(hessian(objective)(weights), jacrev(objective)(weights))
        return weights


def logits(weights: Tensor, images: Tensor) -> Tensor:
    return images.flatten(1) @ weights[:-CLASSES].view(CLASSES, -1).T + weights[-CLASSES:]


def flat_of(parameters: Parameters) -> Tensor:
    return torch.cat([each.flatten() for each in parameters.values()])


@cache
def regression() -> Regression:
    """Two clusters in each of three overlapping classes of 2 x 2 images."""
    random = torch.Generator().manual_seed(0)
    clusters = torch.arange(NUM_TRAIN) % NUM_CLUSTERS
    classes = torch.arange(CLASSES).repeat_interleave(2)
    centres = torch.randn(NUM_CLUSTERS, 1, 2, 2, generator=random, dtype=torch.float64)

    def images(of: Tensor) -> Tensor:
        return centres[of] + 0.7 * torch.randn(len(of), 1, 2, 2, generator=random, dtype=torch.float64)

    data = ImageSet(images(clusters), classes[clusters])
    asked = torch.arange(8) % NUM_CLUSTERS
    queries = Queries(images(asked), classes[asked], tuple(map(str, range(8))))
    info = DataInfo((1, 2, 2), CLASSES, (0.0,), (1.0,), ("a", "b", "c"))
    network, initial = build_network(
        lambda _: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES)), info, 0, torch.device("cpu")
    )
    network.module.double()
    trajectory = {0: {name: each.double() for name, each in initial.items()}}
    training = Training(weight_decay=DECAY)
    found = Regression(workspace_of(network, trajectory, data, Partition(clusters, classes), training), queries)
    best = found.optimum(torch.ones(NUM_TRAIN, dtype=torch.float64))
    for epoch, weights in {1: 0.8 * best, 2: best}.items():
        trajectory[epoch] = {"1.weight": weights[:-CLASSES].view(CLASSES, -1), "1.bias": weights[-CLASSES:]}
    return found


@cache
def retrained_digits() -> tuple[Workspace, Queries, Tensor]:
    """A ConvNet on some of the handwritten digits, and how 40 others' margins change without each cluster, (N, K).

    All networks start alike and see the same batches, so that they differ by the deletion alone.
    """
    splits = digits.load()
    data = splits.train.take(torch.arange(240))
    order = data.labels.argsort(stable=True)
    clusters = torch.empty(240, dtype=torch.int64)
    clusters[order] = torch.arange(240) // 12
    classes = torch.stack([data.labels[clusters == k].mode().values for k in range(20)])
    partition, training = Partition(clusters, classes), Training(epochs=12, lr=0.1, batch_size=24)
    build = partial(convnet.build, width=8, depth=1, norm="group", groups=2)
    network, initial = build_network(build, splits.info, 0, torch.device("cpu"))
    present = torch.ones(21, 240)
    present[1 + clusters, torch.arange(240)] = 0
    trajectory, queries = {0: initial}, splits.test.take(torch.arange(40))
    for state in train(network, start(initial, 21), data, present, training, 0):
        trajectory[state.epoch] = {name: each.clone() for name, each in take(state.parameters, 0).items()}
    reference = Reference(queries.images, queries.labels, torch.zeros(40, 10), splits.info)
    margins = torch.stack([margin(each, reference)[:, 0] for each in network.logits(state.parameters, queries.images)])
    workspace = workspace_of(network, trajectory, data, partition, training)
    asked = Queries(queries.images, queries.labels, tuple(map(str, range(40))))
    return workspace, asked, (margins[1:] - margins[0]).T.double()


def correlation(found: Tensor, wanted: Tensor) -> float:
    """Pearson's, over all entries."""
    return float(torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1])
