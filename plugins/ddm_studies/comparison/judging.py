"""Compare a method with exact retraining: the true effect of its top cluster, its ranking and its cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddm_framework import Choice, Objective, Queries, Workspace
from ddm_framework.offline import Partition
from ddm_framework.online import Estimate, random_deletions
from ddm_framework.runs import open_account
from ddm_framework.truth import (
    Judged,
    bank_logits,
    bootstrap_interval,
    cluster_lds,
    cluster_lds_interval,
    explained,
    explained_interval,
    judge,
    leave_one_out_spearman,
    recovered_share,
    recovered_share_interval,
    retrained,
    set_lds,
    set_lds_interval,
    top_overlap,
)
from ddm_studies.comparison.measured import Measured, between, bootstrapped
from ddm_studies.comparison.running import behaviours, without_each

DISTANCES = {"dist_1": "output_shift", "dist_2": "correctness", "dist_3": "stability"}
"""The three distances of Eq. 10, and the objectives that measure them."""
SCALE = 100
"""Dist_1 is reported times 100, as in Table 1."""

OWN_CLUSTERS = "clusters of its own: floor and oracle are those of these clusters, and there is no LDS"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of one method.

    Attributes:
        name: of the method in the report.
        method: name of the attributor.
        settings: its options, in words.
        figures: by the names in metrics.json; `<figure>_interval` holds [low, high].
        chosen: the true value for the method's top cluster, by figure, float64 (N,).
        random: the mean true value over all clusters, by figure, float64 (N,).
        oracle: the true value for the best cluster, by figure, float64 (N,).
        lds: cluster LDS of each query, float64 (N,); None where the method has none.
        note: what must be known to read the figures.
    """

    name: str
    method: str
    settings: str
    figures: dict[str, Any]
    chosen: Mapping[str, Tensor] = field(default_factory=dict)
    random: Mapping[str, Tensor] = field(default_factory=dict)
    oracle: Mapping[str, Tensor] = field(default_factory=dict)
    lds: Tensor | None = None
    note: str = ""

    def cells(self, names: Iterable[str]) -> list[str | int | float | None]:
        """Figures for a row of a table; None where the method has none, intervals in words."""
        found = [self.figures.get(name, "" if name.endswith("_interval") else None) for name in names]
        return [between(each, ".2f") if isinstance(each, list) else each for each in found]


