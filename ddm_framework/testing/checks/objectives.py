"""Objectives: `measure(logits, reference, /, *, ...) -> Tensor`, behaviours (N, m) of a network, or (1, m) of a set."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from ddm_framework.errors import DDMError, PluginError
from ddm_framework.online.questions import Objective, Reference, declared
from ddm_framework.plugin.choosing import choose
from ddm_framework.plugin.declarations import Declaration, Direction
from ddm_framework.testing.contract import NotChecked, advice, expect, same, untouched_randomness
from ddm_framework.testing.samples import perturbed_logits, reference
from ddm_framework.testing.subject import Subject

_SHAPE = "return (N, m), one row per query, or declare @objective(set_level=True) and return (1, m)"
_STEP = 1e-2


def measured(subject: Subject, logits: Tensor, against: Reference) -> Tensor:
    """Behaviours, of the declared shape.

    Raises:
        DDMError: as the objective's own refusal, or where it needs labels and there are none.
    """
    objective = declared(subject.choice)
    with advice("it must measure any float32 logits (N, classes) with N >= 1 against a Reference"):
        return objective.measure(logits, against)


def _labelled(subject: Subject) -> tuple[Objective, Tensor, Reference]:
    against = reference()
    return declared(subject.choice), perturbed_logits(against), against


def check_declares_its_direction(subject: Subject) -> None:
    """The decorator says which effect is sought, also where that depends on the options."""
    objective = declared(subject.choice)
    with advice("let more_influential be a text, or a function of a dict with all options"):
        direction = objective.more_influential
    known = get_args(Direction)
    expect(direction in known, f"more_influential is {direction!r}; it is one of {', '.join(map(repr, known))}")


def check_behaviours_have_a_row_for_each_query(subject: Subject) -> None:
    """It returns (N, m), or (1, m) if it is declared to be of the whole set, in finite floats."""
    _, logits, against = _labelled(subject)
    try:
        behaviours = measured(subject, logits, against)
    except PluginError as error:
        raise PluginError(f"{error}\n{_SHAPE}") from error
    expect(behaviours.is_floating_point(), f"it returns {behaviours.dtype}; return floats (.float())")
    expect(behaviours.shape[1] > 0, f"it returns no behaviour at all, m = 0; {_SHAPE}")
    expect(
        torch.isfinite(behaviours).all(), "it returns NaN or infinity for ordinary logits; clamp before log or divide"
    )


def check_one_query(subject: Subject) -> None:
    """A single query can be measured."""
    _, logits, against = _labelled(subject)
    behaviours = measured(subject, logits[:1], _some(against, torch.tensor([0])))
    expect(torch.isfinite(behaviours).all(), "a single query gives NaN or infinity; avoid statistics over the queries")


def check_works_without_labels_or_says_so(subject: Subject) -> None:
    """Without labels it measures, or is declared to need them."""
    against = reference(labelled=False)
    try:
        with advice("reference.labels may be None: handle that, or declare @objective(needs_labels=True)"):
            declared(subject.choice).measure(perturbed_logits(against), against)
    except PluginError:
        raise
    except DDMError:
        return


def check_each_query_by_itself(subject: Subject) -> None:
    """A query's behaviour does not depend on which others are measured with it; that of a set not on their order."""
    objective, logits, against = _labelled(subject)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    behaviours = measured(subject, logits, against)
    shuffled = measured(subject, logits[order], _some(against, order))
    if objective.declaration.set_level:
        expect(same(shuffled, behaviours), "the behaviour of a set changes with the order of its queries")
        return
    expect(
        same(shuffled, behaviours[order]),
        "queries in another order have other behaviours; row i must be that of query i",
    )
    alone = [measured(subject, logits[i : i + 1], _some(against, torch.tensor([i]))) for i in range(len(logits))]
    expect(
        same(torch.cat(alone), behaviours),
        "a query alone has another behaviour than among others; declare @objective(set_level=True) for one of the set",
    )


