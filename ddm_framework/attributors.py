"""What an attribution method declares of itself (`@attributor`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ddm_framework.partition import Partition
    from ddm_framework.workspace import Workspace

Attribute = TypeVar("Attribute", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Method:
    """What an attributor says of itself.

    Attributes:
        linear: its effects add up over samples, so it is given the objective's surrogate.
        partition: the clusters that its effects are of, where they are not the recipe's.
    """

    linear: bool = False
    partition: Callable[[Workspace], Partition] | None = None


def attributor(
    *, linear: bool = False, partition: Callable[[Workspace], Partition] | None = None
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
