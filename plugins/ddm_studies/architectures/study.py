"""Class-wise attributions of several networks, compared (Fig. 3 and 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, zip_longest
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import Chart, Choice, ComponentOf, DDMError, Heatmap, Queries, Report, Section, Text, Workspace, use
from ddm_framework.answers import effects
from ddm_framework.stages import sibling
from ddm_studies.architectures.class_matrices import (
    Seen,
    agreement,
    between,
    class_means,
    draws,
    mean_floor,
    measured,
    off_diagonal,
    own_class_first,
    own_class_floor,
)
from ddm_studies.architectures.words import findings
from ddm_studies.comparison.grids import set_options
from ddm_studies.comparison.options import Count, Positive, Resamples
from ddm_studies.comparison.paper import Compared, Comparison, data_sizes
from ddm_studies.comparison.running import images_of_classes, known_class, shifts, tracked, without_each

Backbones = Annotated[list[Choice], ComponentOf("backbone"), Field(min_length=2)]
Distances = Annotated[list[Choice], ComponentOf("distance")]
WITHIN = "rank correlation within rows"
OTHERS = "rank correlation off the diagonal"
CHANCE = "0 by chance"
PAPERS_CLASS = 2
"""Class of the queries of Fig. 3."""
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


def run(
    workspace: Workspace,
    /,
    *,
    figure: Literal["fig_3", "fig_8"] = "fig_3",
    backbones: Backbones = [use("convnet"), use("alexnet")],  # noqa: B006 - pydantic copies it
    distances: Distances = [],  # noqa: B006
    image_rates: list[Positive] = [],  # noqa: B006
    query_class: Annotated[int, Field(ge=0)] | None = None,
    queries: Count = 256,
    retrain: bool = True,
    resamples: Resamples = 200,
) -> Report:
    """Train several networks on the same data, match a synset for each, and compare their class-wise attributions.

    Each network is a separate run with the recipe's training and matching. The effect is the change in `output_shift`
    (Dist_1) when a whole class is deleted, estimated with the class-wise synset. Two matrices are compared by
    Spearman's correlation over the deleted classes, within each row, as the mean over rows. Over whole matrices, the
    correlation would mostly show that some queries are easier to shift than others. Two rows that both put their own
    class first already correlate by 3 / (L + 1) for L classes. That part is given beside each figure, and the
    correlation over the other classes, for which chance gives 0, decides whether matrices are similar. Intervals are
    over queries, resampled within their classes.

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
    query_class = known_class(workspace, query_class, PAPERS_CLASS)
    asked = _queries(workspace, queries)
    networks, shares = _networks(workspace, backbones, distances, image_rates), draws(workspace, asked, resamples)
    each_network = tracked(workspace, "networks", networks, len(networks))
    seen = [_seen(name, network, asked, shares, retrain) for name, network in each_network]
    source, title, question = SAID[figure]
    stored = {"figure": figure, "num_training": len(workspace.data.train), **_metrics(seen, query_class, names)}
    rows = [*(_traced_rows(seen, query_class, names) if figure == "fig_3" else ()), *_compared(seen)]
    told = findings({"architectures": stored})
    report = Comparison(source, title, rows, told, _sizes(workspace, seen, queries)).report(
        "architectures",
        stored,
        question,
        [_chart(seen, query_class, names)] if figure == "fig_3" else [],
        [_matrices(seen, names)],
    )
    return replace(report, tensors={f"effect.{number}": each.matrix for number, each in enumerate(seen)})


def _networks(
    workspace: Workspace, backbones: Sequence[Choice], distances: Sequence[Choice], rates: Sequence[float]
) -> list[tuple[str, Workspace]]:
    """A run with each network, and a name that distinguishes it from the others."""
    count = len(backbones)
    for option, given in (("distances", distances), ("image_rates", rates)):
        if given and len(given) != count:
            raise DDMError(f"`{option}` has {len(given)} entries for {count} backbones; give one each, or none")
    networks = []
    for number, (backbone, distance, rate) in enumerate(zip_longest(backbones, distances, rates)):
        matching = {} if rate is None else {"lr": rate}
        other = sibling(workspace, f"{number}_{backbone.name}", backbone=backbone, distance=distance, matching=matching)
        networks.append((_named(backbone, backbones), other))
    return networks


