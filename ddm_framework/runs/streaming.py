"""Attribution of many queries: each estimated network is measured and let go, so that no logits pile up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddm_framework.online import (
    Attribution,
    Objective,
    Queries,
    beta_weights,
    fit_attribution,
)
from ddm_framework.online.attribution import regress

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace

SHARE = 4
"""Logits of all perturbed networks are held at once up to this part (1 / 4) of the budget: they are copied in use."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """What one pass over the perturbed networks leaves of a question.

    Attributes:
        attributions: by objective, as `objective_key` names it.
        kept: queries of which all logits are kept, ascending positions.
        logits: of these, (P, len(kept), classes).
    """

    attributions: dict[str, Attribution]
    kept: tuple[int, ...]
    logits: Tensor


def objective_key(objective: Objective) -> str:
    """The same for the same objective with the same options."""
    return repr((objective.choice.as_dict(), objective.sought))


def fits(workspace: Workspace, queries: Queries) -> bool:
    """Whether the logits of all perturbed networks fit in the budget at once."""
    values = len(workspace.perturbations) * len(queries) * workspace.info.num_classes
    return SHARE * 4 * values <= workspace.budget.memory_mb * 2**20


def stream(workspace: Workspace, queries: Queries, objectives: Sequence[Objective], keep: Sequence[int]) -> Streamed:
    """Measure every network of the recipe's design by all objectives, one network at a time, and regress (Eq. 8).

    Args:
        workspace: a run whose synset is matched.
        queries: N of them.
        objectives: all of single queries, or all of whole sets.
        keep: positions of queries whose logits are kept, for `Workspace.prediction_matrix`.
    """
    online, reference, rows = workspace.recipe.online, workspace.reference(queries), workspace.perturbations
    kept = tuple(sorted(set(keep)))
    chosen = torch.tensor(kept, dtype=torch.int64, device=workspace.device)
    predicted = reference.target_logits.argmax(1, keepdim=True)
    # Written in place: many small tensors between large ones that come and go would tear the memory to pieces.
    said = torch.empty(len(rows), len(queries), 1, device=workspace.device)
    logits = torch.empty(len(rows), len(kept), workspace.info.num_classes, device=workspace.device)
    behaviours: list[Tensor] = []
    for row, each in enumerate(workspace.each_logits(queries, rows, workspace.synset)):
        found = [objective.measure(each, reference) for objective in objectives]
        behaviours = behaviours or [measured.new_empty(len(rows), *measured.shape) for measured in found]
        for place, measured in zip(behaviours, found, strict=True):
            place[row] = measured
        said[row] = each.softmax(1).gather(1, predicted)
        logits[row] = each[chosen]
    weights, support = beta_weights(rows, online.beta), None
    if not any(objective.declaration.set_level for objective in objectives):
        support = fit_attribution(rows, said, weights, online.ridge)[0][:, :, 0]
    attributions = {}
    for objective in objectives:
        attribution = regress(objective, reference, rows, behaviours.pop(0), weights, online.ridge)
        attributions[objective_key(objective)] = replace(attribution, support=support)
    return Streamed(attributions, kept, logits)
