"""Compare one method with exact retraining: where its first choices lead, how it ranks, what it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddm_framework import figures
from ddm_framework.bank import Bank, bank_logits, retrained
from ddm_framework.effects import Estimate, Objective, Queries
from ddm_framework.partition import Partition
from ddm_framework.perturbations import leave_one_out, random_deletions
from ddm_framework.workspace import Workspace

DISTANCES = {"dist_1": "output_shift", "dist_2": "correctness", "dist_3": "stability"}
"""The three distances of Eq. 10 by the objectives that measure them."""
SCALE = 100
"""Dist_1 is given times 100, as in Table 1."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One method's figures.

    Attributes:
        name: of the method.
        settings: what it was run with, in words.
        figures: by the names that metrics.json uses; `<figure>_interval` holds [low, high].
        note: what the reader must know of the figures.
    """

    name: str
    settings: str
    figures: dict[str, Any]
    note: str = ""

    def of(self, name: str) -> float | None:
        """A figure, or None where the method has none."""
        return self.figures.get(name)


@dataclass
class Judge:
    """The truth on some queries: networks without each cluster, and networks without random ones.

    Attributes:
        workspace: the run.
        queries: on which everything is measured.
        perturbations: (R, K), random deletions that score LDS; with none of them, R = 0, there is no LDS.
        resamples: of each bootstrap interval.
    """

    workspace: Workspace
    queries: Queries
    perturbations: Tensor
    resamples: int = 2000
    _truths: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def masked_margins(self) -> Tensor:
        """True margins (R, N) of the networks without random clusters."""
        bank = retrained(self.workspace, self.perturbations)
        return self.behaviours(bank_logits(self.workspace, bank, self.queries), self.margin)

    @cached_property
    def margin(self) -> Objective:
        """What ranks are compared on."""
        return self.workspace.objective("margin")

    def leave_one_out_bank(self, partition: Partition) -> Bank:
        """A network without each cluster of a partition."""
        return retrained(self.workspace, leave_one_out(partition.num_clusters)[1:], partition=partition)

    def leave_one_out_logits(self, partition: Partition) -> Tensor:
        """Logits (K, N, classes) of the networks without each cluster of a partition."""
        if id(partition.clusters) not in self._truths:
            bank = self.leave_one_out_bank(partition)
            self._truths[id(partition.clusters)] = bank_logits(self.workspace, bank, self.queries)
        return self._truths[id(partition.clusters)]

    def behaviours(self, logits: Tensor, objective: Objective) -> Tensor:
        """Behaviours (P, N) of P networks by an objective with one, float64."""
        reference = self.workspace.reference(self.queries)
        return torch.stack([objective.measure(each, reference)[:, 0] for each in logits]).double().cpu()

    def truth(self, partition: Partition, objective: Objective) -> Tensor:
        """Behaviour of the network without each cluster, (N, K)."""
        return self.behaviours(self.leave_one_out_logits(partition), objective).T.contiguous()

    def verdict(self, method: str, settings: str, options: Mapping[str, Any]) -> Verdict:
        """Everything about one method."""
        estimates, seconds = self._estimates(method, options)
        found: dict[str, Any] = {}
        for figure, objective in DISTANCES.items():
            estimate = estimates[objective]
            truth = self.truth(estimate.partition, self.workspace.objective(objective))
            found |= self._choice_figures(figure, figures.judge(truth, estimate.ranking[:, 0]))
        common = estimates["margin"]
        found |= self._rank_figures(common)
        note = "" if common.common else "clusters of its own: floor and oracle are theirs, and it has no LDS"
        return Verdict(method, settings, {**found, **seconds}, note)

    def _estimates(self, method: str, options: Mapping[str, Any]) -> tuple[dict[str, Estimate], dict[str, float]]:
        """Effects by objective, each computed once, and the seconds of the offline work and of one question."""
        self.workspace.ledger.elapsed = self.workspace.ledger.charged = 0.0
        estimates: dict[str, Estimate] = {}
        shared: dict[str, Estimate] = {}
        online = []
        for name in (*DISTANCES.values(), "margin"):
            objective = self.workspace.objective(name)
            linear = self.workspace.is_linear(method)
            asked = self.workspace.surrogate(objective).name if linear else name
            if asked not in shared:
                before, begun = self.workspace.ledger.elapsed, time.monotonic()
                shared[asked] = self.workspace.attribute(self.queries, objective, method, **options)
                online.append(time.monotonic() - begun - (self.workspace.ledger.elapsed - before))
            estimate = shared[asked]
            sought = self.workspace.surrogate(objective) if linear else objective
            estimates[name] = Estimate(sought, estimate.effect, estimate.partition, estimate.common)
        charged = self.workspace.ledger.charged / len(online)
        return estimates, {"seconds_offline": charged, "seconds_online": sum(online) / len(online)}

    def _choice_figures(self, figure: str, judged: figures.Judged) -> dict[str, Any]:
        scale = SCALE if figure == "dist_1" else 1
        random = self.workspace.generator("bootstrap", figure)
        interval = figures.bootstrap_interval(judged.chosen * scale, random, resamples=self.resamples)
        found: dict[str, Any] = {
            figure: float(judged.chosen.mean()) * scale,
            f"{figure}_interval": list(interval),
            f"{figure}_floor": float(judged.random.mean()) * scale,
            f"{figure}_oracle": float(judged.oracle.mean()) * scale,
            f"{figure}_rank": float(judged.rank.mean()),
            f"{figure}_random_rank": float(judged.random_rank.mean()),
        }
        if figure != "dist_3":
            share = "recovered_share" if figure == "dist_1" else f"{figure}_recovered_share"
            between = figures.recovered_share_interval(judged, random, resamples=self.resamples)
            found |= {share: figures.recovered_share(judged), f"{share}_interval": list(between)}
        for name, values in (
            ("floor", judged.random * scale),
            ("oracle", judged.oracle * scale),
            ("rank", judged.rank),
            ("random_rank", judged.random_rank),
        ):
            interval = figures.bootstrap_interval(values, random, resamples=self.resamples)
            found[f"{figure}_{name}_interval"] = list(interval)
        return found

    def _rank_figures(self, estimate: Estimate) -> dict[str, Any]:
        """Spearman with the single deletions, and LDS with the random ones where the clusters are the run's own."""
        effect, random = estimate.effect[:, :, 0], self.workspace.generator("bootstrap", "ranks")
        reference = self.workspace.reference(self.queries)
        own = self.margin.measure(reference.target_logits, reference).double().cpu()
        true_effect = self.truth(estimate.partition, self.margin) - own
        spearman = figures.leave_one_out_spearman(effect, true_effect)
        overlap = figures.top_overlap(estimate.ranking, -true_effect, 5)
        found: dict[str, Any] = {
            "spearman": float(spearman.mean()),
            "spearman_interval": list(figures.bootstrap_interval(spearman, random, resamples=self.resamples)),
            "top_5_overlap": float(overlap.mean()),
        }
        if not estimate.common or not len(self.perturbations):
            return found
        lds = figures.cluster_lds(effect, self.masked_margins, self.perturbations)
        interval = figures.cluster_lds_interval(
            effect, self.masked_margins, self.perturbations, random, resamples=max(50, self.resamples // 10)
        )
        return {**found, "cluster_lds": float(lds.mean()), "cluster_lds_interval": list(interval)}


def scoring_masks(workspace: Workspace, count: int, share: float, purpose: str) -> Tensor:
    """Random deletions for one purpose, (count, K); another purpose draws others."""
    return random_deletions(workspace.partition.num_clusters, count, share, workspace.generator("masks", purpose))
