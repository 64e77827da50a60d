"""Pairs of checkpoints: one for the real gradient, one for the synthetic gradient matching it (Eq. 6, Alg. 1 l.4-5)."""

from __future__ import annotations

from collections.abc import Sequence

from ddm_framework.errors import DDMError
from ddm_framework.recipe.settings import Matching

Pair = tuple[int, int]
"""(epoch of the real gradient, epoch of the synthetic gradient)."""


def possible_pairs(epochs: Sequence[int], settings: Matching) -> list[Pair]:
    """All pairs of saved epochs that a pairing can draw.

    - `offset` (Alg. 1): θ_t with θ_{t+s}, both saved; t + s = τ is included, since fine-tuning starts at θ_τ.
    - `mirror` (Eq. 6): θ_t with θ_{τ-t}.
    - `final`: θ_t with θ_τ.

    Args:
        epochs: saved epochs, ascending, from 0 to τ.
        settings: pairing and step length.
    Raises:
        DDMError: if there is no such pair.
    """
    saved, last = set(epochs), epochs[-1]
    if settings.pairing == "final":
        return [(epoch, last) for epoch in epochs]
    if settings.pairing == "mirror":
        pairs = [(epoch, last - epoch) for epoch in epochs if last - epoch in saved]
    else:
        pairs = [(epoch, epoch + settings.step_length) for epoch in epochs if epoch + settings.step_length in saved]
    if not pairs:
        raise DDMError(
            f"no two of the saved epochs {list(epochs)} form a pair for pairing {settings.pairing!r} with "
            f"step_length {settings.step_length}; change matching.step_length or training.checkpoint_every"
        )
    return pairs
