"""What objectives and attribution methods declare of themselves: `@objective` and `@attributor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Direction = Literal["larger", "smaller", "nearest_zero"]
"""Which effect (behaviour without the cluster minus behaviour of the target) is sought."""
Measure = TypeVar("Measure", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Surrogate:
    """What first-order methods attribute instead of an objective without a gradient at the target.

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


Attribute = TypeVar("Attribute", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Method:
    """What an attributor says of itself.

    Attributes:
        linear: its effects add up over samples, so it is given the objective's surrogate.
        partition: from the workspace, the clusters that its effects are of, where they are not the recipe's.
    """

    linear: bool = False
    partition: Callable[[Any], Any] | None = None


def attributor(
    *, linear: bool = False, partition: Callable[[Any], Any] | None = None
) -> Callable[[Attribute], Attribute]:
    """Declare a function an attribution method; one that is not decorated is neither linear nor partitions anew.

    Args:
        linear: the method adds up effects of samples, or differentiates the objective at the target. Some objectives
            have no gradient there (output_shift is at its minimum), so the core hands over the surrogate that the
            objective names.
        partition: a function of the workspace that gives the clusters of the method's effects, for methods that divide
            the training data in their own way. They are judged by retraining without the clusters that they chose.
    """

    def declare(attribute: Attribute) -> Attribute:
        attribute.ddm_method = Method(linear, partition)  # type: ignore[attr-defined]
        return attribute

    return declare


def method_of(target: Callable[..., Any]) -> Method:
    """The declaration of an attributor, or the plain one."""
    declared = getattr(target, "ddm_method", None)
    return declared if isinstance(declared, Method) else Method()
