"""One query as a card: what was predicted, which clusters pushed it, and the attribution matrix."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddm_framework.online import Attribution, Queries, nearly_tied, sides
from ddm_framework.report.blocks import Block, Card, Clusters, Heatmap, Text
from ddm_framework.runs import Workspace

NUM_SHOWN = 4
"""Clusters named on either side."""


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
        said = names[predicted]
        blocks: list[Block] = [*_told(workspace, attribution, position, said, wrong)]
        blocks += _named(attribution, ranking[position], position, said)
        if predictions is not None:
            blocks.append(_heatmap(workspace, predictions[row]))
        cards.append(Card(heading, queries.images[position].cpu(), blocks, alarm=wrong, group=said))
    return cards


def _told(workspace: Workspace, attribution: Attribution, position: int, said: str, wrong: bool) -> list[Text]:
    """Which cluster did most on either side, in a sentence; for a misread query the culprit comes first.

    It names a direction and no amount: without retrainings nobody knows how wrong an estimated amount is.
    """
    found = sides(attribution, position)
    if found is None:
        return []
    sentences = []
    for clusters, did in ((found.made, f"made the network say {said}"), (found.against, "spoke against it")):
        if clusters:
            first, *others = (cluster_name(workspace, each) for each in clusters[:2])
            tie = f", nearly tied with {others[0]}" if nearly_tied(attribution, position, clusters) else ""
            sentences.append(f"{first} {did} most of all{tie}")
    opening = "The culprit, by this estimate: " if wrong and found.made else "By this estimate "
    return [Text(opening + "; ".join(sentences) + ".")] if sentences else []


def cluster_name(workspace: Workspace, cluster: int) -> str:
    """A cluster in words: its class, its number and how many images it has."""
    partition = workspace.partition
    label = workspace.info.class_names[int(partition.classes[cluster])]
    return f"{label} · cluster {cluster} ({int(partition.sizes[cluster])} images)"


def _named(attribution: Attribution, ranking: Tensor, position: int, said: str) -> list[Block]:
    """The strongest clusters on both sides of the prediction, or at both ends of the ranking if no side is known."""
    effect, found = attribution.effect[position, :, 0], sides(attribution, position)
    if found is None:
        ends = {"pushed it most": ranking.tolist(), "pushed it least": ranking.flip(0).tolist()}
    else:
        ends = {f"made it say {said}": found.made, "spoke against it": found.against}
    shown = {heading: clusters[:NUM_SHOWN] for heading, clusters in ends.items() if clusters}
    first = next(iter(shown), "")
    return [
        Clusters(
            f"{heading} ({attribution.objective.name})" if heading == first else heading, ids, effect[ids].tolist()
        )
        for heading, ids in shown.items()
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
