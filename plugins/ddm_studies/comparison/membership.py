"""Membership inference attacks: deciding which images a network was trained on."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from ddm_framework import ImageSet
from ddm_framework.network import Network, Parameters

SPLITS = 20
"""Number of random splits that an advantage is averaged over."""


def losses(network: Network, parameters: Parameters, images: ImageSet) -> Tensor:
    """Cross entropy (N,) of one network on each image, float64."""
    logits = network.logits_of(parameters, images.images).double().cpu()
    return F.cross_entropy(logits, images.labels.cpu(), reduction="none")


def advantage(members: Tensor, others: Tensor, generator: torch.Generator, splits: int = SPLITS) -> float:
    """Advantage of the attack that classifies an image as a member if its loss is at most a threshold.

    The threshold is fitted on a random half of members and others, and the advantage (true minus false positive rate)
    is measured on the other half. This is done in both directions and averaged over several splits, so that the
    advantage is about 0 where losses carry no information.

    Args:
        members: losses (N,) of images that the network may have been trained on.
        others: losses (M,) of images that it was not trained on.
        generator: draws the halves.
        splits: number of splits to average over.
    Returns:
        Between -1 and 1: 1 where every member's loss is below every other's, about 0 where the losses are distributed
        alike.
    Raises:
        ValueError: if there are fewer than two members or others, or a loss is NaN.
    Source: Yeom et al. 2018, "Privacy risk in machine learning".
    """
    members, others = _checked(members, others)
    found = []
    for _ in range(splits):
        halves = [torch.randperm(len(each), generator=generator).tensor_split(2) for each in (members, others)]
        for fit, judged in ((0, 1), (1, 0)):
            threshold = best_threshold(members[halves[0][fit]], others[halves[1][fit]])
            caught = members[halves[0][judged]] <= threshold
            wrong = others[halves[1][judged]] <= threshold
            found.append(float(caught.double().mean() - wrong.double().mean()))
    return float(np.mean(found))


def best_threshold(members: Tensor, others: Tensor) -> float:
    """The loss at or below which an image is classified as a member; -infinity (none is) where nothing is better.

    It lies half-way to the next larger observed loss.
    """
    seen = torch.cat([members, others])
    truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))]).numpy()
    false, true, thresholds = roc_curve(truth, -seen.numpy(), drop_intermediate=False)
    chosen = -float(thresholds[int(np.argmax(true - false))])  # of equals the first, which is the strictest
    above = seen[seen > chosen]
    return (chosen + float(above.min())) / 2 if len(above) else chosen


def auc(members: Tensor, others: Tensor) -> float:
    """Area under the ROC curve: share of (member, other) pairs with the larger score for the member; ties count half.

    Raises:
        ValueError: if there are fewer than two members or others, or a score is NaN.
    """
    members, others = _checked(members, others)
    truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))]).numpy()
    return float(roc_auc_score(truth, torch.cat([members, others]).numpy()))


def auc_interval(
    members: Tensor, others: Tensor, generator: torch.Generator, resamples: int = 200
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the AUC; members and others are resampled separately."""
    members, others = _checked(members, others)
    drawn = [
        auc(*(each[torch.randint(len(each), (len(each),), generator=generator)] for each in (members, others)))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _checked(members: Tensor, others: Tensor) -> list[Tensor]:
    values = [each.detach().double().cpu() for each in (members, others)]
    for name, each in zip(("members", "others"), values, strict=True):
        if each.ndim != 1 or len(each) < 2:
            raise ValueError(f"at least two {name} are needed, in one dimension; the shape is {tuple(each.shape)}")
        if torch.isnan(each).any():
            raise ValueError(f"{name} hold NaN")
    return values
