"""Attacks on membership: can one tell which images a network was trained on?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from ddm_framework.data import ImageSet
from ddm_framework.network import Network, Parameters

SPLITS = 20
"""Random halves that an advantage is averaged over."""


def losses(network: Network, parameters: Parameters, images: ImageSet) -> Tensor:
    """Cross entropy (N,) of one network on each image, float64."""
    logits = network.logits_of(parameters, images.images).double().cpu()
    return F.cross_entropy(logits, images.labels.cpu(), reduction="none")


def advantage(members: Tensor, others: Tensor, generator: torch.Generator, splits: int = SPLITS) -> float:
    """Advantage of the attack that takes an image for a member if its loss is at most a threshold.

    The threshold is fit on a random half of both, the advantage (true minus false positive rate) measured on the
    other half, both ways round and over several splits, so that it is about 0 where losses tell nothing.

    Args:
        members: losses (N,) of images that the network may have been trained on.
        others: losses (M,) of images that it was not trained on.
        generator: draws the halves.
        splits: how many are averaged over.
    Returns:
        Between -1 and 1; 1 where every member's loss is below every other's, about 0 where they are alike.
    Raises:
        ValueError: if there are fewer than two of either, or a loss is NaN.
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
    """The loss at or below which an image is taken for a member; -infinity (none is) where nothing is better.

    It lies half-way to the next larger loss that was seen.
    """
    seen = torch.cat([members, others])
    truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))]).numpy()
    false, true, thresholds = roc_curve(truth, -seen.numpy(), drop_intermediate=False)
    chosen = -float(thresholds[int(np.argmax(true - false))])  # the first, and so the strictest, of equals
    above = seen[seen > chosen]
    return (chosen + float(above.min())) / 2 if len(above) else chosen


def auc(members: Tensor, others: Tensor) -> float:
    """Share of pairs of a member and another in which the member's score is the larger; ties count half.

    Raises:
        ValueError: if there are fewer than two of either, or a score is NaN.
    """
    members, others = _checked(members, others)
    truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))]).numpy()
    return float(roc_auc_score(truth, torch.cat([members, others]).numpy()))


def auc_interval(
    members: Tensor, others: Tensor, generator: torch.Generator, resamples: int = 200
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the AUC, over members and others, each resampled by itself."""
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
