"""What synthetic images tell of the training images, in sentences that are computed from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LEVEL = 0.05
"""Probability of naming any leak where there is none, over all tests of a report."""


def sentences(found: Mapping[str, Mapping[str, Any]], inits: Sequence[str], labels: str) -> Iterator[str]:
    """What is to be said of Fig. 4 or 5, by the name of what made the images."""
    yield (
        "The paper shows pictures and measures nothing, so no number of its own stands beside these. Ordinary matching"
        + (" keeps the classes' own labels." if labels == "hard" else " learns its labels, as DDM does.")
    )
    for init in inits:
        yield _side_by_side(init, found[f"DDM ({init})"], found[f"ordinary matching ({init})"])
    yield _verdict({init: found[f"DDM ({init})"] for init in inits})


def _side_by_side(init: str, ddm: Mapping[str, Any], ordinary: Mapping[str, Any]) -> str:
    started = "training images" if init == "real" else "noise"
    said = (
        f"Started from {started}, DDM's images lie {ddm['relative_distance']:.2g} times as far from the nearest"
        f" training image as a test image does (ordinary matching {ordinary['relative_distance']:.2g}), correlate with"
        f" a member of their cluster by {ddm['correlation']:.2f} ({ordinary['correlation']:.2f}; with images of other"
        f" clusters by {ddm['correlation_by_chance']:.2f} ({ordinary['correlation_by_chance']:.2f})), and the target"
        f" sees their cluster's class in {ddm['accuracy_target']:.0f}% of them ({ordinary['accuracy_target']:.0f}%;"
        f" {ddm['accuracy_by_chance']:.0f}% by chance)"
    )
    if init == "real":
        said += (
            f"; the very training image that seeded them is the nearest for {ddm['seed_is_nearest']:.0f}%"
            f" ({ordinary['seed_is_nearest']:.0f}%; {ddm['seed_is_nearest_by_chance']:.2g}% by chance)"
        )
    return said + "."


def _verdict(by_init: Mapping[str, Mapping[str, Any]]) -> str:
    num_tests = sum(name.endswith("_p") for ddm in by_init.values() for name in ddm)
    parts = []
    for init, ddm in by_init.items():
        reasons = list(_leaks(ddm, LEVEL / max(num_tests, 1)))
        started = "from training images" if init == "real" else "from noise"
        parts.append(
            f"started {started} it does not hold: {', and '.join(reasons)}"
            if reasons
            else f"started {started} none of these attacks contradicts it"
        )
    return (
        "The paper's claim that the synset may be released without revealing training images: "
        + "; ".join(parts)
        + f" (each of {num_tests} tests at {LEVEL:g} / {num_tests}). Attacks that know more than these were not tried,"
        " and no such attack failing is a proof of privacy."
    )


def _leaks(ddm: Mapping[str, Any], level: float) -> Iterator[str]:
    """What speaks against a release: what chance explains with a probability below a level."""
    if ddm.get("seed_is_nearest_p", 1.0) < level:
        yield (
            f"{ddm['seed_is_nearest_count']} of {ddm['seed_is_nearest_of']} images lead to the training image that they"
            " started from"
        )
    if ddm.get("seed_rank_p", 1.0) < level:
        yield f"a start is nearer to its image than {ddm['seed_rank']:.1%} of its cluster's other members, in the mean"
    if ddm.get("auc_training_p", 1.0) < level:
        yield f"training images are told from test images with an AUC of {ddm['auc_training']:.2f}"
