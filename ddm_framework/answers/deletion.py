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
from ddm_framework.runs import Workspace


@dataclass(frozen=True)
class Without:
    """The network without some training data, as the recipe's `online` estimates it.

    Attributes:
        workspace: of the run.
        kept: share of each cluster that is kept, float32 (K,).
        parameters: of the network.
    """

    workspace: Workspace
    kept: Tensor
    parameters: Parameters

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
    def accuracy(self) -> float:
        """Share of the test images that the network classifies correctly."""
        test = self.workspace.data.test
        return float((self._said == test.labels).double().mean())

    @cached_property
    def changed(self) -> Tensor:
        """Test images for which it predicts another class than the target, ascending, int64."""
        before = self.workspace.target_logits(self.workspace.data.test.images).argmax(1)
        return (self._said != before).nonzero()[:, 0].cpu()

    @cached_property
    def _said(self) -> Tensor:
        return self.logits(self.workspace.data.test.images).argmax(1)


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
    partition = workspace.partition
    members, count = partition.clusters.cpu(), partition.num_clusters
    _among("cluster", clusters, count)
    _among("sample", samples, len(members))
    gone = torch.isin(members, torch.tensor([*clusters], dtype=torch.int64))
    labels = torch.tensor([class_id(each, workspace.info.class_names) for each in classes], dtype=torch.int64)
    gone |= torch.isin(partition.classes.cpu()[members], labels)
    gone[torch.tensor([*samples], dtype=torch.int64)] = True
    if gone.all():
        raise DDMError("nothing would be left to train on; leave out less")
    kept = (~gone).float()
    share = torch.zeros(count).index_add(0, members, kept) / members.bincount(minlength=count)
    rows = workspace.perturbed(share[None], workspace.synset, kept=kept[None])
    return Without(workspace, share, take(next(rows)[1], 0))


def _among(what: str, ids: Sequence[int], count: int) -> None:
    if wrong := [each for each in ids if not 0 <= each < count]:
        raise DDMError(f"there is no {what} {wrong[0]}; {what}s are 0 to {count - 1}")
