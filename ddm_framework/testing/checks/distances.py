"""Matching distances: `distance(synthetic, target, /, *, ...) -> Tensor`, of two gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, vmap

from ddm_framework.network.stacks import Gradient, negative
from ddm_framework.offline.directions import distance_gradients
from ddm_framework.plugin.declarations import formula_of
from ddm_framework.testing.contract import advice, expect, same
from ddm_framework.testing.samples import gradient
from ddm_framework.testing.subject import Subject

NUM_OTHERS = 5
"""Random gradients that one is compared with."""
_TENSORS_ONLY = "use operations on tensors alone: no .item(), no float(), no branches on values, nothing in place"


def measured(subject: Subject, synthetic: Gradient, target: Gradient) -> Tensor:
    """The distance, a scalar as the contract wants it."""
    with advice("both arguments are dicts from parameter name to tensor, of the same names and shapes"):
        value = subject.choice(synthetic, target)
    found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    expect(
        isinstance(value, Tensor) and value.shape == () and value.is_floating_point(),
        f"it returns {found}; return one number as a tensor of shape (), for instance by .sum() over everything",
    )
    assert isinstance(value, Tensor)
    return value


def _slope(subject: Subject, synthetic: Gradient, target: Gradient) -> Gradient:
    with advice(f"it must be differentiable in its first argument; {_TENSORS_ONLY}"):
        found: Gradient = grad(subject.choice)(synthetic, target)
    return found


def check_returns_one_finite_number(subject: Subject) -> None:
    """Two gradients give a scalar that is finite."""
    value = measured(subject, gradient(0), gradient(1))
    expect(torch.isfinite(value), f"it returns {value:g} for two ordinary gradients")


def check_differentiable_in_the_synthetic_gradient(subject: Subject) -> None:
    """Its derivative by the first argument is finite and not zero."""
    measured(subject, gradient(0), gradient(1))
    slopes = _slope(subject, gradient(0), gradient(1))
    expect(all(torch.isfinite(each).all() for each in slopes.values()), "its derivative holds NaN or infinity")
    expect(
        any(bool(each.any()) for each in slopes.values()),
        f"its derivative by the synthetic gradient is zero, so nothing could be matched; {_TENSORS_ONLY}",
    )


def check_least_where_gradients_agree(subject: Subject) -> None:
    """A gradient is nearer to itself than any other is."""
    target = gradient(0)
    own = measured(subject, gradient(0), target)
    others = [measured(subject, gradient(seed), target) for seed in range(1, NUM_OTHERS + 1)]
    expect(
        all(own < other for other in others),
        f"equal gradients have distance {own:.4g}, unlike ones {min(map(float, others)):.4g}; it must be least where"
        " both agree (a likeness has the wrong sign)",
    )


def check_knows_no_direction(subject: Subject) -> None:
    """The core has reversed the target already: the opposite of a gradient is far from it, not near."""
    target = gradient(0)
    own, opposite = measured(subject, gradient(0), target), measured(subject, negative(gradient(0)), target)
    expect(
        own < opposite,
        f"a gradient has distance {own:.4g} from itself and {opposite:.4g} from its opposite; do not reverse the target"
        " (Eq. 6's minus is the core's) and do not drop the sign",
    )


def check_a_step_down_comes_nearer(subject: Subject) -> None:
    """A small step against its derivative lowers it."""
    synthetic, target = gradient(0), gradient(1)
    slopes = _slope(subject, synthetic, target)
    length = sum(float(each.square().sum()) for each in slopes.values()) ** 0.5 or 1.0
    stepped = {name: each - 1e-2 / length * slopes[name] for name, each in synthetic.items()}
    before, after = measured(subject, synthetic, target), measured(subject, stepped, target)
    expect(
        after < before,
        f"after a small step down it is {after:.6g}, before {before:.6g}; its value and its derivative do not belong"
        " together (a detached part, or a custom backward)",
    )


def check_runs_inside_vmap(subject: Subject) -> None:
    """Many pairs at once under torch.func.vmap, with derivatives, give what a loop gives."""
    pairs = [(gradient(seed), gradient(seed + 10)) for seed in range(3)]
    stacked = [{name: torch.stack([pair[side][name] for pair in pairs]) for name in pairs[0][0]} for side in (0, 1)]
    with advice(_TENSORS_ONLY):
        values, slopes = vmap(subject.choice)(*stacked), vmap(grad(subject.choice))(*stacked)
    for row, (synthetic, target) in enumerate(pairs):
        alone = measured(subject, synthetic, target)
        expect(same(values[row], alone), f"in a batch it is {values[row]:.6g}, alone {alone:.6g}; {_TENSORS_ONLY}")
        for name, each in _slope(subject, synthetic, target).items():
            expect(same(slopes[name][row], each), f"its derivative by {name} differs in a batch; {_TENSORS_ONLY}")


def check_a_declared_formula_is_the_distance(subject: Subject) -> None:
    """What `@of_inner_products` declares gives the same derivative; nothing is asked of a distance without it."""
    if formula_of(subject.choice.target) is None:
        return
    synthetic, target = ({name: each[None] for name, each in gradient(seed).items()} for seed in (0, 1))
    with advice("the formula takes three tensors, one value for each parameter, and the options of the distance"):
        found = distance_gradients(subject.choice, synthetic, target)
    for name, each in _slope(subject, gradient(0), gradient(1)).items():
        expect(same(found[name][0], each), f"the declared formula has another derivative by {name} than the distance")


def check_finite_for_a_gradient_of_zero(subject: Subject) -> None:
    """A synthetic gradient of zero, as a dead network has, gives finite numbers."""
    zero = {name: torch.zeros_like(each) for name, each in gradient(0).items()}
    value, slopes = measured(subject, zero, gradient(1)), _slope(subject, zero, gradient(1))
    expect(
        bool(torch.isfinite(value)) and all(torch.isfinite(each).all() for each in slopes.values()),
        "a synthetic gradient of zero gives NaN or infinity, itself or in the derivative; clamp what is divided by or"
        " under a root, before the root",
    )


def check_gradients_stay_as_they_are(subject: Subject) -> None:
    """Neither argument is written to."""
    synthetic, target = gradient(0), gradient(1)
    measured(subject, synthetic, target)
    kept = all(torch.equal(each, gradient(0)[name]) for name, each in synthetic.items())
    kept = kept and all(torch.equal(each, gradient(1)[name]) for name, each in target.items())
    expect(kept and len(target) == len(gradient(1)), "it writes to its arguments; compute new tensors instead")
