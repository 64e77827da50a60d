"""What components declare about themselves: `@objective`, `@attributor`, `@of_inner_products`, `@retrains`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Direction = Literal["larger", "smaller", "nearest_zero"]
"""Which effect (behaviour without the cluster minus behaviour of the target) makes a cluster most influential."""
Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Surrogate:
    """What a linear method attributes instead of an objective without a gradient at the target.

    It must ask what the objective asks: an objective that knows no label needs a surrogate that knows none, such as
    the margin of the target's own prediction.

    Attributes:
        objective: its name.
        more_influential: the direction of its effects that corresponds best to that of the objective.
        options: of the surrogate, as `{"of": "prediction"}`.
    """

    objective: str
    more_influential: Direction
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What an objective declares about itself; `more_influential` may depend on the objective's options."""

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
) -> Callable[[Target], Target]:
    """Declare that a function is an evaluation objective.

    Args:
        more_influential: whether the most influential cluster is the one with the `larger`, the `smaller` or the
            `nearest_zero` effect (behaviour without it minus behaviour of the target); a function of the options if it
            depends on them.
        surrogate: what linear methods that cannot estimate logits attribute instead, if this objective has no gradient
            at the target.
        set_level: the objective returns one row for the whole set of queries (Eq. 14) instead of one row per query.
        needs_labels: it cannot be measured on queries without labels.
    """

    return _declare("ddm_declaration", Declaration(more_influential, surrogate, set_level, needs_labels))


def _declare(name: str, declared: Any) -> Callable[[Target], Target]:
    def declare(target: Target) -> Target:
        setattr(target, name, declared)
        return target

    return declare


@dataclass(frozen=True, slots=True)
class Method:
    """What an attributor declares about itself.

    Attributes:
        linear: its effects add up over samples, or follow from a gradient at the target.
        logits: it also estimates the change of every logit, in its own unit.
        partition: a function of the workspace that returns the method's own clusters; None if it uses the recipe's.
        sets: what the method says of deleting several clusters at once; None if it can only add up single effects.
    """

    linear: bool = False
    logits: bool = False
    partition: Callable[[Any], Any] | None = None
    sets: Callable[..., Any] | None = None


def attributor(
    *,
    linear: bool = False,
    logits: bool = False,
    partition: Callable[[Any], Any] | None = None,
    sets: Callable[..., Any] | None = None,
) -> Callable[[Target], Target]:
    """Declare an attribution method; one without this decorator is not linear and uses the recipe's clusters.

    Args:
        linear: the method adds up effects of samples, or differentiates the objective at the target. Some objectives
            have no gradient there (output_shift is at its minimum, an accuracy is constant). Then the core asks for the
            effects on every logit and measures the objective on the target's logits plus these, or passes the
            objective's surrogate to a method that does not estimate logits.
        logits: the method takes objectives of several behaviours, such as the logits of all classes, and its effects
            are in the objective's unit rather than up to an unknown factor.
        partition: a function of the workspace that returns the clusters of the method's effects, for methods that
            divide the training data in their own way. They are evaluated by retraining without their own clusters.
        sets: `sets(workspace, queries, objective, perturbations, /, **options) -> (P, N, m)`, with the options of the
            attributor: behaviour of the network that lacks all clusters with a 0 in a row of the perturbations (P, K)
            at once, minus behaviour of the target.
    """

    return _declare("ddm_method", Method(linear, logits, partition, sets))


def method_of(target: Callable[..., Any]) -> Method:
    """The declaration of an attributor; the default one if it is not decorated."""
    declared = getattr(target, "ddm_method", None)
    return declared if isinstance(declared, Method) else Method()


Compare = TypeVar("Compare", bound=Callable[..., Any])


def of_inner_products(formula: Callable[..., Any], /) -> Callable[[Compare], Compare]:
    """Declare that a matching distance follows from inner products alone, which makes matching faster.

    Args:
        formula: `formula(inner, synthetic, target, /, *, ...) -> scalar`, with the options of the distance. The three
            are float (T,), one value for each parameter tensor: the inner product of the two gradients, and the squared
            lengths of the synthetic and of the target gradient.
    """

    def declare(distance: Compare) -> Compare:
        distance.ddm_formula = formula  # type: ignore[attr-defined]
        return distance

    return declare


def formula_of(target: Callable[..., Any]) -> Callable[..., Any] | None:
    """The formula of a distance that is declared to follow from inner products, or None."""
    found: Callable[..., Any] | None = getattr(target, "ddm_formula", None)
    return found


Study = TypeVar("Study", bound=Callable[..., Any])
Retrainings = Callable[[Mapping[str, Any], int, int], int]
"""(options of a study, number of clusters, number of classes) -> networks that it retrains exactly."""


def retrains(count: Retrainings, /) -> Callable[[Study], Study]:
    """Declare how many networks a study retrains exactly, so that `ddm run --dry-run` can tell what that costs.

    Args:
        count: `count(options, num_clusters, num_classes)`, with every option of the study.
    """
    return _declare("ddm_retrainings", count)


def retrainings_of(target: Callable[..., Any]) -> Retrainings | None:
    """What a study declares, or None if it says nothing."""
    found: Retrainings | None = getattr(target, "ddm_retrainings", None)
    return found
