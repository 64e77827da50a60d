"""Do synthetic images show the training data, those of ordinary and of reverse matching side by side (Fig. 4, 5)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from scipy.stats import binomtest, mannwhitneyu, norm
from torch import Tensor

from ddm_framework import DDMError, Report, figures
from ddm_framework.bank import retrained
from ddm_framework.data import DataInfo
from ddm_framework.images import Images, taken
from ddm_framework.matching import start_images
from ddm_framework.membership import auc, auc_interval
from ddm_framework.networks import Parameters, take
from ddm_framework.reports import Block, Chart, Pictures, Section, Text
from ddm_framework.variants import variant
from ddm_framework.workspace import Workspace
from ddm_studies.ordinary import Labels, ordinary_match
from ddm_studies.paper import Compared, Comparison, sizes

Count = Annotated[int, Field(ge=1)]
Init = Literal["real", "noise"]
BLOCK = 1024
"""Images whose distances are taken at a time."""
TINY = float(torch.finfo(torch.float32).tiny)
COLUMNS = {
    "relative_distance": "distance to the nearest training image, 1 = a test image's",
    "seed_is_nearest": "nearest training image is the start, %",
    "own_cluster_nearest": "nearest training image is in its own cluster, %",
    "correlation": "highest correlation with a member of its cluster",
    "accuracy_target": "classified as its cluster's class by the target, %",
    "accuracy_independent": "the same by an independent network, %",
    "seed_rank": "the start is nearer than another member of its cluster, share of the others",
    "auc_training": "AUC: training told from test images",
}
NOTES = {
    "seed_is_nearest": "{seed_is_nearest_by_chance:.2g} by chance",
    "own_cluster_nearest": "{own_cluster_by_chance:.2g} by chance",
    "correlation": "{correlation_by_chance:.2g} with as many images of other clusters",
    "accuracy_target": "{accuracy_by_chance:.2g} by chance",
    "accuracy_independent": "{accuracy_by_chance:.2g} by chance",
    "seed_rank": "0.5 by chance",
    "auc_training": "0.5 by chance",
}
"""What each figure would be if synthetic images showed nothing."""
LEVEL = 0.05
"""Probability of naming any leak where there is none, over all tests of a report."""


@dataclass(frozen=True, slots=True)
class Released:
    """Synthetic images that might be released.

    Attributes:
        name: of what made them.
        kind: `reverse`, `ordinary` or `start`, the images before any matching.
        init: what they were started from.
        images: network inputs (K, M, C, H, W).
    """

    name: str
    kind: str
    init: str
    images: Tensor


@dataclass(frozen=True, slots=True)
class Attacked:
    """What attacks need of the data, computed once.

    Attributes:
        test: pixels (M, D) of test images.
        training: pixels (M, D) of training images drawn at random.
        seeds: positions (K, M) of the training images that synthetic ones were started from.
        natural: median distance of a test image to the nearest training image.
        networks: of whom classification is asked, by column.
    """

    test: Tensor
    training: Tensor
    seeds: Tensor
    natural: float
    networks: Mapping[str, Parameters]


def run(
    workspace: Workspace,
    /,
    *,
    figure: Literal["Fig. 4", "Fig. 5"] = "Fig. 4",
    inits: Annotated[list[Init], Field(min_length=1)] = ["real", "noise"],  # noqa: B006 - pydantic copies it
    labels: Labels = "hard",
    show: Count = 3,
    images: Annotated[int, Field(ge=10)] = 2000,
    independent: bool = True,
    resamples: Annotated[int, Field(ge=50)] = 200,
) -> Report:
    """Show synthetic images of both kinds of matching, and measure what they give away.

    The claim is tested by three attacks: is the start of a synthetic image the training image that is nearest to it, is
    it nearer than other members of its cluster, and are training images nearer to the synset than test images are? The
    first two need `init: real`. A start was drawn at random from its cluster, so that chance is known exactly.

    Args:
        workspace: the run.
        figure: of the paper.
        inits: what synthetic images are started from, each in turn: `init: real` starts from training images.
        labels: of the ordinarily matched images.
        show: classes that are shown.
        images: training and test images that the attack on membership is measured on, at most, of each.
        independent: ask a network trained from another start too; one retraining.
        resamples: of each bootstrap interval.
    Raises:
        DDMError: for a target that was trained elsewhere, unless `independent: false`.
    Source: Fig. 4, Fig. 5, Sec. 4.3, "DDM meets the privacy protection demand".
    """
    if len(set(inits)) < len(inits):
        raise DDMError("study.inits names one start twice")
    attacked = _attacked(workspace, images, independent)
    released = [each for init in inits for each in _released(workspace, init, labels)]
    with workspace.display.bar("attacks on synthetic images", len(released)) as advance:
        found = {}
        for each in released:
            found[each.name] = _measured(workspace, each, attacked, resamples)
            advance()
    comparison = Comparison(
        figure,
        "what synthetic images show of the training data",
        [each for name in found for each in _compared(name, found[name])],
        list(_sentences(found, inits, labels)),
        sizes(workspace),
    )
    return Report(
        sections=[comparison.section(_chart(found)), _picture_section(workspace, released, show)],
        metrics={**comparison.metrics(), "privacy": {**found, "natural_distance": attacked.natural}},
        question="Could the synset be released in the place of the data, as the paper proposes?",
        answer=comparison.sentences[-1],
    )


def _released(workspace: Workspace, init: Init, labels: Labels) -> list[Released]:
    """The starts, and what each kind of matching makes of them."""
    own = workspace.recipe.matching.init == init
    reverse = workspace if own else variant(workspace, f"reverse_{init}", matching={"init": init})
    return [
        Released(f"start ({init})", "start", init, _starts(workspace, init)),
        Released(
            f"ordinary matching ({init})", "ordinary", init, ordinary_match(workspace, labels, init).synset.images
        ),
        Released(f"DDM ({init})", "reverse", init, reverse.synset.images),
    ]


def _starts(workspace: Workspace, init: str) -> Tensor:
    """What synthetic images looked like before any matching, (K, M, C, H, W)."""
    partition, recipe = workspace.partition, workspace.recipe
    settings = recipe.matching.model_copy(update={"init": init})
    whole, data = slice(0, partition.num_clusters), workspace.data.train
    return start_images(data, partition, whole, workspace.info.num_classes, settings, recipe.general.seed)[0]


def _attacked(workspace: Workspace, most: int, independent: bool) -> Attacked:
    data, info = workspace.data, workspace.info
    drawn = [
        torch.randperm(len(each), generator=workspace.generator("privacy", name))[:most].to(each.labels.device)
        for name, each in (("test", data.test), ("train", data.train))
    ]
    test, training = pixels(taken(data.test.images, drawn[0]), info), pixels(taken(data.train.images, drawn[1]), info)
    networks = {"accuracy_target": workspace.target}
    if independent:
        everything = torch.ones(1, workspace.partition.num_clusters)
        networks["accuracy_independent"] = take(
            retrained(workspace, everything, coupling="independent").load(slice(0, 1)), 0
        )
    natural = float(nearest(test, data.train.images, info)[0].median())
    return Attacked(test, training, _seeds(workspace), natural, networks)


def _seeds(workspace: Workspace) -> Tensor:
    """Positions (K, M) of the training images that `init: real` starts from."""
    starts, partition, found = _starts(workspace, "real"), workspace.partition, []
    for cluster, images in enumerate(starts):
        members = partition.members(cluster)
        own = workspace.data.train.images[members].flatten(1)
        apart = torch.cdist(images.flatten(1), own, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(members[apart.argmin(1)])
    return torch.stack(found)


def pixels(images: Images, info: DataInfo) -> Tensor:
    """Pixels (N, D) of network inputs (N, C, H, W), float32, not clamped: a released image is not either."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (info.mean, info.std))
    parts = [each * std.to(each.device) + mean.to(each.device) for each in images.split(BLOCK)]
    return torch.cat(parts).flatten(1)


