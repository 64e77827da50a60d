"""What a run estimates, corrected by a few exact retrainings: on centred logits, so that any objective can be measured.

Logits are centred by taking off their mean over the classes, which no probability depends on. The scale and the penalty
of a correction are chosen on the first test images, whatever is asked, so that no query has a say in another's answer.
The correction itself is fitted to what the retrained networks say of each query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace
from ddm_framework.truth.correction import Correction, Strength, choose_strength, correct
from ddm_framework.truth.retraining import bank_logits, retrained

SEEN = 500
"""Scale and penalty are chosen on the first so many test images, or on fewer where there are very many clusters."""
_FEWEST, _VALUES = 50, 2**25
_SHARE = 5
"""A network lacks one cluster in so many."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Changes of the logits, corrected.

    Attributes:
        change: of each network that was asked about, float64 (P, N, classes), minus the logits of the target.
        strength: the scale and the penalty.
    """

    change: Tensor
    strength: Strength

    def effect(self, workspace: Workspace, queries: Queries, objective: Objective) -> Tensor:
        """Behaviours minus those of the target, float64 (N, P, m); (1, P, m) of a set-level objective."""
        # In float64: a squared shift of probabilities would drown in the rounding of float32.
        reference = workspace.reference(queries)
        exact = replace(reference, target_logits=reference.target_logits.double())
        return objective.effect_on(exact.target_logits + self.change.to(workspace.device), exact)


def random_fifths(workspace: Workspace, count: int) -> Tensor:
    """Perturbations that each lack a random fifth of the clusters, at least one: float32 (count, K), 0 = deleted.

    A larger count goes on where a smaller one stopped, so that their retrainings are shared.

    Raises:
        DDMError: if there is only one cluster, without which nothing would be left.
    """
    num_clusters = workspace.partition.num_clusters
    if num_clusters < 2:
        raise DDMError("nothing would be left to train on without the only cluster; set clusterer.clusters_per_class")
    order = torch.rand(count, num_clusters, generator=workspace.generator("certificate", "sets")).argsort(1)
    lacking = order[:, : max(1, round(num_clusters / _SHARE))]
    return torch.ones(count, num_clusters).scatter(1, lacking, 0.0)


def correct_singles(workspace: Workspace, queries: Queries, retrainings: Tensor) -> Corrected:
    """Corrected changes without each single cluster: w = s w_est + Dᵀ (D Dᵀ + λI)⁻¹ (y - s D w_est).

    Args:
        workspace: a run; its `online` settings estimate w_est.
        queries: N of them.
        retrainings: (R, K), what was or will be retrained without; 0 = deleted.
    Returns:
        Changes (K, N, classes).
    Raises:
        DDMError: as `retrained`.
    """
    asked = _with_seen(workspace, queries)
    raw = workspace.logit_effects(asked)
    sums = added(1 - retrainings, centred(raw))
    every = torch.eye(len(raw), dtype=torch.float64)
    return _corrected(workspace, asked, retrainings, sums, (every, raw), len(queries))


def correct_sets(workspace: Workspace, queries: Queries, retrainings: Tensor, perturbations: Tensor) -> Corrected:
    """Corrected changes without whole sets: the network of each set, scaled, plus a datamodel of the residual.

    Args:
        workspace: a run; its `online` settings estimate the networks.
        queries: N of them.
        retrainings: (R, K), what was or will be retrained without; 0 = deleted.
        perturbations: (P, K), the sets that are asked about.
    Returns:
        Changes (P, N, classes).
    Raises:
        DDMError: as `retrained`.
    """
    asked = _with_seen(workspace, queries)
    with workspace.offline_work():
        known = estimated_changes(workspace, asked, retrainings)
    raw = estimated_changes(workspace, asked, perturbations)
    new = 1 - perturbations.double()
    return _corrected(workspace, asked, retrainings, centred(known), (new, raw), len(queries))


def _corrected(
    workspace: Workspace,
    asked: Queries,
    retrainings: Tensor,
    estimated: Tensor,
    wanted: tuple[Tensor, Tensor],
    count: int,
) -> Corrected:
    """Fit on the retrainings, apply to what is wanted: deleted clusters (P, K) and their raw changes (P, N', classes).

    The first `count` images are the queries, and strength is chosen on the first test images.
    """
    deleted, true = 1 - retrainings.double(), true_changes(workspace, asked, retrainings)
    seen = slice(0, num_seen(workspace)) if len(asked) == count else slice(count, None)
    strength = choose_strength(deleted, estimated[:, seen].flatten(1), true[:, seen].flatten(1))
    fitted = correct(deleted, estimated[:, :count].flatten(1), true[:, :count].flatten(1), strength)
    return Corrected(applied(fitted, wanted[0], wanted[1][:, :count]), strength)


def added(deleted: Tensor, effects: Tensor) -> Tensor:
    """Sums of the effects (K, N, m) of the clusters that each network lacks, float64 (R, N, m)."""
    return (deleted.double() @ effects.flatten(1)).view(len(deleted), *effects.shape[1:])


def applied(correction: Correction, deleted: Tensor, raw: Tensor) -> Tensor:
    """Raw changes of logits, corrected but for their mean over the classes: float64 (P, N, classes)."""
    own = centred(raw)
    return raw + correction.apply(deleted, own.flatten(1)).view_as(own) - own


def centred(logits: Tensor) -> Tensor:
    """Logits without their mean over the classes, float64."""
    exact = logits.double()
    return exact - exact.mean(-1, keepdim=True)


def true_changes(workspace: Workspace, queries: Queries, retrainings: Tensor) -> Tensor:
    """Centred logits of the retrained networks minus those of the target, float64 (R, N, classes), on the CPU."""
    logits = bank_logits(workspace, retrained(workspace, retrainings), queries)
    return centred(logits - workspace.target_logits(queries.images)).cpu()


def estimated_changes(workspace: Workspace, queries: Queries, perturbations: Tensor) -> Tensor:
    """Logits of the networks estimated for sets minus those of the target, float64 (P, N, classes), on the CPU."""
    logits = workspace.perturbed_logits(queries, perturbations, workspace.synset, "online: sets of clusters")
    return (logits - workspace.target_logits(queries.images)).double().cpu()


def seen_queries(workspace: Workspace) -> Queries:
    """The images that scale and penalty are chosen on."""
    return workspace.queries_of("test", num_seen(workspace))


def num_seen(workspace: Workspace) -> int:
    """How many images those are at most: a number for each image, class and cluster is held in memory at once."""
    fitting = _VALUES // (workspace.partition.num_clusters * workspace.info.num_classes)
    return min(SEEN, max(_FEWEST, fitting))


def _with_seen(workspace: Workspace, queries: Queries) -> Queries:
    """The queries and, unless they begin with them, the images that scale and penalty are chosen on."""
    seen = seen_queries(workspace)
    first = queries.images[: len(seen)]
    if first.shape == seen.images.shape and torch.equal(first, seen.images):
        return queries
    images = torch.cat([queries.images, seen.images.to(queries.images)])
    return Queries(images, None, (*queries.ids, *seen.ids))
