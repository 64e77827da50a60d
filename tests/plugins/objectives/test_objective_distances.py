"""Eq. 10: the three distances by hand, and what they declare."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from ddm_objectives.distances import correctness, output_shift, stability
from torch import Tensor

from ddm_framework import Reference
from ddm_framework.plugin.declarations import Declaration, Surrogate


def reference_of(target_logits: list[list[float]], like: Reference) -> Reference:
    target = torch.tensor(target_logits, dtype=torch.float64)
    return Reference(like.images[: len(target)], torch.zeros(len(target), dtype=torch.int64), target, like.data)


def test_hand_computed_values(labelled: Reference) -> None:
    """Probabilities (1/2, 1/4, 1/4) where the target had (1/4, 1/2, 1/4)."""
    reference = reference_of([[0.0, math.log(2), 0.0]], labelled)
    logits = torch.tensor([[math.log(2), 0.0, 0.0]], dtype=torch.float64)
    assert output_shift(logits, reference).item() == pytest.approx(2 / 16)
    assert stability(logits, reference).item() == pytest.approx(16 / 18)
    assert correctness(logits, reference).item() == pytest.approx(math.log(2))


def test_one_row_a_query(logits: Tensor, labelled: Reference) -> None:
    for measure in (output_shift, stability, correctness):
        found = measure(logits, labelled)
        assert found.shape == (5, 1)
        alone = [
            measure(
                logits[[i]],
                Reference(labelled.images[[i]], labelled.labels[[i]], labelled.target_logits[[i]], labelled.data),
            )
            for i in range(5)
        ]
        torch.testing.assert_close(found, torch.cat(alone))


def test_output_shift_is_measured_on_probabilities(logits: Tensor, unlabelled: Reference) -> None:
    wanted = (logits.softmax(1) - unlabelled.target_logits.softmax(1)).norm(dim=1, keepdim=True) ** 2
    torch.testing.assert_close(output_shift(logits, unlabelled), wanted)
    raised = logits + torch.arange(5)[:, None]
    torch.testing.assert_close(output_shift(raised, unlabelled), wanted)


def test_target_itself_does_not_shift_and_is_perfectly_stable(unlabelled: Reference) -> None:
    assert (output_shift(unlabelled.target_logits, unlabelled) == 0).all()
    assert (stability(unlabelled.target_logits, unlabelled) == 1).all()


def test_opposite_certainty_is_the_largest_shift(labelled: Reference) -> None:
    reference = reference_of([[100.0, 0.0, 0.0]], labelled)
    opposite = torch.tensor([[0.0, 100.0, 0.0]], dtype=torch.float64)
    assert output_shift(opposite, reference).item() == pytest.approx(2)
    assert stability(opposite, reference).item() == pytest.approx(1 / 3)


def test_output_shift_has_no_slope_at_the_target(unlabelled: Reference) -> None:
    logits = unlabelled.target_logits.clone().requires_grad_()
    output_shift(logits, unlabelled).sum().backward()
    assert (logits.grad == 0).all()


def test_correctness_is_the_cross_entropy_of_the_label(logits: Tensor, labelled: Reference) -> None:
    wanted = F.cross_entropy(logits, labelled.labels, reduction="none")
    torch.testing.assert_close(correctness(logits, labelled), wanted[:, None])
    assert (correctness(logits, labelled) >= 0).all()


def test_declarations() -> None:
    predicted = {"of": "prediction"}
    largest_drop = Surrogate("margin", "smaller", predicted)
    assert output_shift.ddm_declaration == Declaration("larger", surrogate=largest_drop)
    of_the_label = Surrogate("margin", "smaller")
    assert correctness.ddm_declaration == Declaration("larger", surrogate=of_the_label, needs_labels=True)
    assert stability.ddm_declaration == Declaration("larger", surrogate=Surrogate("margin", "nearest_zero", predicted))