def nearest(queries: Tensor, images: Images, info: DataInfo) -> tuple[Tensor, Tensor]:
    """The nearest image to each query: root mean square difference of the pixels (Q,), and its position int64 (Q,).

    Args:
        queries: pixels (Q, D).
        images: network inputs (N, C, H, W), looked at a block at a time.
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
    """Pearson's correlation (N, M) of the pixels of images (N, D) with those of others (M, D); constant ones give 0."""
    rows = [each - each.mean(1, keepdim=True) for each in (one, other)]
    first, second = (each / each.norm(dim=1, keepdim=True).clamp_min(TINY) for each in rows)
    found: Tensor = first @ second.T
    return found


def _measured(workspace: Workspace, released: Released, attacked: Attacked, resamples: int) -> dict[str, Any]:
    """The figures of one kind of image, those of the start only where it was real; `<figure>_p` where it is tested."""
    info, partition, train = workspace.info, workspace.partition, workspace.data.train
    made = pixels(released.images.flatten(0, 1), info)
    count = released.images.shape[1]
    owners = torch.arange(partition.num_clusters, device=made.device).repeat_interleave(count)
    random = workspace.generator("bootstrap", "privacy", released.name)
    distance, where = nearest(made, train.images, info)
    own = partition.clusters[where] == owners
    found: dict[str, Any] = {
        "nearest_distance": float(distance.median()),
        "relative_distance": float(distance.median()) / max(attacked.natural, TINY),
        **_share("own_cluster_nearest", own),
        "own_cluster_by_chance": 100 / partition.num_clusters,
        **_correlation_figures(workspace, released.images, random, resamples),
        "accuracy_by_chance": 100 / info.num_classes,
    }
    for name, parameters in attacked.networks.items():
        logits = workspace.network.logits_of(parameters, released.images.flatten(0, 1))
        found |= _share(name, logits.argmax(1) == partition.classes[owners])
    if released.init == "real":
        found |= _seed_nearest(where == attacked.seeds.flatten(), own, partition.sizes[owners])
        found |= _seed_rank(*seed_ranks(workspace, released.images, attacked.seeds), random, resamples)
    return found | _attack("auc_training", attacked.training, attacked.test, made, random, resamples)


