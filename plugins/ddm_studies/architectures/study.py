"""Class-wise attributions of several networks, compared (Fig. 3 and 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import DDMError, Report
from ddm_framework.answers import effects
from ddm_framework.online import Queries
from ddm_framework.plugin import Choice, ComponentOf, use
from ddm_framework.report import Block, Chart, Heatmap, Section, Text
from ddm_framework.runs import Workspace
from ddm_framework.stages import sibling
from ddm_framework.truth import bank_logits, retrained
from ddm_studies.architectures.class_matrices import (
    Measured,
    Seen,
    agreement,
    class_means,
    draws,
    measured,
    own_class_first,
    similar,
)
from ddm_studies.architectures.words import on_exact, robust, traced
from ddm_studies.comparison.paper import Compared, Comparison

Backbones = Annotated[list[Choice], ComponentOf("backbone"), Field(min_length=2)]
Distances = Annotated[list[Choice], ComponentOf("distance")]
Rates = list[Annotated[float, Field(gt=0)]]
WITHIN = "rank correlation within rows"
CHANCE = "0 by chance"
SAID = {
    "fig_3": (
        "Fig. 3",
        "class-wise attribution by several architectures",
        "Do different architectures trace their predictions to the same classes of training data?",
    ),
    "fig_8": (
        "Fig. 8",
        "class-wise attribution from several initialisations",
        "Do different initialisations trace their predictions to the same classes of training data?",
    ),
}
"""Source, title and question of each figure."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network and how its synset is matched.

    Attributes:
        name: that distinguishes it from the others.
        backbone: with all its options.
        distance: replaces the recipe's unless None.
        image_rate: replaces the recipe's `matching.lr` unless None.
    """

    name: str
    backbone: Choice
    distance: Choice | None
    image_rate: float | None


def run(
    workspace: Workspace,
    /,
    *,
    figure: Literal["fig_3", "fig_8"] = "fig_3",
    backbones: Backbones = [use("convnet"), use("alexnet")],  # noqa: B006 - pydantic copies it
    distances: Distances = [],  # noqa: B006
    image_rates: Rates = [],  # noqa: B006
    query_class: Annotated[int, Field(ge=0)] | None = None,
    queries: Annotated[int, Field(ge=1)] = 256,
    retrain: bool = True,
    resamples: Annotated[int, Field(ge=50)] = 200,
) -> Report:
    """Train several networks on the same data, match a synset for each, and compare their class-wise attributions.

    Each network is a separate run with the recipe's training and matching. The effect is the change in `output_shift`
    (Dist_1) when a whole class is deleted, estimated with the class-wise synset. Two matrices are compared by
    Spearman's correlation over the deleted classes, within each row, as the mean over rows. Over whole matrices, the
    correlation would mostly show that some queries are easier to shift than others. Intervals are over queries,
    resampled within their classes.

    Args:
        workspace: the run; its data, training and matching are used.
        figure: of the paper; selects the claims to judge.
        backbones: the networks, each `{use: backbone, option: value}`.
        distances: distance for matching the gradients of each network, one for each; by default the recipe's for all.
        image_rates: `matching.lr` of each network, one for each; by default the recipe's for all.
        query_class: class of the queries shown for Fig. 3; by default 2 as in the paper, or the last class if there are
            fewer.
        queries: number of test images of each class, at most.
        retrain: also retrain each network exactly without each class, to measure the accuracy of the estimates.
        resamples: of each bootstrap interval.
    Raises:
        DDMError: if there is no such class, a class has no test image, or the number of `distances` or `image_rates`
            differs from the number of networks.
    Source: Fig. 3, Sec. 4.2; Fig. 8, Sec. 8.4.
    """
    names = workspace.info.class_names
    query_class = min(2, len(names) - 1) if query_class is None else query_class
    if query_class >= len(names):
        raise DDMError(f"`query_class: {query_class}`: the data have {len(names)} classes, from 0 to {len(names) - 1}")
    asked = _queries(workspace, queries)
    networks = _networks(backbones, distances, image_rates)
    shares = draws(workspace, asked, resamples)
    seen = []
    with workspace.display.bar("networks", len(networks)) as advance:
        for number, network in enumerate(networks):
            seen.append(_seen(workspace, f"{number}_{network.backbone.name}", network, asked, shares, retrain))
            advance()
    source, title, question = SAID[figure]
    if figure == "fig_3":
        rows = [*_traced_rows(seen, query_class, names), *_compared(seen)]
        sentences = [*traced(seen, query_class, names), *on_exact(seen)]
    else:
        rows, sentences = list(_compared(seen)), [*robust(workspace, seen), *on_exact(seen)]
    comparison = Comparison(source, title, rows, sentences, _sizes(workspace, seen, queries))
    chart = [_chart(seen, query_class, names)] if figure == "fig_3" else []
    return Report(
        sections=[comparison.section(*chart), _matrices(seen, names)],
        metrics={**comparison.metrics(), "architectures": _metrics(seen, query_class)},
        tensors={f"effect.{number}": each.matrix for number, each in enumerate(seen)},
        question=question,
        answer=comparison.sentences[0],
    )


def _networks(
    backbones: Sequence[Choice],
    distances: Sequence[Choice],
    rates: Sequence[float],
) -> list[Network]:
    for option, given in (("distances", distances), ("image_rates", rates)):
        if given and len(given) != len(backbones):
            raise DDMError(
                f"`{option}` has {len(given)} entries for {len(backbones)} backbones; give one each, or none"
            )
    return [
        Network(
            _named(backbone, backbones),
            backbone,
            distances[place] if distances else None,
            rates[place] if rates else None,
        )
        for place, backbone in enumerate(backbones)
    ]


def _named(backbone: Choice, every: Sequence[Choice]) -> str:
    """`resnet`, or with the options that differ between backbones of its kind, `convnet (initialisation xavier)`."""
    others = [each.given for each in every if each.name == backbone.name]
    differing = [
        key for key in sorted(set().union(*others)) if any(each.get(key) != backbone.given.get(key) for each in others)
    ]
    told = ", ".join(f"{key} {backbone.given.get(key, 'default')}" for key in differing)
    return f"{backbone.name} ({told})" if told else backbone.name


def _seen(
    workspace: Workspace, folder: str, network: Network, asked: Queries, shares: Sequence[Tensor], retrain: bool
) -> Seen:
    matching = {} if network.image_rate is None else {"lr": network.image_rate}
    other = sibling(workspace, folder, backbone=network.backbone, distance=network.distance, matching=matching)
    assert asked.labels is not None
    labels, classes = asked.labels.cpu(), torch.arange(other.info.num_classes)
    estimated = effects(other, asked, other.objective("output_shift"), other.class_synset, classes)[:, :, 0]
    exact = class_means(_exact(other, asked), labels, shares) if retrain else None
    recipe = other.recipe
    given = ", ".join(f"{key} {value}" for key, value in network.backbone.options.items() if value is not None)
    settings = (
        f"{network.backbone.name} ({given}; matched by {recipe.distance.name}, image rate {recipe.matching.lr:g})"
    )
    return Seen(network.name, settings, class_means(estimated, labels, shares), exact, other.accuracy("test"))


def _queries(workspace: Workspace, most: int) -> Queries:
    """The first test images of each class.

    Raises:
        DDMError: if a class has none.
    """
    labels, names = workspace.data.test.labels.cpu(), workspace.info.class_names
    chosen = [(labels == label).nonzero()[:most, 0] for label in range(len(names))]
    without = [name for name, found in zip(names, chosen, strict=True) if not len(found)]
    if without:
        listed = ", ".join(map(repr, without[:5]))
        raise DDMError(f"there is no test image of class {listed}, so it has no queries; raise dataset.test_size")
    return workspace.queries_of("test").take(torch.cat(chosen).sort().values)


def _exact(workspace: Workspace, asked: Queries) -> Tensor:
    """Effect (N, L) of deleting each class, by exact retraining."""
    classes = workspace.info.num_classes
    partition = workspace.partition.class_wise(classes)
    bank = retrained(workspace, 1 - torch.eye(classes), partition=partition)
    objective, reference = workspace.objective("output_shift"), workspace.reference(asked)
    logits = bank_logits(workspace, bank, asked)
    return torch.stack([objective.measure(each, reference)[:, 0] for each in logits], 1).double().cpu()


def _compared(seen: Sequence[Seen]) -> Iterator[Compared]:
    """The figures that both Fig. 3 and Fig. 8 are judged by."""
    chance = f"{1 / seen[0].effect.shape[2]:.2g} by chance"
    for each in seen:
        value, interval = measured(own_class_first(each.effect), 0)
        yield Compared(each.name, "own class first, share of classes", value, None, interval, chance)
    for one, other in combinations(seen, 2):
        value, interval = measured(agreement(one.effect, other.effect))
        yield Compared(f"{one.name} and {other.name}", WITHIN, value, None, interval, CHANCE)
    if len(seen) > 2:
        value, interval = similar(seen)
        yield Compared("any two networks, mean", WITHIN, value, None, interval, CHANCE)
    exact = [(each.name, each.effect, each.exact) for each in seen if each.exact is not None]
    for name, effect, truth in exact:
        value, interval = measured(agreement(effect, truth))
        yield Compared(name, f"{WITHIN}, with exact", value, None, interval, CHANCE)
    for (one_name, _, one_truth), (other_name, _, other_truth) in combinations(exact, 2):
        value, interval = measured(agreement(one_truth, other_truth))
        yield Compared(f"{one_name} and {other_name}", f"{WITHIN}, both exact", value, None, interval, CHANCE)


def _traced_rows(seen: Sequence[Seen], query_class: int, names: Sequence[str]) -> Iterator[Compared]:
    """The figures for the queries of one class, as in Fig. 3."""
    shown = names[query_class]
    for each in seen:
        first = float(each.matrix[query_class].argmax() == query_class)
        yield Compared(each.name, f'top class of queries "{shown}" is "{shown}", 1 = yes', first, 1.0)
    for one, other in combinations(seen, 2):
        rows = [each.effect[:, query_class : query_class + 1] for each in (one, other)]
        value, interval = measured(agreement(*rows))
        pair = f"{one.name} and {other.name}"
        yield Compared(pair, f'rank correlation, queries "{shown}"', value, None, interval, CHANCE)


def _sizes(workspace: Workspace, seen: Sequence[Seen], queries: int) -> str:
    """What was run; the recipe's own backbone is not among the networks."""
    recipe, data = workspace.recipe, workspace.data
    return (
        f"{recipe.dataset.name}, {len(data.train):,} training and {len(data.test):,} test images of"
        f" {workspace.info.num_classes} classes, at most {queries} queries a class, {recipe.training.epochs} epochs,"
        f" seed {recipe.general.seed}; {'; '.join(each.settings for each in seen)}"
    )


