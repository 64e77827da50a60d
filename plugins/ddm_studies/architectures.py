"""Which class of training data matters for which, as several networks see it (Fig. 3 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from scipy.stats import spearmanr
from torch import Tensor

from ddm_framework import DDMError, Report
from ddm_framework.bank import bank_logits, retrained
from ddm_framework.effects import Queries
from ddm_framework.hierarchical import effects
from ddm_framework.reports import Block, Chart, Heatmap, Section, Text
from ddm_framework.signatures import ChoicesOf
from ddm_framework.variants import sibling
from ddm_framework.workspace import Workspace, choose
from ddm_studies.paper import Compared, Comparison, sizes

Backbones = Annotated[list[dict[str, Any]], ChoicesOf("backbone"), Field(min_length=2)]
WORDS = {
    "fig_3": ("Fig. 3", "class-wise attribution by several architectures"),
    "fig_8": ("Fig. 8", "class-wise attribution from several initialisations"),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one network says.

    Attributes:
        name: of the network.
        effect: mean effect on queries of each class (rows) of deleting each class (columns), float64 (L, L).
        exact: the same by exact retraining, or None where it was not asked for.
        accuracy: on the test split.
    """

    name: str
    effect: Tensor
    exact: Tensor | None
    accuracy: float


def run(
    workspace: Workspace,
    /,
    *,
    figure: Literal["fig_3", "fig_8"] = "fig_3",
    backbones: Backbones = [{"use": "convnet"}, {"use": "alexnet"}],  # noqa: B006 - pydantic copies it
    query_class: Annotated[int, Field(ge=0)] | None = None,
    queries: Annotated[int, Field(ge=1)] = 256,
    retrain: bool = True,
) -> Report:
    """Train, match and ask several networks on the same data, and compare their class-wise attributions.

    Each network is a run of its own with the recipe's training and matching. The effect is that of `output_shift`,
    Dist_1, of deleting a whole class, by the class-wise synset.

    Args:
        workspace: the run; its data, training and matching are used.
        figure: of the paper, which decides on the words.
        backbones: the networks, each `{use: backbone, option: value}`.
        query_class: the class whose queries the chart shows; left out, 2 as in the paper, or the last of fewer classes.
        queries: test images of each class that are asked about, at most.
        retrain: retrain each network exactly without each class as well, to see how well the estimate is right.
    Raises:
        DDMError: if there is no such class.
    Source: Fig. 3, Sec. 4.2; Fig. 8, Sec. 8.4.
    """
    names = workspace.info.class_names
    query_class = min(2, len(names) - 1) if query_class is None else query_class
    if query_class >= len(names):
        raise DDMError(f"`query_class: {query_class}`: the data have {len(names)} classes, from 0 to {len(names) - 1}")
    seen = []
    with workspace.display.bar("networks", len(backbones)) as advance:
        for number, options in enumerate(backbones):
            seen.append(_seen(workspace, number, options, _named(options, backbones), queries, retrain))
            advance()
    comparison = _comparison(workspace, figure, seen, query_class)
    return Report(
        sections=[comparison.section(_chart(seen, query_class, names)), _matrices(seen, names)],
        metrics={**comparison.metrics(), "architectures": _metrics(seen, query_class)},
        tensors={f"effect.{number}": each.effect for number, each in enumerate(seen)},
        question="Do networks of other kinds trace their predictions to the same classes of training data?",
        answer=comparison.sentences[0],
    )


def _named(options: Mapping[str, Any], every: list[dict[str, Any]]) -> str:
    """`resnet`, or with the options in which it differs from others of its kind, `convnet (initialisation xavier)`."""
    others = [each for each in every if each["use"] == options["use"]]
    differing = [
        key for key in sorted(set().union(*others)) if any(each.get(key) != options.get(key) for each in others)
    ]
    told = ", ".join(f"{key} {options.get(key, 'default')}" for key in differing)
    return f"{options['use']} ({told})" if told else str(options["use"])


def _seen(
    workspace: Workspace, number: int, options: Mapping[str, Any], name: str, queries: int, retrain: bool
) -> Seen:
    chosen = {key: value for key, value in options.items() if key != "use"}
    backbone = choose(workspace.registry, "backbone", str(options["use"]), chosen)
    other = sibling(workspace, f"{number}_{options['use']}", backbone=backbone)
    asked = _queries(other, queries)
    assert asked.labels is not None
    objective, classes = other.objective("output_shift"), torch.arange(other.info.num_classes)
    estimated = effects(other, asked, objective, other.class_synset, classes)[:, :, 0]
    exact = _class_means(_exact(other, asked), asked.labels, len(classes)) if retrain else None
    return Seen(name, _class_means(estimated, asked.labels, len(classes)), exact, other.accuracy("test"))


def _queries(workspace: Workspace, most: int) -> Queries:
    """The first test images of each class."""
    labels = workspace.data.test.labels.cpu()
    chosen = [(labels == label).nonzero()[:most, 0] for label in range(workspace.info.num_classes)]
    return workspace.queries_of("test").take(torch.cat(chosen).sort().values)


