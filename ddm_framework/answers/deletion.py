"""What would the network be without some training data? The estimated network, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ddm_framework.answers.class_names import class_id
from ddm_framework.data import Images
from ddm_framework.errors import DDMError
from ddm_framework.network import Parameters, take
from ddm_framework.report.notebook import html_table
from ddm_framework.runs import Workspace


@dataclass(frozen=True)
class Without:
    """The network without some training data, as the recipe's `online` estimates it.

    Attributes:
        workspace: of the run.
        kept: share of each cluster that is kept, float32 (K,).
        parameters: of the network.
        left_out: training samples that are left out, bool (N,).
    """

    workspace: Workspace
    kept: Tensor
    parameters: Parameters
    left_out: Tensor

    @cached_property
    def module(self) -> nn.Module:
        """The backbone with these weights, in evaluation mode."""
        return self.workspace.module(self.parameters)

    def logits(self, images: Images) -> Tensor:
        """Logits (N, classes) of network inputs (N, C, H, W)."""
        stack = {name: each[None] for name, each in self.parameters.items()}
        return self.workspace.stack_logits(stack, images.to(self.workspace.device))[0]

    def predict(self, images: Images) -> Tensor:
        """Probabilities (N, classes) of network inputs (N, C, H, W)."""
        return self.logits(images).softmax(1)

    def measure(self, objective: str, split: str = "test", **options: Any) -> Tensor:
        """Behaviours (N, m) on the `test` or `validation` split, or (1, m) of a set-level objective.

        Args:
            objective: its name.
            split: of the data.
            options: of the objective.
        """
        queries = self.workspace.queries_of(split)
        chosen = self.workspace.objective(objective, **options)
        return chosen.measure(self.logits(queries.images), self.workspace.reference(queries))

    @cached_property
    def test_logits(self) -> Tensor:
        """Logits (N, classes) of the test images."""
        return self.logits(self.workspace.data.test.images)

    @cached_property
    def accuracy(self) -> float:
        """Share of the test images that the network classifies correctly."""
        return float(self._right.mean())

    @cached_property
    def accuracy_by_class(self) -> Tensor:
        """The same for the test images of each class, float64 (classes,); NaN where a class has none."""
        labels, count = self.workspace.data.test.labels, self.workspace.info.num_classes
        right = torch.zeros(count, dtype=torch.float64, device=labels.device).index_add(0, labels, self._right)
        return (right / labels.bincount(minlength=count)).cpu()

    @cached_property
    def changed(self) -> Tensor:
        """Test images for which it predicts another class than the target, ascending, int64."""
        before = self.workspace.target_logits(self.workspace.data.test.images).argmax(1)
        return (self.test_logits.argmax(1) != before).nonzero()[:, 0].cpu()

    def _repr_html_(self) -> str:
        gone, test = int(self.left_out.sum()), len(self.workspace.data.test)
        before = self.workspace.accuracy_of(self.workspace.target, self.workspace.data.test)
        rows = [
            ("test accuracy", self.accuracy),
            ("before", before),
            ("test images read otherwise", f"{len(self.changed)} of {test}"),
        ]
        return html_table(f"without {gone} of {len(self.left_out)} training images", [], rows)

    @property
    def _right(self) -> Tensor:
        return (self.test_logits.argmax(1) == self.workspace.data.test.labels).double()


def without(
    workspace: Workspace,
    clusters: Sequence[int] = (),
    classes: Sequence[int | str] = (),
    samples: Sequence[int] = (),
) -> Without:
    """Estimate the network without clusters, classes and samples, all of them together.

    Of a cluster that is deleted in part, the synset's step is taken by that share; a replay (`online.replay`) leaves
    out exactly the samples that are named.

    Args:
        workspace: of a finished run.
        clusters: ids from 0 to K - 1.
        classes: names or labels.
        samples: positions in the training split, from 0 to N - 1.
    Raises:
        DDMError: for a cluster, class or sample that does not exist, or if everything would be left out.
    """
    gone = left_out(workspace, clusters, classes, samples)
    kept = share_kept(workspace, gone)
    rows = workspace.perturbed(kept[None], workspace.synset, kept=(~gone).float()[None])
    return Without(workspace, kept, take(next(rows)[1], 0), gone)


def left_out(
    workspace: Workspace,
    clusters: Sequence[int] = (),
    classes: Sequence[int | str] = (),
    samples: Sequence[int] = (),
) -> Tensor:
    """Training samples that belong to clusters, classes or samples, bool (N,).

    Args:
        workspace: of a run.
        clusters: ids from 0 to K - 1.
        classes: names or labels.
        samples: positions in the training split, from 0 to N - 1.
    Raises:
        DDMError: for a cluster, class or sample that does not exist, or if these are all samples.
    """
    partition = workspace.partition
    members = partition.clusters.cpu()
    _among("cluster", clusters, partition.num_clusters)
    _among("sample", samples, len(members))
    gone = torch.isin(members, torch.tensor([*clusters], dtype=torch.int64))
    labels = torch.tensor([class_id(each, workspace.info.class_names) for each in classes], dtype=torch.int64)
    gone |= torch.isin(partition.classes.cpu()[members], labels)
    gone[torch.tensor([*samples], dtype=torch.int64)] = True
    if gone.all():
        raise DDMError("nothing would be left to train on; leave out less")
    return gone


def share_kept(workspace: Workspace, left_out: Tensor) -> Tensor:
    """Share of each cluster that stays without some training samples, bool (N,); float32 (K,)."""
    partition = workspace.partition
    members, count = partition.clusters.cpu(), partition.num_clusters
    return torch.zeros(count).index_add(0, members, (~left_out).float()) / members.bincount(minlength=count)


def _among(what: str, ids: Sequence[int], count: int) -> None:
    if wrong := [each for each in ids if not 0 <= each < count]:
        raise DDMError(f"there is no {what} {wrong[0]}; {what}s are 0 to {count - 1}")
