"""One query as a card: what was predicted, which clusters pushed it, and the attribution matrix."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddm_framework.online import Attribution, Queries
from ddm_framework.report.blocks import Block, Card, Clusters, Heatmap, Text
from ddm_framework.runs import Workspace

NUM_SHOWN = 4
"""Clusters named at either end of the ranking."""


def query_cards(
    workspace: Workspace, queries: Queries, attribution: Attribution, predictions: Tensor | None, shown: Sequence[int]
) -> list[Card]:
    """Cards of some queries.

    Args:
        queries: all that were asked about.
        attribution: of a one-behaviour objective on them.
        predictions: W of the predicted probabilities of the shown queries, (len(shown), K, classes); None where there
            is none, and then the cards name clusters alone.
        shown: positions of the queries, in order.
    """
    probabilities = workspace.target_logits(queries.images).softmax(1).cpu()
    ranking = attribution.objective.ranking(attribution.effect)
    names = workspace.info.class_names
    cards = []
    for row, position in enumerate(shown):
        predicted = int(probabilities[position].argmax())
        labelled = None if queries.labels is None else int(queries.labels[position])
        heading = f"{queries.ids[position]}: predicted {names[predicted]} ({probabilities[position, predicted]:.1%})"
        if labelled is not None:
            heading += f", labelled {names[labelled]}"
        wrong = labelled is not None and labelled != predicted
        probability = float(probabilities[position, predicted])
        blocks: list[Block] = _named(attribution, ranking[position], position)
        if predictions is not None:
            top, matrix = int(ranking[position, 0]), predictions[row]
            blocks = [_without(workspace, top, matrix, predicted, probability), *blocks, _heatmap(workspace, matrix)]
        cards.append(Card(heading, queries.images[position].cpu(), blocks, alarm=wrong))
    return cards


def _without(workspace: Workspace, top: int, matrix: Tensor, predicted: int, probability: float) -> Text:
    """The probability of the predicted class without the cluster that is ranked first."""
    names, classes = workspace.info.class_names, workspace.partition.classes.tolist()
    without = min(max(probability - float(matrix[top, predicted]), 0.0), 1.0)
    return Text(
        f"Without {names[classes[top]]} · cluster {top} ({int(workspace.partition.sizes[top])} images) the network "
        f"would give {names[predicted]} a probability of {without:.2%} instead of {probability:.2%}, by this estimate."
    )


def _named(attribution: Attribution, ranking: Tensor, position: int) -> list[Block]:
    """The clusters at both ends of the ranking, with their effects."""
    effect = attribution.effect[position, :, 0]
    most, least = ranking[:NUM_SHOWN].tolist(), ranking[-NUM_SHOWN:].flip(0).tolist()
    return [
        Clusters(f"pushed it most ({attribution.objective.name})", most, effect[most].tolist()),
        Clusters("pushed it least", least, effect[least].tolist()),
    ]


def _heatmap(workspace: Workspace, matrix: Tensor) -> Heatmap:
    """W of one query, (K, classes)."""
    names = workspace.info.class_names
    return Heatmap(
        matrix.T,
        list(names),
        [names[label] for label in workspace.partition.classes.tolist()],
        "W: how much each cluster adds to the probability of each class",
        row_title="class",
        column_title="cluster",
    )