@dataclass
class Judge:
    """The truth on some queries, from networks without each cluster and networks without random clusters.

    Linear methods answer by the objective's surrogate, for a distance from the target the margin of its prediction.
    What they answer by their estimate of every logit can be judged beside it.

    Attributes:
        queries: on which everything is measured.
        perturbations: (R, K), random deletions for the LDS; without any there is no LDS.
        resamples: of each bootstrap interval.
        by_logits: also judge what linear methods answer by their estimate of every logit.
    """

    workspace: Workspace
    queries: Queries
    perturbations: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    resamples: int = 2000
    by_logits: bool = False
    _truths: dict[bytes, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Networks that an earlier question left in the run folder are not used: seconds are those of a first question.
        self.workspace = self.workspace.with_online(keep_mb=0)

    @cached_property
    def masked_margins(self) -> Tensor:
        """True margins (R, N) of the networks without random clusters."""
        bank = retrained(self.workspace, self.perturbations)
        return self.behaviours(bank_logits(self.workspace, bank, self.queries), self.margin)

    @cached_property
    def margin(self) -> Objective:
        """The objective of the rank correlations."""
        return self.workspace.objective("margin")

    def leave_one_out_logits(self, partition: Partition) -> Tensor:
        """Logits (K, N, classes) of the networks without each cluster of a partition."""
        key = partition.clusters.cpu().numpy().tobytes()  # partitions with the same content share an entry
        if key not in self._truths:
            self._truths[key] = bank_logits(self.workspace, without_each(self.workspace, partition), self.queries)
        return self._truths[key]

    def behaviours(self, logits: Tensor, objective: Objective) -> Tensor:
        """Behaviours (P, N) of P networks by an objective with one behaviour, float64."""
        return behaviours(self.workspace, objective, logits, self.queries)

    def truth(self, partition: Partition, objective: Objective) -> Tensor:
        """Behaviour of the network without each cluster, (N, K)."""
        return self.behaviours(self.leave_one_out_logits(partition), objective).T.contiguous()

    @cached_property
    def misread(self) -> Tensor:
        """Whether the target misreads each query, bool (N,); none if they have no labels."""
        predicted = self.workspace.target_logits(self.queries.images).argmax(1)
        labels = predicted if self.queries.labels is None else self.queries.labels
        return (predicted != labels).cpu()

    def verdict(self, name: str, choice: Choice, settings: str) -> Verdict:
        """All figures of one method."""
        estimates, seconds = self._estimates(choice)
        found: dict[str, Any] = {}
        judged = {figure: self._judged(estimates[objective], objective) for figure, objective in DISTANCES.items()}
        for figure, each in judged.items():
            found |= self._choice_figures(figure, each)
        found |= self._by_reading(judged["dist_1"])
        if self.by_logits and self.workspace.method(choice).logits:
            found["by_logits"] = self._by_logits(choice)
        margins = estimates["margin"]
        ranks, lds = self._rank_figures(margins)
        ranks |= self.set_figures(choice)
        values = {
            part: {figure: _scale(figure) * getattr(each, part) for figure, each in judged.items()}
            for part in ("chosen", "random", "oracle")
        }
        figures = {**found, **ranks, **seconds}
        note = "" if margins.on_run_partition else OWN_CLUSTERS
        return Verdict(name, choice.name, settings, figures, **values, lds=lds, note=note)

    def _judged(self, estimate: Estimate, objective: str) -> Judged:
        """What retraining without the clusters that are ranked first did."""
        return judge(self.truth(estimate.partition, self.workspace.objective(objective)), estimate.ranking[:, 0])

    def _by_reading(self, judged: Judged) -> dict[str, Any]:
        """The share for queries that the target misreads, and for those that it reads right."""
        found: dict[str, Any] = {"num_misread": int(self.misread.sum())}
        for name, rows in (("misread", self.misread), ("read", ~self.misread)):
            part = Judged(*(getattr(judged, each.name)[rows] for each in fields(Judged)))
            if len(part.chosen) > 1 and bool((part.oracle > part.random).any()):
                random = self.workspace.generator("bootstrap", "dist_1", name)
                found |= self._recovered(part, random).metrics(f"{name}_share")
        return found

    def _recovered(self, judged: Judged, random: torch.Generator) -> Measured:
        return Measured(recovered_share(judged), recovered_share_interval(judged, random, resamples=self.resamples))

    def _by_logits(self, choice: Choice) -> dict[str, Any]:
        """Dist_1 of the cluster ranked first by the method's estimate of every logit."""
        objective = DISTANCES["dist_1"]
        estimate = self.workspace.effects_by(self.queries, self.workspace.objective(objective), choice)
        judged = self._judged(estimate, objective)
        return {**self._choice_figures("dist_1", judged), **self._by_reading(judged)}

    def _estimates(self, choice: Choice) -> tuple[dict[str, Estimate], dict[str, float]]:
        """Effects by objective, each computed once, and the seconds of the offline work and of one question.

        The first question is timed: nothing is cached for it, while later ones may reuse its networks. Offline work is
        charged to the method that requests it, each part once.
        """
        workspace = self.workspace
        workspace.forget_queries()
        linear = workspace.method(choice).linear
        estimates: dict[str, Estimate] = {}
        shared: dict[str, Estimate] = {}
        seconds: dict[str, float] = {}
        with open_account() as ledger:
            for name in (*DISTANCES.values(), "margin"):
                objective = workspace.objective(name)
                asked = workspace.surrogate(objective) if linear else objective
                question = f"{asked.name} {asked.choice.options}"
                if question not in shared:
                    begun, before = time.monotonic(), ledger.elapsed
                    shared[question] = workspace.effects_by(self.queries, objective, choice, by_surrogate=True)
                    online = time.monotonic() - begun - (ledger.elapsed - before)
                    seconds = seconds or {"seconds_offline": ledger.charged, "seconds_online": online}
                estimates[name] = replace(shared[question], objective=asked)
        return estimates, seconds

    def _choice_figures(self, figure: str, judged: Judged) -> dict[str, Any]:
        scale = _scale(figure)
        random = self.workspace.generator("bootstrap", figure)

        def measured(values: Tensor, unit: int) -> Measured:
            interval = bootstrap_interval(values * unit, random, resamples=self.resamples)
            return Measured(float(values.mean()) * unit, interval)

        found = measured(judged.chosen, scale).metrics(figure)
        if figure != "dist_3":
            share = "recovered_share" if figure == "dist_1" else f"{figure}_recovered_share"
            found |= self._recovered(judged, random).metrics(share)
        for name, values, unit in (
            ("floor", judged.random, scale),
            ("oracle", judged.oracle, scale),
            ("rank", judged.rank, 1),
            ("random_rank", judged.random_rank, 1),
        ):
            found |= measured(values, unit).metrics(f"{figure}_{name}")
        return found

    def _rank_figures(self, estimate: Estimate) -> tuple[dict[str, Any], Tensor | None]:
        """Spearman over the single deletions, and LDS over the random ones where the clusters are the run's own.

        Also the LDS of each query.
        """
        effect, random = estimate.effect[:, :, 0], self.workspace.generator("bootstrap", "ranks")
        reference = self.workspace.reference(self.queries)
        own = self.margin.measure(reference.target_logits, reference).double().cpu()
        true_effect = self.truth(estimate.partition, self.margin) - own
        spearman = leave_one_out_spearman(effect, true_effect)
        overlap = top_overlap(estimate.ranking, -true_effect, min(5, effect.shape[1]))
        found: dict[str, Any] = {
            **bootstrapped(spearman, random, resamples=self.resamples).metrics("spearman"),
            "top_5_overlap": float(overlap.mean()),
            **self._explained(effect, true_effect).metrics("r2"),
        }
        if not estimate.on_run_partition or not len(self.perturbations):
            return found, None
        lds = cluster_lds(effect, self.masked_margins, self.perturbations)
        interval = cluster_lds_interval(
            effect, self.masked_margins, self.perturbations, random, resamples=max(50, self.resamples // 10)
        )
        return {**found, **Measured(float(lds.mean()), interval).metrics("cluster_lds")}, lds

    def _explained(self, effect: Tensor, true_effect: Tensor) -> Measured:
        """R² of effects in their own unit."""
        random = self.workspace.generator("bootstrap", "r2")
        interval = explained_interval(effect, true_effect, random, resamples=self.resamples)
        return Measured(explained(effect, true_effect), interval)

    def set_figures(self, choice: Choice) -> dict[str, Any]:
        """What a method that estimates the network of a whole set says of the random deletions, if it does."""
        if not len(self.perturbations):
            return {}
        found = self.workspace.set_effects_by(self.queries, self.margin, choice, self.perturbations)
        if found is None:
            return {}
        effect, random = found[:, :, 0].T.contiguous(), self.workspace.generator("bootstrap", "sets")
        reference = self.workspace.reference(self.queries)
        own = self.margin.measure(reference.target_logits, reference).double().cpu()
        lds = set_lds(effect, self.masked_margins)
        interval = set_lds_interval(effect, self.masked_margins, random, resamples=max(50, self.resamples // 10))
        explained_sets = self._explained(effect, (self.masked_margins.cpu() - own.T).T.contiguous())
        return {**Measured(float(lds.mean()), interval).metrics("set_lds"), **explained_sets.metrics("set_r2")}


def on_run_clusters(found: Sequence[Verdict]) -> Verdict:
    """A method that ranked the run's own clusters, for the floor and ceiling of a table; the first if none did."""
    return next((each for each in found if not each.note), found[0])


def bounds(found: Sequence[Verdict], distances: Sequence[str] = tuple(DISTANCES)) -> dict[str, dict[str, float]]:
    """Floor and ceiling of the run's own clusters by each distance, as they stand in metrics.json."""
    first = on_run_clusters(found).figures
    return {
        name: {figure: first[f"{figure}_{bound}"] for figure in distances}
        for name, bound in (("random", "floor"), ("oracle", "oracle"))
    }


def apart(one: Tensor, other: Tensor) -> Measured:
    """The mean difference between the values (N,) of two methods on the same queries."""
    return bootstrapped(one - other, torch.Generator().manual_seed(0), resamples=2000)


def _scale(figure: str) -> int:
    return SCALE if figure == "dist_1" else 1


def scoring_masks(workspace: Workspace, count: int, share: float, purpose: str) -> Tensor:
    """Random deletions, (count, K), drawn independently for each purpose."""
    return random_deletions(workspace.partition.num_clusters, count, share, workspace.generator("masks", purpose))
