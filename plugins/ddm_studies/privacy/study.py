"""What synthetic images of ordinary and of reverse matching reveal of the training data (Fig. 4, 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import Chart, DDMError, ImageSet, Pictures, Report, Section, Text, Workspace
from ddm_framework.data import taken
from ddm_framework.network import Parameters, take
from ddm_framework.offline import start_images
from ddm_framework.report import Block
from ddm_framework.stages import variant
from ddm_framework.truth import retrained
from ddm_studies.comparison.forward_matching import Labels, labels_in_words, ordinary_match
from ddm_studies.comparison.measured import Stored, bootstrapped
from ddm_studies.comparison.options import Count, Resamples
from ddm_studies.comparison.paper import Compared, Comparison, sizes
from ddm_studies.comparison.running import cluster_name, tracked
from ddm_studies.privacy import attacks
from ddm_studies.privacy.attacks import TINY, pixels, share
from ddm_studies.privacy.words import findings

Init = Literal["real", "noise"]
COLUMNS = {
    "relative_distance": ("distance to the nearest training image, 1 = a test image's", ""),
    "seed_is_nearest": ("nearest training image is the start, %", "{seed_is_nearest_by_chance:.2g} by chance"),
    "own_cluster_nearest": ("nearest training image is in its own cluster, %", "{own_cluster_by_chance:.2g} by chance"),
    "correlation": (
        "highest correlation with a member of its cluster",
        "{correlation_by_chance:.2g} with as many images of other clusters",
    ),
    "accuracy_target": ("classified as its cluster's class by the target, %", "{accuracy_by_chance:.2g} by chance"),
    "accuracy_independent": ("the same by an independent network, %", "{accuracy_by_chance:.2g} by chance"),
    "seed_rank": ("the start is nearer than another member of its cluster, share of the others", "0.5 by chance"),
    "auc_training": ("AUC: training told from test images", "0.5 by chance"),
}
"""Title of each figure, and its value if synthetic images revealed nothing."""


@dataclass(frozen=True, slots=True)
class Released:
    """Synthetic images that might be released.

    Attributes:
        name: of the set of images.
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
    """Data for the attacks, computed once.

    Attributes:
        test: pixels (M, D) of test images.
        training: pixels (M, D) of training images drawn at random.
        seeds: positions (K, M) of the training images that synthetic images were started from.
        natural: median distance of a test image to the nearest training image.
        networks: that classify the synthetic images, by column.
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
    images: Annotated[int, Field(ge=10, le=1_000_000)] = 2000,
    independent: bool = True,
    resamples: Resamples = 200,
) -> Report:
    """Show synthetic images of both kinds of matching, and measure what they reveal.

    The paper's claim of privacy is tested by three attacks. Is the training image nearest to a synthetic image the one
    that it was started from? Is this start nearer than other members of its cluster? Are training images nearer to the
    synset than test images? The first two need `init: real`. Starts are drawn at random from their clusters, so the
    probability of success by chance is known exactly. Figures without a test count too: where the interval of one lies
    above what images of no content would have, it contradicts the claim.

    Args:
        figure: of the paper.
        inits: what synthetic images are started from, each in turn; `real` starts from training images.
        labels: of the ordinarily matched images.
        show: number of classes to show.
        images: number of training images and of test images for the membership attack, at most.
        independent: also classify the synthetic images with a network trained from other initial weights; this takes
            one retraining.
        resamples: of each bootstrap interval.
    Raises:
        DDMError: if the target was trained elsewhere, unless `independent: false`.
    Source: Fig. 4, Fig. 5, Sec. 4.3, "DDM meets the privacy protection demand".
    """
    if len(set(inits)) < len(inits):
        raise DDMError("study.inits names one start twice")
    attacked = _attacked(workspace, images, independent)
    released = [each for init in inits for each in _released(workspace, init, labels)]
    found = {
        each.name: _measured(workspace, each, attacked, resamples)
        for each in tracked(workspace, "attacks on synthetic images", released, len(released))
    }
    stored = {**found, "natural_distance": attacked.natural, "inits": list(inits)}
    return Comparison(
        figure,
        "what synthetic images reveal of the training data",
        [each for name in found for each in _compared(name, found[name])],
        findings({"privacy": stored}),
        f"{sizes(workspace)}; ordinary matching with {labels_in_words(labels)}",
    ).report(
        "privacy",
        stored,
        "Could the synset be released instead of the data, as the paper proposes?",
        [_chart(found)],
        [_picture_section(workspace, released, show)],
    )


def _released(workspace: Workspace, init: Init, labels: Labels) -> list[Released]:
    """The starts, and the results of each kind of matching from them."""
    own = workspace.recipe.matching.init == init
    reverse = workspace if own else variant(workspace, f"reverse_{init}", matching={"init": init})
    ordinary = ordinary_match(workspace, labels, init)
    return [
        Released(f"start ({init})", "start", init, _starts(workspace, init)),
        Released(f"ordinary matching ({init})", "ordinary", init, ordinary.synset.images),
        Released(f"DDM ({init})", "reverse", init, reverse.synset.images),
    ]


def _starts(workspace: Workspace, init: str) -> Tensor:
    """Synthetic images before any matching, (K, M, C, H, W)."""
    recipe, whole = workspace.recipe, slice(0, workspace.partition.num_clusters)
    settings = recipe.matching.model_copy(update={"init": init})
    return start_images(workspace.divided, whole, workspace.info.num_classes, settings, recipe.general.seed)[0]


def _attacked(workspace: Workspace, most: int, independent: bool) -> Attacked:
    info, train = workspace.info, workspace.data.train

    def drawn(split: ImageSet, name: str) -> Tensor:
        chosen = torch.randperm(len(split), generator=workspace.generator("privacy", name))[:most]
        return pixels(taken(split.images, chosen.to(split.labels.device)), info)

    test, training = drawn(workspace.data.test, "test"), drawn(train, "train")
    networks = {"accuracy_target": workspace.target}
    if independent:
        everything = torch.ones(1, workspace.partition.num_clusters)
        bank = retrained(workspace, everything, coupling="independent")
        networks["accuracy_independent"] = take(bank.load(slice(0, 1)), 0)
    natural = float(attacks.nearest(test, train.images, info)[0].median())
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


def _measured(workspace: Workspace, released: Released, attacked: Attacked, resamples: int) -> dict[str, Any]:
    """The figures of one set of images; those about the start only for real starts. `<figure>_p` holds p-values."""
    info, partition, train = workspace.info, workspace.partition, workspace.data.train
    made = pixels(released.images.flatten(0, 1), info)
    count = released.images.shape[1]
    owners = torch.arange(partition.num_clusters, device=made.device).repeat_interleave(count)
    random = workspace.generator("bootstrap", "privacy", released.name)
    distance, where = attacks.nearest(made, train.images, info)
    own = partition.clusters[where] == owners
    found: dict[str, Any] = {
        "nearest_distance": float(distance.median()),
        "relative_distance": float(distance.median()) / max(attacked.natural, TINY),
        **share("own_cluster_nearest", own),
        "own_cluster_by_chance": 100 / partition.num_clusters,
        **_correlation_figures(workspace, released.images, random, resamples),
        "accuracy_by_chance": 100 / info.num_classes,
    }
    for name, parameters in attacked.networks.items():
        logits = workspace.network.logits_of(parameters, released.images.flatten(0, 1))
        found |= share(name, logits.argmax(1) == partition.classes[owners])
    if released.init == "real":
        found |= attacks.seed_nearest(where == attacked.seeds.flatten(), own, partition.sizes[owners])
        found |= attacks.seed_rank(*attacks.seed_ranks(workspace, released.images, attacked.seeds), random, resamples)
    return found | attacks.nearness_attack("auc_training", attacked.training, attacked.test, made, random, resamples)


def _correlation_figures(
    workspace: Workspace, images: Tensor, random: torch.Generator, resamples: int
) -> dict[str, Any]:
    """Highest correlation with a member of the own cluster, and with as many random images of other clusters."""
    info, partition, train = workspace.info, workspace.partition, workspace.data.train
    highest: list[Tensor] = []
    floor: list[Tensor] = []
    for cluster, made in enumerate(images):
        members, others = partition.members(cluster), (partition.clusters != cluster).nonzero()[:, 0]
        drawn = others[torch.randperm(len(others), generator=random)[: len(members)].to(others.device)]
        for found, chosen in ((highest, members), (floor, drawn)):
            found.append(attacks.correlation(pixels(made, info), pixels(train.images[chosen], info)).amax(1))
    values = torch.cat(highest).cpu()
    return {
        **bootstrapped(values, random, resamples=resamples).metrics("correlation"),
        "correlation_by_chance": float(torch.cat(floor).mean()),
    }


def _compared(name: str, found: Stored) -> Iterator[Compared]:
    for column, (title, note) in COLUMNS.items():
        if column in found:
            yield Compared.read(name, title, found, column, note=note.format(**found))


def _chart(found: Mapping[str, Stored]) -> Block:
    series = {
        "correlation with a member": [each["correlation"] for each in found.values()],
        "classified as its class by the target": [each["accuracy_target"] / 100 for each in found.values()],
    }
    return Chart("bar", series, "", "0 = reveals nothing", list(found), "What synthetic images reveal")


def _picture_section(workspace: Workspace, released: Sequence[Released], show: int) -> Section:
    """One group for each cluster: its real start, then the result of each matching from each start."""
    shown = [each for each in released if each.kind != "start"]
    kinds = ", ".join(each.name for each in shown)
    seeds, names = _starts(workspace, "real")[:, 0].cpu(), workspace.info.class_names
    blocks: list[Block] = [Text(f"In each group: a training image of the cluster, then {kinds}.")]
    for label in range(min(show, len(names))):
        clusters = workspace.partition.of_class(label).cpu()
        columns = torch.stack([seeds[clusters], *(each.images[:, 0].cpu()[clusters] for each in shown)], 1)
        captions = [cluster_name(workspace, cluster) for cluster in clusters.tolist()]
        blocks.append(Pictures(columns.flatten(0, 1), captions, f"Class {names[label]}", group=columns.shape[1]))
    return Section("The images", blocks)
