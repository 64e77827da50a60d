"""The pane of queries: test images, filtered, ordered and a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddm_framework.app import thumbnails
from ddm_framework.app.requests import Listing
from ddm_framework.app.served_run import TEST, ServedRun


def listed(served: ServedRun, asked: Listing) -> dict[str, Any]:
    """A page of test images that pass the filters, and how many pass."""
    positions = _ordered(served, _passing(served, asked), asked.order)
    page = positions[asked.offset : asked.offset + asked.limit].tolist()
    return {"total": len(positions), "offset": asked.offset, "items": cards(served, page)}


def cards(served: ServedRun, positions: Sequence[int], after: Tensor | None = None) -> list[dict[str, Any]]:
    """Test images in a few words each.

    Args:
        served: the run.
        positions: in the test split.
        after: probabilities of the whole test split by another network, (N, classes), to stand beside the target's.
    """
    images, info = served.queries.images, served.run.workspace.info
    if not positions:
        return []
    pictures = thumbnails.small(info, images[torch.tensor(positions, device=served.run.workspace.device)])
    labels = served.queries.labels
    assert labels is not None
    found = []
    for position, picture in zip(positions, pictures, strict=True):
        card = {
            "key": f"{TEST}{position}",
            "name": served.queries.ids[position],
            "label": int(labels[position]),
            "picture": picture,
            **_said(served.probabilities[position]),
        }
        if after is not None:
            card["after"] = _said(after[position])
        found.append(card)
    return found


def _said(probabilities: Tensor) -> dict[str, Any]:
    predicted = int(probabilities.argmax())
    return {"predicted": predicted, "confidence": float(probabilities[predicted])}


def _passing(served: ServedRun, asked: Listing) -> Tensor:
    """Positions of the test images that pass the filters, ascending."""
    confidence, predicted = served.probabilities.max(1)
    labels = served.queries.labels
    assert labels is not None
    labels = labels.cpu()
    passes = (confidence >= asked.least) & (confidence <= asked.most)
    if asked.wrong:
        passes &= predicted != labels
    if asked.predicted is not None:
        passes &= predicted == asked.predicted
    if asked.labelled is not None:
        passes &= labels == asked.labelled
    if asked.text:
        wanted = asked.text.casefold()
        passes &= torch.tensor([wanted in name.casefold() for name in served.queries.ids], dtype=torch.bool)
    return passes.nonzero()[:, 0]


def _ordered(served: ServedRun, positions: Tensor, order: str) -> Tensor:
    confidence, predicted = served.probabilities[positions].max(1)
    if order == "wrong_first":
        labels = served.queries.labels
        assert labels is not None
        return positions[torch.argsort(predicted == labels.cpu()[positions], stable=True)]
    if order in ("least_sure", "most_sure"):
        return positions[torch.argsort(confidence, descending=order == "most_sure", stable=True)]
    return positions
