"""What an objective sees (`Reference`) and what it declares about its effects (`@objective`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from ddm_framework.data import DataInfo

Direction = Literal["larger", "smaller", "nearest_zero"]
"""Which effect (behaviour without the cluster minus behaviour of the target) is sought."""
Measure = TypeVar("Measure", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Reference:
    """What a network is measured against.

    Attributes:
        images: the queries, float32 (N, C, H, W), normalised.
        labels: int64 (N,), or None where nobody knows them.
        target_logits: the target network's logits on them, float32 (N, classes).
        data: shape, classes and normalisation of the data set.
    """

    images: Tensor
    labels: Tensor | None
    target_logits: Tensor
    data: DataInfo


@dataclass(frozen=True, slots=True)
class Surrogate:
    """What first-order methods attribute in the place of an objective without a gradient at the target.

    Attributes:
        objective: its name.
        more_influential: which of its effects comes nearest to the one that the objective seeks.
    """

    objective: str
    more_influential: Direction


@dataclass(frozen=True, slots=True)
class Declaration:
    """What an objective says of itself; `more_influential` may depend on the objective's options."""

    more_influential: Direction | Callable[[dict[str, Any]], Direction]
    surrogate: Surrogate | None = None
    set_level: bool = False
    needs_labels: bool = False


def objective(
    *,
    more_influential: Direction | Callable[[dict[str, Any]], Direction],
    surrogate: Surrogate | None = None,
    set_level: bool = False,
    needs_labels: bool = False,
) -> Callable[[Measure], Measure]:
    """Declare a function an evaluation objective.

    Args:
        more_influential: whether the cluster with the `larger`, the `smaller` or the `nearest_zero` effect (behaviour
            without it minus behaviour of the target) is the one sought; a function of the options where it depends on
            them.
        surrogate: what first-order methods use instead where this objective has no gradient at the target.
        set_level: the objective returns one row for the whole set of queries (Eq. 14) instead of one a query.
        needs_labels: it cannot be measured on queries without labels.
    """

    def declare(measure: Measure) -> Measure:
        measure.ddm_declaration = Declaration(more_influential, surrogate, set_level, needs_labels)  # type: ignore[attr-defined]
        return measure

    return declare