def check_same_twice(subject: Subject) -> None:
    """Measuring twice gives the same."""
    _, logits, against = _labelled(subject)
    expect(
        same(measured(subject, logits, against), measured(subject, logits, against)),
        "two measurements of one network differ; draw nothing at random",
    )


def check_leaves_global_randomness_alone(subject: Subject) -> None:
    """The global random states of torch, numpy and Python stay as they are."""
    _, logits, against = _labelled(subject)
    with untouched_randomness() as touched:
        measured(subject, logits, against)
    expect(not touched, f"it changed the global random state of {', '.join(touched)}; draw nothing at random")


def check_arguments_stay_as_they_are(subject: Subject) -> None:
    """Neither the logits nor the reference is written to."""
    _, logits, against = _labelled(subject)
    before = [each.clone() for each in _tensors(logits, against)]
    measured(subject, logits, against)
    kept = all(torch.equal(*pair) for pair in zip(before, _tensors(logits, against), strict=True))
    expect(kept, "it writes to its arguments; compute new tensors instead of changing them in place")


def check_surrogate_can_take_its_place(subject: Subject) -> None:
    """If it names a surrogate, that objective exists, has a direction, and is of single queries as this one is."""
    declaration = declared(subject.choice).declaration
    if declaration.surrogate is None:
        return
    known = get_args(Direction)
    direction = declaration.surrogate.more_influential
    expect(
        direction in known, f"the surrogate's direction is {direction!r}; it is one of {', '.join(map(repr, known))}"
    )
    named = declaration.surrogate
    try:
        target = choose(subject.registry, "objective", named.objective, named.options).target
    except DDMError as error:
        raise PluginError(f"its surrogate cannot be had: {error}") from error
    other = getattr(target, "ddm_declaration", None)
    same_level = isinstance(other, Declaration) and other.set_level == declaration.set_level
    expect(same_level, "its surrogate must be declared by @objective, and set_level as this objective is")


def check_has_a_gradient_or_a_surrogate(subject: Subject) -> None:
    """At the target, where first-order methods differentiate it, its gradient is not zero; or it names a surrogate."""
    objective, _, against = _labelled(subject)
    if objective.declaration.surrogate is not None:
        return
    leaf = against.target_logits.clone().requires_grad_()
    behaviours = measured(subject, leaf, against)
    if not behaviours.requires_grad:
        raise NotChecked("it has no gradient and names no surrogate, so only methods that estimate logits answer it")
    # Weights that differ: probabilities, for one, add up to a constant.
    weights = torch.linspace(1, 2, behaviours.shape[1], dtype=behaviours.dtype)
    (slope,) = torch.autograd.grad((behaviours * weights).sum(), leaf)
    expect(torch.isfinite(slope).all(), "its gradient at the target holds NaN or infinity; clamp before log or root")
    expect(
        bool(slope.any()),
        "its gradient at the target is zero, so first-order methods would call every cluster without influence; name a"
        " surrogate, as in @objective(surrogate=Surrogate('margin', 'smaller', {'of': 'prediction'}))",
    )
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(8))
    ahead, behind = (
        (measured(subject, against.target_logits + sign * _STEP * direction, against) * weights).sum()
        for sign in (1, -1)
    )
    rise, found = (slope * direction).sum(), (ahead - behind) / (2 * _STEP)
    expect(
        same(rise, found, rtol=0.03, atol=0.01),
        f"its gradient gives a slope of {rise:.4g}, finite differences {found:.4g}; is part of it detached or rounded?",
    )


def _some(against: Reference, index: Tensor) -> Reference:
    labels = None if against.labels is None else against.labels[index]
    return replace(against, images=against.images[index], labels=labels, target_logits=against.target_logits[index])


def _tensors(logits: Tensor, against: Reference) -> list[Tensor]:
    found = [logits, against.images, against.target_logits]
    return found if against.labels is None else [*found, against.labels]
