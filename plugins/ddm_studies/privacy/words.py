"""The sentences about Fig. 4 and 5, computed from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LEVEL = 0.05
"""Probability of reporting any leak where there is none, over all tests of a report."""


def sentences(found: Mapping[str, Mapping[str, Any]], inits: Sequence[str]) -> Iterator[str]:
    """The verdict on the claim of Fig. 4 or 5, its limits, and what cannot be compared.

    Args:
        found: the figures of each set of images, by its name.
        inits: what the synthetic images were started from.
    """
    yield _verdict({init: found[f"DDM ({init})"] for init in inits})
    yield "Stronger attacks were not tried, and the failure of an attack does not prove privacy."
    yield "The paper shows pictures and gives no figures, so no figure here can be compared with one of the paper."


def _verdict(by_init: Mapping[str, Mapping[str, Any]]) -> str:
    num_tests = sum(name.endswith("_p") for ddm in by_init.values() for name in ddm)
    parts = []
    for init, ddm in by_init.items():
        reasons = list(_leaks(ddm, LEVEL / max(num_tests, 1)))
        started = "training images" if init == "real" else "noise"
        parts.append(
            f"or a synset started from {started} this is contradicted: {', and '.join(reasons)}"
            if reasons
            else f"or a synset started from {started} none of these attacks contradicts it"
        )
    return (
        f"The paper claims that the synset can be released without revealing training images. F{'; f'.join(parts)}"
        f" ({num_tests} tests, each at the level {LEVEL:g} / {num_tests})."
    )


def _leaks(ddm: Mapping[str, Any], level: float) -> Iterator[str]:
    """The attacks that succeed: those whose p-value is below a level."""
    if ddm.get("seed_is_nearest_p", 1.0) < level:
        yield (
            f"for {ddm['seed_is_nearest_count']} of {ddm['seed_is_nearest_of']} images the nearest training image is"
            " the one that they were started from"
        )
    if ddm.get("seed_rank_p", 1.0) < level:
        yield (
            f"on average, an image is nearer to its start than to {ddm['seed_rank']:.1%} of the other members of its"
            " cluster"
        )
    if ddm.get("auc_training_p", 1.0) < level:
        yield f"training images are distinguished from test images with an AUC of {ddm['auc_training']:.2f}"
