"""What is asked and what is answered: queries, objectives, and the effects of deleting each cluster on each query."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.errors import DDMError, PluginError
from ddm_framework.objectives import Declaration, Direction, Reference
from ddm_framework.partition import Partition
from ddm_framework.recipes import Choice
from ddm_framework.regression import fit_attribution


@dataclass(frozen=True, slots=True)
class Queries:
    """What is asked about.

    Attributes:
        images: network inputs, float32 (N, C, H, W).
        labels: int64 (N,), or None where nobody knows them.
        ids: a name for each, such as `test 17` or a file name.
    """

    images: Tensor
    labels: Tensor | None
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Queries:
        """Some of the queries, by position."""
        labels = None if self.labels is None else self.labels[index.to(self.labels.device)]
        return Queries(self.images[index.to(self.images.device)], labels, tuple(self.ids[i] for i in index.tolist()))


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective with its options, what it declares of itself, and which effect is sought if not the declared one."""

    choice: Choice
    declaration: Declaration
    sought: Direction | None = None

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.choice.name

    @property
    def more_influential(self) -> Direction:
        """Which effect is sought."""
        if self.sought is not None:
            return self.sought
        declared = self.declaration.more_influential
        return declared(self.choice.options) if callable(declared) else declared

    def measure(self, logits: Tensor, reference: Reference) -> Tensor:
        """Behaviours (N, m), or (1, m) of a set-level objective, of one network.

        Raises:
            DDMError: if it needs labels and there are none.
            PluginError: if it returns something else.
        """
        if self.declaration.needs_labels and reference.labels is None:
            raise DDMError(f"objective {self.name!r} needs the queries' labels, and there are none")
        behaviours = self.choice(logits, reference)
        rows = 1 if self.declaration.set_level else len(logits)
        if not isinstance(behaviours, Tensor) or behaviours.ndim != 2 or len(behaviours) != rows:
            shape = tuple(behaviours.shape) if isinstance(behaviours, Tensor) else type(behaviours).__name__
            raise PluginError(f"objective {self.name!r} must return a tensor of shape ({rows}, m), returned {shape}")
        return behaviours

    def ranking(self, effect: Tensor) -> Tensor:
        """Clusters from the most to the least influential, int64 (N, K), by effects (N, K, 1).

        Raises:
            DDMError: if the objective has several behaviours (m > 1), which have no order.
        """
        if effect.shape[2] != 1:
            raise DDMError(
                f"objective {self.name!r} measures {effect.shape[2]} behaviours at once; clusters have no rank"
            )
        values = effect[:, :, 0].abs() if self.more_influential == "nearest_zero" else effect[:, :, 0]
        return values.argsort(dim=1, descending=self.more_influential == "larger", stable=True)


@dataclass(frozen=True, slots=True)
class Attribution:
    """What one objective says.

    Attributes:
        objective: which.
        matrix: W of Eq. 8, float64 (N, K, m).
        intercept: float64 (N, m).
        target_behaviour: the target's own, float64 (N, m).
    """

    objective: Objective
    matrix: Tensor
    intercept: Tensor
    target_behaviour: Tensor

    @property
    def effect(self) -> Tensor:
        """Behaviour without each cluster minus behaviour of the target, (N, K, m)."""
        return -self.matrix


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an attributor says.

    Attributes:
        objective: what it attributed, the objective asked for or its surrogate.
        effect: of deleting each cluster, float64 (N, K, m).
        partition: whose clusters they are.
        common: whether that is the run's own partition.
    """

    objective: Objective
    effect: Tensor
    partition: Partition
    common: bool

    @property
    def ranking(self) -> Tensor:
        """Clusters from the most to the least influential, int64 (N, K)."""
        return self.objective.ranking(self.effect)


def fit(
    objective: Objective,
    reference: Reference,
    perturbations: Tensor,
    logits: Tensor,
    weights: Tensor,
    ridge: float = 0.0,
) -> Attribution:
    """Measure every perturbed network and regress (Eq. 8).

    Args:
        logits: (P, N, classes).
        weights: β, (P,).
    """
    # A loop, not a vmap: objectives of others may use `.item()` or scikit-learn, and no network runs here.
    behaviours = torch.stack([objective.measure(each, reference) for each in logits])
    matrix, intercept = fit_attribution(perturbations, behaviours, weights, ridge)
    own = objective.measure(reference.target_logits, reference).double().cpu()
    return Attribution(objective, matrix, intercept, own)


def declared(choice: Choice) -> Objective:
    """An objective with its declaration.

    Raises:
        PluginError: if the function is not decorated.
    """
    declaration = getattr(choice.target, "ddm_declaration", None)
    if not isinstance(declaration, Declaration):
        raise PluginError(
            f"objective {choice.name!r} does not say which effect is more influential; decorate its function with "
            "@objective(more_influential=...) from ddm_framework"
        )
    return Objective(choice, declaration)
