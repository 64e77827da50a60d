"""Attacks on a synset: what it reveals of the training images that it was made from (Fig. 4, 5)."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import binomtest, mannwhitneyu, norm
from torch import Tensor

from ddm_framework import DataInfo, Workspace
from ddm_framework.data import Images
from ddm_studies.comparison.measured import Measured, bootstrapped
from ddm_studies.comparison.membership import auc, auc_interval

BLOCK = 1024
"""Images per distance computation."""
TINY = float(torch.finfo(torch.float32).tiny)


def pixels(images: Images, info: DataInfo) -> Tensor:
    """Pixels (N, D) of network inputs (N, C, H, W), float32; not clamped, as released images are not either."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (info.mean, info.std))
    parts = [each * std.to(each.device) + mean.to(each.device) for each in images.split(BLOCK)]
    return torch.cat(parts).flatten(1)


def nearest(queries: Tensor, images: Images, info: DataInfo) -> tuple[Tensor, Tensor]:
    """The nearest image to each query: root mean square difference of the pixels (Q,), and its position int64 (Q,).

    Args:
        queries: pixels (Q, D).
        images: network inputs (N, C, H, W), processed in blocks.
        info: of the data.
    """
    best = queries.new_full((len(queries),), float("inf"))
    where = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    begun = 0
    for block in images.split(BLOCK):
        distance, index = torch.cdist(queries, pixels(block, info)).min(1)
        closer = distance < best
        best, where = torch.where(closer, distance, best), torch.where(closer, index + begun, where)
        begun += len(block)
    return best / queries.shape[1] ** 0.5, where


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation (N, M) between the pixels of images (N, D) and of others (M, D); 0 for constant images."""
    rows = [each - each.mean(1, keepdim=True) for each in (one, other)]
    first, second = (each / each.norm(dim=1, keepdim=True).clamp_min(TINY) for each in rows)
    found: Tensor = first @ second.T
    return found


def share(name: str, right: Tensor) -> dict[str, Any]:
    """Percentage of the synthetic images for which something holds, with Wilson's interval."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    low, high = (100 * float(end) for end in interval)
    return Measured(100 * float(right.double().mean()), (low, high)).metrics(name)


def seed_nearest(right: Tensor, own: Tensor, sizes: Tensor) -> dict[str, Any]:
    """How often the training image nearest to a synthetic image is the one that it was started from.

    The nearest image may belong to the own cluster, of n members, only because of the match to this cluster. Then it is
    the start by chance with probability 1/n. The binomial test at the mean of these probabilities is conservative.

    Args:
        right, own: (K * M,), whether the nearest training image is the start, and whether it is in the same cluster.
        sizes: (K * M,), of that cluster.
    """
    chance = 1 / sizes[own].double()
    p_value = 1.0
    if len(chance):
        p_value = float(binomtest(int(right.sum()), len(chance), min(float(chance.mean()), 1.0), "greater").pvalue)
    return {
        **share("seed_is_nearest", right),
        "seed_is_nearest_count": int(right.sum()),
        "seed_is_nearest_of": len(right),
        "seed_is_nearest_by_chance": 100 * float(chance.sum()) / len(right),
        "seed_is_nearest_p": p_value,
    }


def seed_ranks(workspace: Workspace, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of each synthetic image's start among the members of its cluster, by distance to the image.

    Args:
        images: (K, M, C, H, W).
        seeds: positions (K, M) of their starts in the training split.
    Returns:
        The share of the cluster's other members that are farther away than the start, ties counting half, float64 in
        [0, 1]; and the variance of this share if every rank is equally likely, (n + 1) / (12 (n - 1)). Images of
        clusters with one member are left out.
    """
    info, train, values, variances = workspace.info, workspace.data.train, [], []
    for cluster, (made, start) in enumerate(zip(images, seeds, strict=True)):
        members = workspace.partition.members(cluster)
        if len(members) < 2:
            continue
        apart = torch.cdist(pixels(made, info), pixels(train.images[members], info)).double()
        at = apart.gather(1, (members == start[:, None]).int().argmax(1, keepdim=True))
        farther, level = (apart > at).sum(1), (apart == at).sum(1) - 1
        values.append((farther + level / 2).double() / (len(members) - 1))
        variances.append(torch.full_like(values[-1], (len(members) + 1) / (12 * (len(members) - 1))))
    if not values:
        return torch.zeros(0).double(), torch.zeros(0).double()
    return torch.cat(values).cpu(), torch.cat(variances).cpu()


def seed_rank(values: Tensor, variances: Tensor, random: torch.Generator, resamples: int) -> dict[str, Any]:
    """Mean of the ranks of `seed_ranks`, with its interval and the p-value of a test against 0.5."""
    if len(values) < 2:
        return {}
    above = float((values - 0.5).sum() / variances.sum().sqrt())
    return {
        **bootstrapped(values, random, resamples=resamples).metrics("seed_rank"),
        "seed_rank_p": float(norm.sf(above)),
    }


def nearness_attack(
    name: str, members: Tensor, others: Tensor, made: Tensor, random: torch.Generator, resamples: int
) -> dict[str, Any]:
    """Membership attack whose score is the nearness of an image to the nearest synthetic image."""
    if min(len(members), len(others)) < 2:
        return {}
    inside, outside = (
        -torch.cat([torch.cdist(part, made).amin(1) for part in each.split(BLOCK)]) for each in (members, others)
    )
    interval = auc_interval(inside, outside, random, resamples)
    above = mannwhitneyu(inside.double().cpu().numpy(), outside.double().cpu().numpy(), alternative="greater")
    return {**Measured(auc(inside, outside), interval).metrics(name), f"{name}_p": float(above.pvalue)}
