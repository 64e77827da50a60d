"""The pane of one query: what the network says of it, the clusters for and against that, W, and a cluster's members."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework.answers.image_questions import amount_as_values
from ddm_framework.app import thumbnails
from ddm_framework.app.requests import Members
from ddm_framework.app.served_run import ServedRun
from ddm_framework.errors import readable
from ddm_framework.online import Amounts, Attribution, nearly_tied, sides
from ddm_framework.report.pictures import heatmap_png

MOST_NAMED = 50
"""Clusters named on either side."""


def answered(served: ServedRun, key: str) -> dict[str, Any]:
    """One query and the clusters behind its prediction.

    Raises:
        DDMError: if there is no such query.
    """
    workspace, query = served.run.workspace, served.query(key)
    probabilities = served.target.predict(query.images)[0].cpu()
    predicted = int(probabilities.argmax())
    attribution, matrix = served.attribution(key)
    amounts = served.amounts(key)
    return {
        "key": key,
        "name": query.ids[0],
        "label": None if query.labels is None else int(query.labels[0]),
        "predicted": predicted,
        "probabilities": probabilities.tolist(),
        "picture": thumbnails.large(workspace.info, query.images[0]),
        "objective": attribution.objective.name,
        "sides": _sides(served, attribution, amounts),
        "matrix": {
            "picture": heatmap_png(matrix.T),
            "low": float(matrix.min()),
            "high": float(matrix.max()),
            "values": matrix[:, predicted].tolist(),
        },
    }


def _sides(served: ServedRun, attribution: Attribution, amounts: Amounts | None) -> list[dict[str, Any]]:
    """Clusters for and against the prediction, or by their effect where no side is known; the strongest first."""
    found = sides(attribution, 0)
    if found is None:
        ranking = attribution.objective.ranking(attribution.effect)[0].tolist()
        return [_side(served, attribution, amounts, "moved", ranking)]
    return [
        _side(served, attribution, amounts, "made", found.made),
        _side(served, attribution, amounts, "against", found.against),
    ]


def _side(
    served: ServedRun, attribution: Attribution, amounts: Amounts | None, did: str, ids: list[int]
) -> dict[str, Any]:
    effect, support = attribution.effect[0, :, 0], attribution.support
    shown = ids[:MOST_NAMED]
    items = [
        {
            **named(served, each),
            "effect": float(effect[each]),
            "support": None if support is None else float(support[0, each]),
            "amount": None if amounts is None else amount_as_values(amounts, 0, each),
        }
        for each in shown
    ]
    return {"did": did, "total": len(ids), "tied": nearly_tied(attribution, 0, ids), "items": items}


def named(served: ServedRun, cluster: int) -> dict[str, Any]:
    """A cluster: its class, how many images it has, and some of them."""
    workspace = served.run.workspace
    members = workspace.partition.members(cluster)
    images = workspace.data.train.images[members[: thumbnails.NUM_MEMBERS]]
    return {
        "cluster": cluster,
        "class": int(workspace.partition.classes[cluster]),
        "size": len(members),
        "strip": thumbnails.in_a_row(workspace.info, images),
        "shown": len(images),
    }


def members(served: ServedRun, cluster: int, asked: Members) -> dict[str, Any]:
    """Members of a cluster with their rough shares of its effect, the largest first.

    Where no shares are known, those that the network has most trouble with come first.

    Raises:
        DDMError: if there is no such cluster or query.
    """
    workspace, origin = served.run.workspace, served.run.workspace.data.train.origin
    share = served.shares(cluster, asked.query).share
    positions = workspace.partition.members(cluster)
    loss, predicted = _losses(served, positions)
    order = loss if share is None else share
    page = order.argsort(descending=True, stable=True)[asked.offset : asked.offset + asked.limit]
    chosen = positions.cpu()[page]
    pictures = thumbnails.small(workspace.info, workspace.data.train.images[chosen.to(workspace.device)])
    shares = [None] * len(page) if share is None else share[page].tolist()
    rows = zip(chosen.tolist(), loss[page].tolist(), predicted[page].tolist(), shares, pictures, strict=True)
    return {
        **named(served, cluster),
        "offset": asked.offset,
        "has_shares": share is not None,
        "items": [
            {
                "sample": sample,
                "name": f"train {sample}",
                "file": readable(origin.files[sample]) if origin is not None and origin.files else "",
                "loss": each,
                "predicted": said,
                "share": rough,
                "picture": picture,
            }
            for sample, each, said, rough, picture in rows
        ],
    }


def _losses(served: ServedRun, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the target on some training images, and the classes that it predicts, on the processor."""
    workspace = served.run.workspace
    train = workspace.data.train.take(positions)
    logits = workspace.target_logits(train.images)
    labels = train.labels.to(torch.int64) if train.labels.ndim == 1 else train.labels
    return F.cross_entropy(logits, labels, reduction="none").cpu(), logits.argmax(1).cpu()
