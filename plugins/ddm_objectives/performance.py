"""The performance of a network on a set of images, or on a slice of it given by labels."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework import DDMError, Reference, objective

Metric = Literal["loss", "accuracy", "precision", "recall", "f1", "false_positives"]
_WORSE_WHEN_LARGER = ("loss", "false_positives")


def _direction(options: dict[str, Any]) -> Literal["larger", "smaller"]:
    """The most influential cluster is the one whose deletion hurts most."""
    return "larger" if options["metric"] in _WORSE_WHEN_LARGER else "smaller"


@objective(more_influential=_direction, set_level=True, needs_labels=True)
def performance(
    logits: Tensor,
    reference: Reference,
    /,
    *,
    metric: Metric = "loss",
    classes: list[int] | None = None,
    positive: int | None = None,
) -> Tensor:
    """One figure for a set of labelled images.

    `loss` is the mean cross entropy in nats (Eq. 14 with Dist_2), `accuracy` a share. `precision`, `recall` and `f1`
    are those of the class `positive`, or without one the mean over the classes that occur among the labels (macro), so
    that all networks are averaged over the same classes. `false_positives` counts the images that are wrongly
    classified as `positive`.

    Args:
        logits: (N, classes).
        reference: with labels.
        metric: which figure.
        classes: measure only on images with these labels.
        positive: the class in question.
    Returns:
        (1, 1).
    Raises:
        DDMError: if the slice is empty, a class does not exist, or `false_positives` has no class.
    Source: Eq. 14; Sec. 3.1, model functionality analysis.
    """
    assert reference.labels is not None
    _check_classes(classes, positive, metric, reference.data.num_classes)
    labels = reference.labels
    if classes is not None:
        kept = torch.isin(labels, torch.tensor(classes, device=labels.device))
        logits, labels = logits[kept], labels[kept]
    if len(labels) == 0:
        raise DDMError(f"objective performance: no image has a label in {classes}; choose other classes")
    if metric == "loss":
        return F.cross_entropy(logits, labels).reshape(1, 1)
    predicted = logits.argmax(1)
    if metric == "accuracy":
        return (predicted == labels).float().mean().reshape(1, 1)
    if metric == "false_positives":
        return ((predicted == positive) & (labels != positive)).float().sum().reshape(1, 1)
    return _of_class(predicted, labels, metric, positive)


def _of_class(predicted: Tensor, labels: Tensor, metric: str, positive: int | None) -> Tensor:
    from sklearn.metrics import f1_score, precision_score, recall_score

    score = {"precision": precision_score, "recall": recall_score, "f1": f1_score}[metric]
    chosen = labels.unique().tolist() if positive is None else [positive]
    value = score(labels.cpu().numpy(), predicted.cpu().numpy(), labels=chosen, average="macro", zero_division=0)
    return torch.tensor(float(value)).reshape(1, 1)


def _check_classes(classes: list[int] | None, positive: int | None, metric: str, num_classes: int) -> None:
    if metric == "false_positives" and positive is None:
        raise DDMError(
            "objective performance: metric false_positives needs `positive:`, the class that is falsely predicted"
        )
    named = [*(classes or []), *([] if positive is None else [positive])]
    if outside := [each for each in named if not 0 <= each < num_classes]:
        raise DDMError(f"objective performance: class {outside[0]} does not exist; classes are 0 to {num_classes - 1}")
