"""One query as a card: what was predicted, which clusters pushed it, and the attribution matrix."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddm_framework.online.attribution import Attribution
from ddm_framework.online.questions import Queries
from ddm_framework.report.blocks import Block, Card, Clusters, Heatmap, Text
from ddm_framework.runs.workspace import Workspace

NUM_SHOWN = 4
"""Clusters named at either end of the ranking."""


def query_cards(
    workspace: Workspace, queries: Queries, attribution: Attribution, predictions: Tensor, shown: Sequence[int]
) -> list[Card]:
    """Cards of some queries.

    Args:
        queries: all that were asked about.
        attribution: of a one-behaviour objective on them.
        predictions: W of the predicted probabilities of the shown queries, (len(shown), K, classes).
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
        blocks = _blocks(workspace, attribution, ranking[position], position, predictions[row], predicted, probability)
        cards.append(Card(heading, queries.images[position].cpu(), blocks, alarm=wrong))
    return cards


def _blocks(
    workspace: Workspace,
    attribution: Attribution,
    ranking: Tensor,
    position: int,
    matrix: Tensor,
    predicted: int,
    probability: float,
) -> list[Block]:
    effect = attribution.effect[position, :, 0]
    objective, names = attribution.objective.name, workspace.info.class_names
    top, classes = int(ranking[0]), workspace.partition.classes.tolist()
    without = min(max(probability - float(matrix[top, predicted]), 0.0), 1.0)
    said = (
        f"Without {names[classes[top]]} · cluster {top} ({int(workspace.partition.sizes[top])} images) the network "
        f"would give {names[predicted]} a probability of {without:.2%} instead of {probability:.2%}, by this estimate."
    )
    most, least = ranking[:NUM_SHOWN].tolist(), ranking[-NUM_SHOWN:].flip(0).tolist()
    return [
        Text(said),
        Clusters(f"pushed it most ({objective})", most, effect[most].tolist()),
        Clusters("pushed it least", least, effect[least].tolist()),
        Heatmap(
            matrix.T,
            list(names),
            [names[label] for label in classes],
            "W: how much each cluster adds to the probability of each class",
            row_title="class",
            column_title="cluster",
        ),
    ]