def _share(name: str, right: Tensor) -> dict[str, Any]:
    """Per cent of synthetic images, with Wilson's interval over them."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return {name: 100 * float(right.double().mean()), f"{name}_interval": [100 * float(end) for end in interval]}


def _seed_nearest(right: Tensor, own: Tensor, sizes: Tensor) -> dict[str, Any]:
    """How often the nearest training image is the start.

    Where the nearest is a member of the image's own cluster of n, which the cluster alone may explain, it is the start
    by chance once in n times. The binomial test at the mean of these chances errs on the careful side.

    Args:
        right, own: (K * M,), whether the nearest training image is the start, or else in the same cluster.
        sizes: (K * M,), of that cluster.
    """
    chance = 1 / sizes[own].double()
    tested = len(chance) > 0
    return {
        **_share("seed_is_nearest", right),
        "seed_is_nearest_count": int(right.sum()),
        "seed_is_nearest_of": len(right),
        "seed_is_nearest_by_chance": 100 * float(chance.sum()) / len(right),
        "seed_is_nearest_p": (
            float(binomtest(int(right.sum()), len(chance), min(float(chance.mean()), 1.0), "greater").pvalue)
            if tested
            else 1.0
        ),
    }


def seed_ranks(workspace: Workspace, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Where the start of each synthetic image stands among the members of its cluster, by the distance to the image.

    Args:
        images: (K, M, C, H, W).
        seeds: positions (K, M) of their starts in the training split.
    Returns:
        Share of the cluster's other members that are farther away than the start, ties counting half, float64 in
        [0, 1]; and its variance if all members are equally likely to stand at each place, (n + 1) / (12 (n - 1)).
        Images of clusters of one are left out.
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


def _seed_rank(values: Tensor, variances: Tensor, random: torch.Generator, resamples: int) -> dict[str, Any]:
    if len(values) < 2:
        return {}
    above = float((values - 0.5).sum() / variances.sum().sqrt())
    interval = figures.bootstrap_interval(values, random, resamples=resamples)
    return {
        "seed_rank": float(values.mean()),
        "seed_rank_interval": list(interval),
        "seed_rank_p": float(norm.sf(above)),
    }


def _correlation_figures(
    workspace: Workspace, images: Tensor, random: torch.Generator, resamples: int
) -> dict[str, Any]:
    """Highest correlation with a member of its cluster, and its floor: with as many random images of other clusters."""
    info, partition, train = workspace.info, workspace.partition, workspace.data.train
    highest: list[Tensor] = []
    floor: list[Tensor] = []
    for cluster, made in enumerate(images):
        members, others = partition.members(cluster), (partition.clusters != cluster).nonzero()[:, 0]
        drawn = others[torch.randperm(len(others), generator=random)[: len(members)].to(others.device)]
        for found, chosen in ((highest, members), (floor, drawn)):
            found.append(correlation(pixels(made, info), pixels(train.images[chosen], info)).amax(1))
    values = torch.cat(highest).cpu()
    return {
        "correlation": float(values.mean()),
        "correlation_interval": list(figures.bootstrap_interval(values, random, resamples=resamples)),
        "correlation_by_chance": float(torch.cat(floor).mean()),
    }


def _attack(
    name: str, members: Tensor, others: Tensor, made: Tensor, random: torch.Generator, resamples: int
) -> dict[str, Any]:
    """An image is taken for a member the more, the nearer it is to some synthetic image."""
    if min(len(members), len(others)) < 2:
        return {}
    inside, outside = (
        -torch.cat([torch.cdist(part, made).amin(1) for part in each.split(BLOCK)]) for each in (members, others)
    )
    interval = auc_interval(inside, outside, random, resamples)
    above = mannwhitneyu(inside.double().cpu().numpy(), outside.double().cpu().numpy(), alternative="greater")
    return {name: auc(inside, outside), f"{name}_interval": list(interval), f"{name}_p": float(above.pvalue)}


def _compared(name: str, found: Mapping[str, Any]) -> Iterator[Compared]:
    for column, title in COLUMNS.items():
        if column in found:
            interval = found.get(f"{column}_interval")
            note = NOTES.get(column, "").format(**found)
            yield Compared(name, title, found[column], None, tuple(interval) if interval else None, note)


def _sentences(found: Mapping[str, Mapping[str, Any]], inits: Sequence[Init], labels: str) -> Iterator[str]:
    yield (
        "The paper shows pictures and measures nothing, so no number of its own stands beside these. Ordinary matching"
        + (" keeps the classes' own labels." if labels == "hard" else " learns its labels, as DDM does.")
    )
    for init in inits:
        yield _side_by_side(init, found[f"DDM ({init})"], found[f"ordinary matching ({init})"])
    yield _verdict({init: found[f"DDM ({init})"] for init in inits})


def _side_by_side(init: str, ddm: Mapping[str, Any], ordinary: Mapping[str, Any]) -> str:
    started = "training images" if init == "real" else "noise"
    said = (
        f"Started from {started}, DDM's images lie {ddm['relative_distance']:.2g} times as far from the nearest"
        f" training image as a test image does (ordinary matching {ordinary['relative_distance']:.2g}), correlate with"
        f" a member of their cluster by {ddm['correlation']:.2f} ({ordinary['correlation']:.2f}; with images of other"
        f" clusters by {ddm['correlation_by_chance']:.2f} ({ordinary['correlation_by_chance']:.2f})), and the target"
        f" sees their cluster's class in {ddm['accuracy_target']:.0f}% of them ({ordinary['accuracy_target']:.0f}%;"
        f" {ddm['accuracy_by_chance']:.0f}% by chance)"
    )
    if init == "real":
        said += (
            f"; the very training image that seeded them is the nearest for {ddm['seed_is_nearest']:.0f}%"
            f" ({ordinary['seed_is_nearest']:.0f}%; {ddm['seed_is_nearest_by_chance']:.2g}% by chance)"
        )
    return said + "."


def _verdict(by_init: Mapping[str, Mapping[str, Any]]) -> str:
    num_tests = sum(name.endswith("_p") for ddm in by_init.values() for name in ddm)
    parts = []
    for init, ddm in by_init.items():
        reasons = list(_leaks(ddm, LEVEL / max(num_tests, 1)))
        started = "from training images" if init == "real" else "from noise"
        parts.append(
            f"started {started} it does not hold: {', and '.join(reasons)}"
            if reasons
            else f"started {started} none of these attacks contradicts it"
        )
    return (
        "The paper's claim that the synset may be released without revealing training images: "
        + "; ".join(parts)
        + f" (each of {num_tests} tests at {LEVEL:g} / {num_tests}). Attacks that know more than these were not tried,"
        " and no such attack failing is a proof of privacy."
    )


def _leaks(ddm: Mapping[str, Any], level: float) -> Iterator[str]:
    """What speaks against a release: what chance explains with a probability below a level."""
    if ddm.get("seed_is_nearest_p", 1.0) < level:
        yield (
            f"{ddm['seed_is_nearest_count']} of {ddm['seed_is_nearest_of']} images lead to the training image that they"
            " started from"
        )
    if ddm.get("seed_rank_p", 1.0) < level:
        yield f"a start is nearer to its image than {ddm['seed_rank']:.1%} of its cluster's other members, in the mean"
    if ddm.get("auc_training_p", 1.0) < level:
        yield f"training images are told from test images with an AUC of {ddm['auc_training']:.2f}"


def _chart(found: Mapping[str, Mapping[str, Any]]) -> Block:
    series = {
        "correlation with a member": [each["correlation"] for each in found.values()],
        "target sees its class": [each["accuracy_target"] / 100 for each in found.values()],
    }
    return Chart("bar", series, "", "0 = nothing of a training image", list(found), "What synthetic images show")


def _picture_section(workspace: Workspace, released: Sequence[Released], show: int) -> Section:
    """One column a cluster: its real start, then what each matching made of each start."""
    shown = [each for each in released if each.kind != "start"]
    kinds = ", ".join(each.name for each in shown)
    seeds, names = _starts(workspace, "real")[:, 0].cpu(), workspace.info.class_names
    blocks: list[Block] = [Text(f"In each group: a training image of the cluster, then {kinds}.")]
    for label in range(min(show, len(names))):
        clusters = workspace.partition.of_class(label).cpu()
        columns = torch.stack([seeds[clusters], *(each.images[:, 0].cpu()[clusters] for each in shown)], 1)
        captions = [f"{names[label]} · cluster {cluster}" for cluster in clusters.tolist()]
        blocks.append(Pictures(columns.flatten(0, 1), captions, f"Class {names[label]}", group=columns.shape[1]))
    return Section("The images", blocks)