def _chart(seen: Sequence[Seen], query_class: int, names: tuple[str, ...]) -> Chart:
    """Effects on the queries of one class, scaled to a maximum of 1 for each network, as their scales differ."""
    series = {
        each.name: (each.matrix[query_class] / each.matrix[query_class].max().clamp_min(1e-30)).tolist()
        for each in seen
    }
    caption = f'Effect on queries "{names[query_class]}" of deleting each class, scaled to 1 at most for each network'
    return Chart("bar", series, "deleted class", "effect", x=list(names), caption=caption)


def _matrices(seen: Sequence[Seen], names: tuple[str, ...]) -> Section:
    blocks: list[Block] = [
        Text(
            "Rows are the classes of the queries, columns the deleted classes; each matrix is scaled to a maximum of 1."
        )
    ]
    for each in seen:
        scaled = each.matrix / each.matrix.max().clamp_min(1e-30)
        caption = f"{each.name}, test accuracy {each.accuracy:.1%}"
        blocks.append(Heatmap(scaled, list(names), list(names), caption, "queries", "deleted class"))
    return Section("Class-wise attribution matrices", blocks)


def _metrics(seen: Sequence[Seen], query_class: int) -> dict[str, Any]:
    networks = {
        each.name: {
            "test_accuracy": each.accuracy,
            "effect": each.matrix[query_class].tolist(),
            **_named_figure("own_class_first", measured(own_class_first(each.effect), 0)),
            **(
                {"spearman_exact": None}
                if each.exact is None
                else _named_figure("spearman_exact", measured(agreement(each.effect, each.exact)))
            ),
        }
        for each in seen
    }
    between = {
        f"{one.name} / {other.name}": _named_figure("spearman", measured(agreement(one.effect, other.effect)))
        for one, other in combinations(seen, 2)
    }
    return {"networks": networks, "pairs": between, **_named_figure("spearman", similar(seen))}


def _named_figure(name: str, measured: Measured) -> dict[str, Any]:
    return {name: measured.value, f"{name}_interval": measured.interval and list(measured.interval)}