def _exact(workspace: Workspace, asked: Queries) -> Tensor:
    """Effect (N, L) of deleting each class, by exact retraining."""
    classes = workspace.info.num_classes
    partition = workspace.partition.class_wise(classes)
    bank = retrained(workspace, 1 - torch.eye(classes), partition=partition)
    objective, reference = workspace.objective("output_shift"), workspace.reference(asked)
    logits = bank_logits(workspace, bank, asked)
    return torch.stack([objective.measure(each, reference)[:, 0] for each in logits], 1).double().cpu()


def _class_means(effect: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean (L, L) over the queries of each class of effects (N, L)."""
    return torch.stack([effect[labels.cpu() == label].mean(0) for label in range(classes)]).double()


def _agreement(one: Tensor, other: Tensor) -> float:
    """Rank correlation of two rows or matrices of effects."""
    return float(spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic)


def _own_class_first(effect: Tensor) -> float:
    """Share of the classes whose queries are moved most by deleting their own class."""
    return float((effect.argmax(1) == torch.arange(len(effect))).double().mean())


def _comparison(workspace: Workspace, figure: str, seen: list[Seen], query_class: int) -> Comparison:
    name, title = WORDS[figure]
    shown = workspace.info.class_names[query_class]
    figures = [
        Compared(
            each.name,
            f'top class of queries "{shown}" is "{shown}"',
            float(each.effect[query_class].argmax() == query_class),
            1.0,
        )
        for each in seen
    ]
    figures += [
        Compared(each.name, "own class first, share of classes", _own_class_first(each.effect)) for each in seen
    ]
    for one, other in combinations(seen, 2):
        pair = f"{one.name} and {other.name}"
        row = _agreement(one.effect[query_class], other.effect[query_class])
        figures.append(Compared(pair, f'rank correlation, queries "{shown}"', row))
        figures.append(Compared(pair, "rank correlation, all queries", _agreement(one.effect, other.effect)))
    for each in seen:
        if each.exact is not None:
            figures.append(Compared(each.name, "rank correlation with exact", _agreement(each.effect, each.exact)))
    for one, other in combinations([each for each in seen if each.exact is not None], 2):
        assert one.exact is not None and other.exact is not None
        pair = f"{one.name} and {other.name}"
        figures.append(Compared(pair, "rank correlation, both exact", _agreement(one.exact, other.exact)))
    return Comparison(name, title, figures, _sentences(seen, query_class, shown), sizes(workspace))


def _sentences(seen: list[Seen], query_class: int, shown: str) -> list[str]:
    astray = [each.name for each in seen if int(each.effect[query_class].argmax()) != query_class]
    said = f'Queries "{shown}" are traced to the class "{shown}" by '
    first = said + (
        f"all {len(seen)} networks, as in the paper."
        if not astray
        else f"{len(seen) - len(astray)} of {len(seen)} networks (the paper: all), not by {', '.join(astray)}."
    )
    between = [_agreement(one.effect, other.effect) for one, other in combinations(seen, 2)]
    told = [
        first,
        f"The rank correlation between two networks' matrices is {sum(between) / len(between):.2f} in the mean, from"
        f" {min(between):.2f} to {max(between):.2f}; the paper shows bars and matrices and gives no number.",
    ]
    exact = [each.exact for each in seen if each.exact is not None]
    if len(exact) > 1:
        true = [_agreement(one, other) for one, other in combinations(exact, 2)]
        told.append(
            f"By exact retraining two networks agree by {sum(true) / len(true):.2f}: so much of their difference is one"
            " of the networks themselves and not of the method."
        )
    return told


def _chart(seen: list[Seen], query_class: int, names: tuple[str, ...]) -> Chart:
    """Effects on the queries of one class, each network's scaled to a largest of 1: its step has a scale of its own."""
    series = {
        each.name: (each.effect[query_class] / each.effect[query_class].max().clamp_min(1e-30)).tolist()
        for each in seen
    }
    caption = f'Effect on queries "{names[query_class]}" of deleting each class; the largest of each network is 1'
    return Chart("bar", series, "deleted class", "effect", x=list(names), caption=caption)


def _matrices(seen: list[Seen], names: tuple[str, ...]) -> Section:
    blocks: list[Block] = [
        Text(
            "Rows are the classes of the queries, columns the deleted classes; each matrix is scaled to a largest of 1."
        )
    ]
    for each in seen:
        scaled = each.effect / each.effect.max().clamp_min(1e-30)
        caption = f"{each.name}, test accuracy {each.accuracy:.1%}"
        blocks.append(Heatmap(scaled, list(names), list(names), caption, "queries", "deleted class"))
    return Section("Class-wise attribution matrices", blocks)


def _metrics(seen: list[Seen], query_class: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        each.name: {
            "test_accuracy": each.accuracy,
            "effect": each.effect[query_class].tolist(),
            "own_class_first": _own_class_first(each.effect),
            "spearman_exact": None if each.exact is None else _agreement(each.effect, each.exact),
        }
        for each in seen
    }
    between = {
        f"{one.name} / {other.name}": _agreement(one.effect, other.effect) for one, other in combinations(seen, 2)
    }
    return {"networks": found, "spearman": between}