def _named(backbone: Choice, every: Sequence[Choice]) -> str:
    """`resnet`, or with the options that differ between backbones of its kind, `convnet (initialisation xavier)`."""
    others = [each.given for each in every if each.name == backbone.name]
    differing = [
        key for key in sorted(set().union(*others)) if any(each.get(key) != backbone.given.get(key) for each in others)
    ]
    told = ", ".join(f"{key} {backbone.given.get(key, 'default')}" for key in differing)
    return f"{backbone.name} ({told})" if told else backbone.name


def _seen(name: str, other: Workspace, asked: Queries, shares: Sequence[Tensor], retrain: bool) -> Seen:
    assert asked.labels is not None
    labels, classes = asked.labels.cpu(), torch.arange(other.info.num_classes)
    estimated = effects(other, asked, other.objective("output_shift"), "class", classes)[:, :, 0]
    exact, recipe = None, other.recipe
    if retrain:
        bank = without_each(other, other.partition.class_wise(other.info.num_classes))
        exact = class_means(shifts(other, bank, asked), labels, shares)
    matched = f"matched by {recipe.distance.name}, image rate {recipe.matching.lr:g}"
    settings = f"{recipe.backbone.name} ({set_options(recipe.backbone)}; {matched})"
    return Seen(name, settings, class_means(estimated, labels, shares), exact, other.accuracy("test"))


def _queries(workspace: Workspace, most: int) -> Queries:
    """The first test images of each class.

    Raises:
        DDMError: if a class has none.
    """
    chosen = images_of_classes(workspace, range(workspace.info.num_classes), most)
    return workspace.queries_of("test").take(torch.cat(chosen).sort().values)


def _compared(seen: Sequence[Seen]) -> Iterator[Compared]:
    """The figures that both Fig. 3 and Fig. 8 are judged by."""
    chance = f"{1 / seen[0].effect.shape[2]:.2g} by chance"
    for each in seen:
        first = measured(own_class_first(each.effect), 0)
        yield Compared.measured(each.name, "own class first, share of classes", first, note=chance)
    yield from _agreeing([(each.name, each.effect) for each in seen], "")
    exact = [(each.name, each.exact) for each in seen if each.exact is not None]
    for each in seen:
        if each.exact is not None:
            yield _within(each.name, each.effect, each.exact, ", with exact")
            yield from _other_classes(each.name, [each.effect, each.exact], ", with exact")
    if len(exact) > 1:
        yield from _agreeing(exact, ", both exact")


def _agreeing(matrices: Sequence[tuple[str, Tensor]], what: str) -> Iterator[Compared]:
    """The agreement of every two matrices, and its mean over all pairs."""
    for (one_name, one), (other_name, other) in combinations(matrices, 2):
        yield _within(f"{one_name} and {other_name}", one, other, what)
    effects_ = [each for _, each in matrices]
    name = " and ".join(name for name, _ in matrices)
    if len(matrices) > 2:
        name, note = "any two networks, mean", _own_alone(mean_floor(effects_))
        yield Compared.measured(name, f"{WITHIN}{what}", measured(between(effects_)), note=note)
    yield from _other_classes(name, effects_, what)


def _within(name: str, one: Tensor, other: Tensor, what: str) -> Compared:
    note = _own_alone(own_class_floor(one[0], other[0]))
    return Compared.measured(name, f"{WITHIN}{what}", measured(agreement(one, other)), note=note)


def _own_alone(floor: float) -> str:
    return f"{floor + 0.0:.2f} by own classes alone"


def _other_classes(name: str, matrices: Sequence[Tensor], what: str) -> Iterator[Compared]:
    """Agreement on the classes other than each row's own; there must be two of them."""
    if matrices[0].shape[2] > 2:
        others = measured(between([off_diagonal(each) for each in matrices]))
        yield Compared.measured(name, f"{OTHERS}{what}", others, note=CHANCE)


