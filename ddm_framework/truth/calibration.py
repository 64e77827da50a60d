"""Retrainings without random sets and without single clusters: how good the estimates are, and how to make them better.

Sets calibrate sets, single clusters calibrate what a sentence says of one cluster. Every figure "after" is nested: the
network that is predicted had no say in the scale, the penalty, the residual or the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.online import Amounts, Objective, Queries, amounts_from, log_odds
from ddm_framework.runs import Workspace, artifacts
from ddm_framework.truth.agreement import FEWEST_CLUSTERS, explained, leave_one_out_spearman, sampled_explained_interval
from ddm_framework.truth.certificate import certified_interval
from ddm_framework.truth.corrected import (
    added,
    applied,
    centred,
    estimated_changes,
    random_fifths,
    true_changes,
)
from ddm_framework.truth.correction import Strength, choose_strength, correct, left_out
from ddm_framework.truth.retraining import is_retrained, retrained
from ddm_framework.truth.spread import Spread, fit_spread

FIRST = 5
"""Clusters of a query, the first by its ranking, whose errors say how wrong a sentence about one of them may be."""

_STEP_ALONE = (
    "These estimates come from a step alone (online.replay: 0), which overrates the first cluster of many images. Such"
    " intervals are wide and may hold the truth too rarely; docs/dial.md says how often. A replay mends this."
)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How well estimated effects of sets agree with the true ones; intervals are 95 %, for other sets and queries.

    Attributes:
        spearman: rank correlation over the sets, mean over the queries.
        spearman_interval: its interval.
        r2: R² of the effects in their own unit.
        r2_interval: its interval.
    """

    spearman: float
    spearman_interval: tuple[float, float]
    r2: float
    r2_interval: tuple[float, float]

    def metrics(self) -> dict[str, Any]:
        """By the names of metrics.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class SingleEffects:
    """How well the effects of single clusters on the log odds of the predicted class are estimated.

    Attributes:
        clusters: those that the network was retrained without; the ones named first most often stand first.
        r2_before: of their estimated effects.
        r2: of the corrected ones, each cluster left out.
        strength: the scale and the penalty.
        spread: how wide the interval of a corrected effect is.
        coverage: share of intervals that hold the truth, of the clusters that matter to a query, each left out.
    """

    clusters: tuple[int, ...]
    r2_before: float
    r2: float
    strength: Strength
    spread: Spread
    coverage: float

    def metrics(self) -> dict[str, Any]:
        """By the names of metrics.json."""
        return {
            "clusters": list(self.clusters),
            "r2": self.r2_before,
            "corrected": {"r2": self.r2, **_strength_metrics(self.strength)},
            "interval": {**asdict(self.spread), "coverage": self.coverage},
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """What retrainings without random sets, and without some single clusters, say of a run's estimates.

    Attributes:
        objective: whose effects were compared, for sets.
        retrainings: R, the networks without random sets.
        before: of the estimates as they are.
        after: of the corrected ones, each network left out.
        strength: the scale and the penalty for sets.
        singles: of the networks without single clusters; None if there were none.
        seconds: that the retrainings took.
        step_alone: whether networks were estimated without any training on real data.
    """

    objective: str
    retrainings: int
    before: Fidelity
    after: Fidelity
    strength: Strength
    singles: SingleEffects | None
    seconds: float
    step_alone: bool = False

    def metrics(self) -> dict[str, Any]:
        """By the names of metrics.json."""
        return {
            "of": "sets",
            "num_retrainings": self.retrainings,
            "objective": self.objective,
            **self.before.metrics(),
            "corrected": {**self.after.metrics(), **_strength_metrics(self.strength)},
            **({} if self.singles is None else {"singles": self.singles.metrics()}),
            "seconds": self.seconds,
        }

    def sentences(self) -> list[str]:
        """In plain words."""
        told = [
            f"The network was really retrained without {self.retrainings} random fifths of the clusters. The estimated"
            f" {self.objective} effects order these sets as the true ones do with a rank correlation of"
            f" {_between(self.before.spearman, self.before.spearman_interval)} and explain"
            f" {_between(self.before.r2, self.before.r2_interval)} of their size (R², 95 % intervals for other sets)."
            f" Scaled by {self.strength.scale:.2f} and corrected by the other retrainings, each set left out in turn,"
            f" they reach {_between(self.after.spearman, self.after.spearman_interval)} and"
            f" {_between(self.after.r2, self.after.r2_interval)}."
        ]
        if self.singles is not None:
            found = self.singles
            told.append(
                f"It was also retrained without each of {len(found.clusters)} single clusters, those that are named"
                f" first most often and random ones. Their effects on the log odds of what the network says are"
                f" estimated with an R² of {found.r2_before:.2f}, and with {found.r2:.2f} after the correction. The"
                f" {found.spread.level:.0%} intervals of the amounts below come from these errors"
                f"{_held(found.coverage)}."
            )
            if self.step_alone:
                told.append(_STEP_ALONE)
        if self.retrainings < FEWEST_CLUSTERS:
            told.append(f"Fewer than {FEWEST_CLUSTERS} sets say nothing of the others; twenty are a good number.")
        return told


def calibrate(
    workspace: Workspace, queries: Queries, objective: Objective, retrainings: int, singles: int
) -> Calibration:
    """Retrain and compare.

    Args:
        workspace: a run whose target is trained and whose synset is matched.
        queries: N of them, at least two.
        objective: with one behaviour a query.
        retrainings: networks without a random fifth of the clusters, at least 3.
        singles: networks without one cluster, 0 or at least 3.
    Raises:
        DDMError: as `retrained`, or if no retrained network differs from the target.
    """
    sets = random_fifths(workspace, retrainings)
    clusters = named_and_random(workspace, queries, objective, singles)
    rows = torch.cat([sets, without_each(workspace, clusters)])
    bank = retrained(workspace, rows)
    true, reference = true_changes(workspace, queries, rows), workspace.reference(queries)
    raw = estimated_changes(workspace, queries, sets)
    deleted, own = 1 - sets.double(), centred(raw)
    told = true[: len(sets)]
    if not told.any():
        raise DDMError(
            "certificate: networks that were retrained without random fifths of the clusters say what the target says, "
            "so nothing can be compared; is the target trained at all (training.lr, training.epochs)?"
        )
    predicted = raw + left_out(deleted, own.flatten(1), told.flatten(1)).view_as(own) - own
    effects = [
        objective.effect_on((reference.target_logits.cpu() + each).to(workspace.device).float(), reference)[:, :, 0]
        for each in (raw, predicted, told)
    ]
    return Calibration(
        objective.name,
        retrainings,
        fidelity_of(effects[0], effects[2]),
        fidelity_of(effects[1], effects[2]),
        choose_strength(deleted, own.flatten(1), told.flatten(1)),
        _single_effects(workspace, queries, objective, rows, clusters, true) if clusters else None,
        bank.seconds,
        step_alone=not workspace.recipe.online.replay and not workspace.recipe.online.anchor,
    )


def fidelity_of(effect: Tensor, true_effect: Tensor) -> Fidelity:
    """Agreement of effects (N, R) of sets with the true ones, for all sets of their kind."""
    return Fidelity(
        float(leave_one_out_spearman(effect, true_effect).mean()),
        certified_interval(effect, true_effect, math.inf),
        explained(effect, true_effect),
        sampled_explained_interval(effect, true_effect),
    )


def named_and_random(workspace: Workspace, queries: Queries, objective: Objective, count: int) -> tuple[int, ...]:
    """Clusters to retrain without: those ranked first for most queries, and a quarter of the count drawn at random.

    A sentence is about a cluster that is ranked first, and the errors of those are the ones that it must know.

    Args:
        workspace: the run.
        queries: whose first clusters are counted.
        objective: that ranks them.
        count: how many; all of them if there are fewer.
    """
    if count == 0:
        return ()
    total = workspace.partition.num_clusters
    first = objective.ranking(workspace.attribution(queries, objective).effect)[:, 0]
    named = first.bincount(minlength=total).argsort(descending=True, stable=True)
    shuffled = torch.randperm(total, generator=workspace.generator("certificate", "singles"))
    return tuple(dict.fromkeys([*named[: count - count // 4].tolist(), *shuffled.tolist()]))[:count]


def without_each(workspace: Workspace, clusters: Sequence[int]) -> Tensor:
    """Perturbations that each lack one of some clusters, float32 (S, K)."""
    return (1 - torch.eye(workspace.partition.num_clusters))[list(clusters)]


def _single_effects(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    rows: Tensor,
    clusters: Sequence[int],
    true: Tensor,
) -> SingleEffects:
    """What the retrainings without single clusters say of the effects that `logit_effects` estimates."""
    raw, at = workspace.logit_effects(queries), list(clusters)
    own, deleted = centred(raw), 1 - rows.double()
    sums, told = added(deleted, own).flatten(1), true.flatten(1)
    target = workspace.target_logits(queries.images).double().cpu()
    said = target.argmax(1)

    def change(logits: Tensor) -> Tensor:
        """Of the log odds, (N, S), by changes of the logits (S, N, classes)."""
        return (log_odds(target + logits, said) - log_odds(target, said)).T

    predicted = torch.empty_like(raw[at])
    for place, cluster in enumerate(at):
        kept = torch.arange(len(rows)) != len(rows) - len(at) + place
        fitted = correct(deleted[kept], sums[kept], told[kept])
        alone = torch.eye(len(raw), dtype=torch.float64)[[cluster]]
        predicted[place] = applied(fitted, alone, raw[[cluster]])[0]
    estimated, known = change(predicted), change(true[-len(at) :])
    order = objective.ranking(workspace.attribution(queries, objective).effect)
    matters = (order.argsort(1)[:, at] < FIRST).cpu()
    return SingleEffects(
        tuple(clusters),
        explained(change(raw[at]), known),
        explained(estimated, known),
        choose_strength(deleted, sums, told),
        fit_spread(estimated, known, matters),
        _coverage(estimated, known, matters),
    )


def _coverage(estimated: Tensor, true: Tensor, matters: Tensor) -> float:
    """Share of effects that matter within their interval, which is fitted without the cluster; NaN of none."""
    held = []
    for left in range(estimated.shape[1]):
        kept = torch.arange(estimated.shape[1]) != left
        spread = fit_spread(estimated[:, kept], true[:, kept], matters[:, kept])
        within = (true[:, left] - estimated[:, left]).abs() <= spread.half_width(estimated[:, left])
        held.append(within[matters[:, left]])
    return float(torch.cat(held).double().mean())


def amounts_of(workspace: Workspace, queries: Queries, chosen: Sequence[int] | None = None) -> Amounts | None:
    """Amounts with their intervals, if the run's certificate has retrainings without single clusters.

    Args:
        workspace: of a run, finished or at its study.
        queries: N of them.
        chosen: positions of those to answer; all by default.
    Returns:
        None without a certificate, without singles in it, or if the retrained networks are gone.
    """
    known = _known(workspace)
    if known is None:
        return None
    clusters, spread = known["clusters"], Spread(**{key: known["interval"][key] for key in Spread.__annotations__})
    rows = torch.cat([random_fifths(workspace, known["num_sets"]), without_each(workspace, clusters)])
    if not is_retrained(workspace, rows):
        workspace.display.say("the retrained networks of the certificate are gone, so no amounts can be told")
        return None
    raw = workspace.logit_effects(queries, chosen)
    asked = queries if chosen is None else queries.take(torch.tensor(list(chosen), dtype=torch.int64))
    true, deleted, own = true_changes(workspace, asked, rows), 1 - rows.double(), centred(raw)
    penalty = known["corrected"]["penalty"]
    strength = Strength(known["corrected"]["scale"], math.inf if penalty is None else penalty, math.nan)
    fitted = correct(deleted, added(deleted, own).flatten(1), true.flatten(1), strength)
    change = applied(fitted, torch.eye(len(raw), dtype=torch.float64), raw)
    change[clusters] = true[-len(clusters) :]
    target = workspace.target_logits(asked.images).double().cpu()
    said = target.argmax(1)
    odds = log_odds(target, said)
    moved = (log_odds(target + change, said) - odds).T
    seen = torch.zeros(len(raw), dtype=torch.bool)
    seen[clusters] = True
    return amounts_from(odds, moved, spread.half_width(moved), seen, spread.level)


def _known(workspace: Workspace) -> dict[str, Any] | None:
    """What the certificate of the run says of single clusters, and the number of its sets."""
    certificate = workspace.certificate
    if certificate is None and workspace.folder.is_done("online"):
        certificate = artifacts.load_metrics(workspace.folder).get("certificate")
    if not certificate or "singles" not in certificate:
        return None
    return {**certificate["singles"], "num_sets": certificate["num_retrainings"]}


def _strength_metrics(strength: Strength) -> dict[str, float | None]:
    """The scale and the penalty; null = no correction but the scale."""
    return {"scale": strength.scale, "penalty": None if math.isinf(strength.penalty) else strength.penalty}


def _between(value: float, interval: tuple[float, float]) -> str:
    """A figure with its interval, or alone where the sets were too few for one."""
    told = f"{value:.2f}"
    return told if math.isinf(interval[0]) else f"{told} ({interval[0]:.2f} to {interval[1]:.2f})"


def _held(coverage: float) -> str:
    if math.isnan(coverage):
        return ""
    return f"; of the clusters left out in turn, {coverage:.0%} of the effects that matter lie within theirs"
