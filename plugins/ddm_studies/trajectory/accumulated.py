"""The accumulated errors of reverse and of ordinary gradient matching (Sec. 6.3, Eq. 12, 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddm_framework import Chart, Section, Table, Text, Workspace
from ddm_framework.network import Budget, Gradient, Target, flat, negative, norms
from ddm_framework.offline import (
    Divided,
    Pair,
    Synset,
    cluster_chunks,
    possible_pairs,
    synset_gradients,
    trajectory_gradients,
)
from ddm_framework.recipe import Matching
from ddm_studies.comparison.measured import Stored, bootstrapped


@dataclass(frozen=True, slots=True)
class Errors:
    """Distances between synthetic gradients and the gradients that they were matched to.

    Attributes:
        raw: float64 (K, T), length of the difference for each cluster and pair of checkpoints.
        fitted: (K, T), the same after scaling the synthetic gradient by the best non-negative factor, as matching by
            cosine leaves its length free.
        real: (K, T), length of the real gradient.
    """

    raw: Tensor
    fitted: Tensor
    real: Tensor


def error_figures(workspace: Workspace, forward: Workspace, resamples: int) -> dict[str, Any]:
    """Eq. 12 and 13, over the checkpoints t for which τ − t was saved too: means over clusters with intervals.

    The mean of Eq. 13 over κ is (K − 1) times the mean of each cluster's own terms, and its interval is scaled in the
    same way. The sums over all clusters but κ are not independent, so they cannot be resampled.
    """
    epochs = sorted(workspace.trajectory)
    mirrored = [(epoch, epochs[-1] - epoch) for epoch in epochs if epochs[-1] - epoch in workspace.trajectory]
    reverse = _errors(workspace, mirrored)
    matched = _errors(workspace, possible_pairs(epochs, workspace.recipe.matching))
    ordinary = _errors(forward, [(epoch, epoch) for epoch, _ in mirrored])
    random = workspace.generator("bootstrap", "errors")
    found: dict[str, Any] = {"checkpoints": len(mirrored)}
    for name, errors, times in (("eq_12", reverse, 1), ("eq_13", ordinary, workspace.partition.num_clusters - 1)):
        for kind, terms in (("raw", errors.raw), ("fitted", errors.fitted)):
            values = times * terms.sum(1)
            found |= bootstrapped(values, random, resamples=resamples).metrics(f"{name}_{kind}")
    for name, errors in (("eq_12", reverse), ("eq_13", ordinary), ("eq_12_own_pairs", matched)):
        found |= {f"{name}_{key}": value for key, value in _per_term(errors).items()}
    return found


def _errors(workspace: Workspace, pairs: Sequence[Pair]) -> Errors:
    made, matching = workspace.synset, workspace.recipe.matching
    return gradient_errors(workspace.trained, workspace.divided, made, pairs, matching, workspace.budget)


def _per_term(errors: Errors) -> dict[str, Any]:
    """The error of one cluster at one checkpoint relative to the real gradient there, as means and by checkpoint."""
    length = errors.real.clamp_min(torch.finfo(torch.float64).tiny)
    return {
        "raw_relative": float(errors.raw.sum() / length.sum()),
        "fitted_relative": float((errors.fitted / length).mean()),
        "fitted_relative_by_checkpoint": (errors.fitted / length).mean(0).tolist(),
    }


def gradient_errors(
    target: Target, divided: Divided, synset: Synset, pairs: Sequence[Pair], matching: Matching, budget: Budget
) -> Errors:
    """The terms of Eq. 12 (`direction: reverse`) or Eq. 13 (`forward`), a chunk of clusters at a time.

    Args:
        target: the network and its trajectory.
        divided: the training split and its K clusters.
        synset: of the K clusters.
        pairs: T pairs (epoch of the real gradient, epoch of the synthetic one).
        matching: gives the direction in which the synset was matched.
        budget: bounds the size of a chunk.
    """
    network, parts = target.network, []
    for part in cluster_chunks(network, pairs, matching, divided.partition.num_clusters, budget):
        real = trajectory_gradients(target, divided, part, pairs, budget)
        columns = []
        for epoch, other in pairs:
            wanted = negative(real[epoch]) if matching.direction == "reverse" else real[epoch]
            made = synset_gradients(
                target.at(other), target.trajectory[other], synset.images[part], synset.labels[part]
            )
            columns.append(_differences(made, wanted))
        parts.append(torch.stack(columns, 2))
    return Errors(*torch.cat(parts, 1))


def _differences(made: Gradient, wanted: Gradient) -> Tensor:
    """(3, K): length of the difference, the same with the best non-negative factor, and length of `wanted`."""
    length = norms(wanted).double().cpu()
    difference = norms({name: made[name] - each for name, each in wanted.items()}).double().cpu()
    cosine = torch.cosine_similarity(flat(made).double(), flat(wanted).double(), dim=1, eps=1e-300).cpu()
    return torch.stack([difference, length * (1 - cosine.clamp(0, 1).square()).sqrt(), length])


def error_section(errors: Stored) -> Section:
    """The report's section on the result of `error_figures`."""
    series = {
        "DDM (Eq. 12)": errors["eq_12_fitted_relative_by_checkpoint"],
        "DDM-match (Eq. 13)": errors["eq_13_fitted_relative_by_checkpoint"],
    }
    titles = {
        "eq_12": "DDM, θ_t with θ_(τ−t) (Eq. 12)",
        "eq_12_own_pairs": "DDM, at the pairs used for matching",
        "eq_13": "DDM-match, θ_t with θ_t (Eq. 13)",
    }
    rows = [[title, errors[f"{key}_raw_relative"], errors[f"{key}_fitted_relative"]] for key, title in titles.items()]
    told = (
        "Matching by cosine leaves the length of synthetic gradients free, so the raw error is mostly one of length."
        " `Best factor` scales each synthetic gradient by the factor that minimises its error."
    )
    table = Table(["", "raw, relative", "best factor, relative"], rows, "One cluster at one checkpoint")
    chart = Chart("line", series, "checkpoint", "relative error, best factor")
    return Section("Accumulated errors", [Text(told), table, chart])