def _traced_rows(seen: Sequence[Seen], query_class: int, names: Sequence[str]) -> Iterator[Compared]:
    """The figures for the queries of one class, as in Fig. 3."""
    shown = names[query_class]
    for each in seen:
        traced, exact = each.traced(query_class)
        yield Compared(each.name, f'top class of queries "{shown}" is "{shown}", 1 = yes', float(traced), 1.0)
        if exact is not None:
            yield Compared(each.name, f'the same by exact retraining, 1 = "{shown}"', float(exact))
    for one, other in combinations(seen, 2):
        rows = [each.effect[:, query_class : query_class + 1] for each in (one, other)]
        pair, alike = f"{one.name} and {other.name}", measured(agreement(*rows))
        yield Compared.measured(pair, f'rank correlation, queries "{shown}"', alike, note=CHANCE)


def _sizes(workspace: Workspace, seen: Sequence[Seen], queries: int) -> str:
    """What was run; the recipe's own backbone is not among the networks."""
    recipe = workspace.recipe
    return (
        f"{data_sizes(workspace)}, at most {queries} queries a class, {recipe.training.epochs} epochs,"
        f" seed {recipe.general.seed}; {'; '.join(each.settings for each in seen)}"
    )


def _chart(seen: Sequence[Seen], query_class: int, names: tuple[str, ...]) -> Chart:
    """Effects on the queries of one class, scaled to a maximum of 1 for each network, as their scales differ."""
    series = {each.name: _scaled(each.matrix[query_class]).tolist() for each in seen}
    caption = f'Effect on queries "{names[query_class]}" of deleting each class, scaled to 1 at most for each network'
    return Chart("bar", series, "deleted class", "effect", x=list(names), caption=caption)


def _matrices(seen: Sequence[Seen], names: tuple[str, ...]) -> Section:
    said = "Rows are the classes of the queries, columns the deleted classes; each matrix is scaled to a maximum of 1."
    return Section("Class-wise attribution matrices", [Text(said), *(_map(each, names) for each in seen)])


def _map(seen: Seen, names: Sequence[str]) -> Heatmap:
    caption = f"{seen.name}, test accuracy {seen.accuracy:.1%}"
    return Heatmap(_scaled(seen.matrix), names, names, caption, "queries", "deleted class")


def _scaled(effect: Tensor) -> Tensor:
    """With a maximum of 1."""
    return effect / effect.max().clamp_min(1e-30)


def _metrics(seen: Sequence[Seen], query_class: int, names: Sequence[str]) -> dict[str, Any]:
    networks = {each.name: _network_metrics(each, query_class) for each in seen}
    pairs = {
        f"{one.name} / {other.name}": measured(agreement(one.effect, other.effect)).metrics("spearman")
        for one, other in combinations(seen, 2)
    }
    effects_ = [each.effect for each in seen]
    return {
        "query_class_name": names[query_class],
        "num_classes": len(names),
        "networks": networks,
        "pairs": pairs,
        **_agreements("spearman", "off_diagonal", [effects_]),
        "floor": mean_floor(effects_),
        **_exact_metrics(seen),
    }


def _network_metrics(seen: Seen, query_class: int) -> dict[str, Any]:
    traced, exact = seen.traced(query_class)
    found: dict[str, Any] = {"spearman_exact": None}
    if seen.exact is not None:
        found = measured(agreement(seen.effect, seen.exact)).metrics("spearman_exact")
    return {
        "test_accuracy": seen.accuracy,
        "effect": seen.matrix[query_class].tolist(),
        "traced": traced,
        "traced_exact": exact,
        **measured(own_class_first(seen.effect), 0).metrics("own_class_first"),
        **found,
    }


def _exact_metrics(seen: Sequence[Seen]) -> dict[str, Any]:
    """Agreement of estimates with exact retraining, and of exact matrices with one another."""
    pairs = [[each.effect, each.exact] for each in seen if each.exact is not None]
    if len(pairs) < len(seen):
        return {}
    floors = [mean_floor(pair) for pair in pairs]
    return {
        **_agreements("with_exact", "with_exact_off_diagonal", pairs),
        "with_exact_floor": sum(floors) / len(floors),
        **_agreements("both_exact", "both_exact_off_diagonal", [[exact for _, exact in pairs]]),
    }


def _agreements(within: str, others: str, groups: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
    """The mean agreement within groups of matrices, over all classes and over those other than each row's own."""
    found = measured(torch.stack([between(group) for group in groups]).mean(0)).metrics(within)
    if groups[0][0].shape[2] > 2:
        parts = torch.stack([between([off_diagonal(each) for each in group]) for group in groups])
        found |= measured(parts.mean(0)).metrics(others)
    return found
