"""Six figures of a set, against counts by hand and against scikit-learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ddm_objectives.performance import performance
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor

from ddm_framework import DDMError, Reference
from ddm_framework.data.splits import DataInfo

INFO = DataInfo((1, 2, 2), 4, (0.5,), (0.25,), ("a", "b", "c", "d"))
LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
PREDICTED = [0, 0, 1, 1, 2, 2, 2, 0, 3, 2]
SETS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def asked(labels: list[int]) -> Reference:
    return Reference(torch.zeros(len(labels), 1, 2, 2), torch.tensor(labels), torch.zeros(len(labels), 4), INFO)


def logits_for(predicted: list[int]) -> Tensor:
    noise = torch.rand(len(predicted), 4, generator=torch.Generator().manual_seed(0))
    return noise + 2 * F.one_hot(torch.tensor(predicted), 4)


def figure(metric: str, labels: list[int] = LABELS, predicted: list[int] = PREDICTED, **options: Any) -> float:
    found = performance(logits_for(predicted), asked(labels), metric=metric, **options)
    assert found.shape == (1, 1)
    return found.item()


@pytest.mark.parametrize(
    ("metric", "options", "wanted"),
    [
        ("accuracy", {}, 6 / 10),
        ("accuracy", {"classes": [2]}, 2 / 3),
        ("accuracy", {"classes": [1, 3]}, 2 / 4),
        ("precision", {"positive": 2}, 2 / 4),
        ("recall", {"positive": 2}, 2 / 3),
        ("f1", {"positive": 2}, 4 / 7),
        ("precision", {}, (2 / 3 + 1 / 2 + 2 / 4 + 1) / 4),
        ("recall", {}, (2 / 3 + 1 / 2 + 2 / 3 + 1 / 2) / 4),
        ("f1", {}, (2 / 3 + 1 / 2 + 4 / 7 + 2 / 3) / 4),
        ("false_positives", {"positive": 2}, 2),
        ("false_positives", {"positive": 2, "classes": [1]}, 1),
        ("false_positives", {"positive": 3}, 0),
    ],
)
def test_counts_by_hand(metric: str, options: dict[str, Any], wanted: float) -> None:
    assert figure(metric, **options) == pytest.approx(wanted)


def test_loss_is_the_mean_cross_entropy_of_the_slice() -> None:
    logits, labels = logits_for(PREDICTED), torch.tensor(LABELS)
    assert performance(logits, asked(LABELS)).item() == pytest.approx(F.cross_entropy(logits, labels).item())
    kept = (labels == 1) | (labels == 2)
    wanted = F.cross_entropy(logits[kept], labels[kept]).item()
    assert performance(logits, asked(LABELS), classes=[2, 1]).item() == pytest.approx(wanted)
    assert wanted == pytest.approx(metrics.log_loss(labels[kept], logits[kept].double().softmax(1), labels=range(4)))


@given(SETS, st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_agrees_with_scikit_learn(pairs: list[tuple[int, int]], positive: int) -> None:
    labels, predicted = map(list, zip(*pairs, strict=True))
    scores = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}
    for metric, score in scores.items():
        for chosen, options in ((sorted(set(labels)), {}), ([positive], {"positive": positive})):
            wanted = score(labels, predicted, labels=chosen, average="macro", zero_division=0)
            assert figure(metric, labels, predicted, **options) == pytest.approx(wanted)
    assert figure("accuracy", labels, predicted) == pytest.approx(metrics.accuracy_score(labels, predicted))
    table = metrics.confusion_matrix(labels, predicted, labels=range(4))
    wanted = table[:, positive].sum() - table[positive, positive]
    assert figure("false_positives", labels, predicted, positive=positive) == wanted


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_a_class_that_is_only_predicted_does_not_change_what_is_averaged_over(metric: str) -> None:
    """Otherwise one prediction of a new class would look like an effect of the deleted cluster."""
    one, several = figure(metric, [0] * 6, [0, 0, 0, 1, 1, 1]), figure(metric, [0] * 6, [0, 0, 0, 1, 2, 3])
    assert one == several == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3)}[metric]


def test_class_that_nobody_predicts_has_no_precision_and_no_recall() -> None:
    assert figure("precision", [0, 1], [1, 1], positive=0) == 0
    assert figure("recall", [0, 1], [1, 1], positive=0) == 0
    assert figure("recall", [1, 1], [1, 1], positive=0) == 0


def test_direction_is_that_of_harm() -> None:
    declaration = performance.ddm_declaration
    found = {metric: declaration.more_influential({"metric": metric}) for metric in ("loss", "false_positives")}
    assert set(found.values()) == {"larger"}
    for metric in ("accuracy", "precision", "recall", "f1"):
        assert declaration.more_influential({"metric": metric}) == "smaller"
    assert declaration.set_level
    assert declaration.needs_labels
    assert declaration.surrogate is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "false_positives"}, "metric false_positives needs `positive:`, the class that is falsely"),
        ({"classes": [0, 4]}, "class 4 does not exist; classes are 0 to 3"),
        ({"metric": "f1", "positive": -1}, "class -1 does not exist; classes are 0 to 3"),
        ({"classes": [2, 3]}, r"no image has a label in \[2, 3\]; choose other classes"),
        ({"classes": []}, r"no image has a label in \[\]"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DDMError, match=f"objective performance: {message}"):
        performance(logits_for([0, 1]), asked([0, 1]), **options)


def test_other_images_than_the_slice_do_not_matter(labelled: Reference) -> None:
    reference = dataclasses.replace(labelled, data=INFO)
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    changed = torch.where((reference.labels == 1)[:, None], 100.0, logits)
    for metric in ("loss", "accuracy", "f1"):
        options = {"metric": metric, "classes": [0, 2]}
        assert torch.equal(performance(logits, reference, **options), performance(changed, reference, **options))
