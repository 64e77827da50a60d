"""One query as a card: what was predicted, which clusters pushed it, and the attribution matrix."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ddm_framework.online import Amounts, Attribution, Queries, nearly_tied, sides
from ddm_framework.report.blocks import Block, Card, Clusters, Heatmap, Text
from ddm_framework.runs import Workspace

NUM_SHOWN = 4
"""Clusters named on either side."""


def query_cards(
    workspace: Workspace,
    queries: Queries,
    attribution: Attribution,
    predictions: Tensor | None,
    shown: Sequence[int],
    amounts: Amounts | None = None,
) -> list[Card]:
    """Cards of some queries.

    Args:
        queries: all that were asked about.
        attribution: of a one-behaviour objective on them.
        predictions: W of the predicted probabilities of the shown queries, (len(shown), K, classes); None where there
            is none, and then the cards name clusters alone.
        shown: positions of the queries, in order.
        amounts: of the shown queries, in the same order; None where they are not known, and then the cards tell
            directions alone.
    """
    probabilities = workspace.target_logits(queries.images).softmax(1).cpu()
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
        if amounts is not None:
            blocks += _amounts_told(attribution, position, amounts, row, said)
        blocks += _named(attribution, position, said)
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


def _amounts_told(attribution: Attribution, position: int, amounts: Amounts, row: int, said: str) -> list[Text]:
    """How much the first cluster on either side did, with its interval."""
    found = sides(attribution, position)
    if found is None:
        return []
    firsts = [clusters[0] for clusters in (found.made, found.against) if clusters]
    return [Text(" ".join(amount_sentence(amounts, row, each, said) for each in firsts))] if firsts else []


def amount_sentence(amounts: Amounts, query: int, cluster: int, said: str) -> str:
    """The probability of what the network says without one cluster, in words.

    Args:
        amounts: of some queries.
        query: position among them.
        cluster: its id.
        said: name of the class that the network predicts.
    """
    before, without = float(amounts.before[query]), float(amounts.without[query, cluster])
    told = f"Without cluster {cluster} the probability of {said} is"
    if amounts.retrained[cluster]:
        return f"{told} {in_percent(without)} instead of {in_percent(before)}: the network was retrained without it."
    low, high = (in_percent(float(each[query, cluster])) for each in (amounts.low, amounts.high))
    return (
        f"{told} about {in_percent(without)} instead of {in_percent(before)}"
        f" ({amounts.level:.0%} interval: {low} to {high})."
    )


def in_percent(probability: float) -> str:
    """A probability with as many digits as tell it from 0 and 1."""
    edge = min(probability, 1 - probability)
    digits = 0 if edge >= 0.1 else 1 if edge >= 0.01 else 2
    return f"{probability:.{digits}%}"


def cluster_name(workspace: Workspace, cluster: int) -> str:
    """A cluster in words: its class, its number and how many images it has."""
    partition = workspace.partition
    label = workspace.info.class_names[int(partition.classes[cluster])]
    return f"{label} · cluster {cluster} ({int(partition.sizes[cluster])} images)"


def _named(attribution: Attribution, position: int, said: str) -> list[Block]:
    """The strongest clusters on both sides of the prediction, or at both ends of the ranking if no side is known."""
    effect, found = -attribution.matrix[position, :, 0], sides(attribution, position)
    if found is None:
        ranking = attribution.objective.ranking(-attribution.matrix[position : position + 1])[0]
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
