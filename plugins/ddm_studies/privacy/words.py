"""What is said of Fig. 4 and 5, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ddm_studies.comparison.measured import Stored, between, outcome_of
from ddm_studies.comparison.paper import Claim, Findings, listed

LEVEL = 0.05
"""Probability of reporting any successful attack where there is none, over all tests of a report."""
SHOWN = {
    "own_cluster_nearest": ("the training image nearest to them is of their own cluster for {value}", "own_cluster"),
    "accuracy_independent": ("an independent network sees their class in {value}", "accuracy"),
    "correlation": ("their highest correlation with a member of their cluster is {value}", "correlation"),
}
"""Figures that show something of the training data where their interval lies above chance, and whose chance it is."""
LEAKS = {
    "seed_is_nearest_p": (
        "for {seed_is_nearest_count} of {seed_is_nearest_of} images the nearest training image is the one that they"
        " were started from"
    ),
    "seed_rank_p": (
        "an image is on average nearer to its start than to {seed_rank:.1%} of the other members of its cluster"
    ),
    "auc_training_p": "training images are distinguished from test images with an AUC of {auc_training:.2f}",
}
"""What each attack shows where its p-value is small enough."""
STARTS = {"real": "training images", "noise": "noise"}


def findings(metrics: Stored) -> Findings:
    """The verdict on the claim of Fig. 4 or 5, its limits, and what cannot be compared, from metrics.json."""
    stored = metrics["privacy"]
    by_init = {init: stored[f"DDM ({init})"] for init in stored["inits"]}
    sentences = [
        _verdict(by_init),
        "Stronger attacks were not tried, and the failure of an attack does not prove privacy.",
        "The paper shows pictures and gives no figures, so no figure here can be compared with one of the paper.",
    ]
    return Findings(sentences, list(_claims(by_init)))


def _claims(by_init: Mapping[str, Stored]) -> Iterator[Claim]:
    """That nothing is revealed: attacks and figures can refute it, but none of them can confirm it."""
    for init, reasons in _reasons(by_init).items():
        claim = f"a synset started from {STARTS[init]} reveals nothing explicit of the training data"
        measured = (
            listed(reasons) if reasons else "no attack succeeds and no figure is above chance, which proves nothing"
        )
        yield Claim(claim, measured, "does not hold" if reasons else "not told")


def _reasons(by_init: Mapping[str, Stored]) -> dict[str, list[str]]:
    """What contradicts the claim, for each start: attacks that succeed, and figures above chance."""
    level = LEVEL / max(_num_tests(by_init), 1)
    return {init: [*_leaks(ddm, level), *_shown(ddm)] for init, ddm in by_init.items()}


def _num_tests(by_init: Mapping[str, Stored]) -> int:
    return sum(name.endswith("_p") for ddm in by_init.values() for name in ddm)


def _verdict(by_init: Mapping[str, Stored]) -> str:
    num_tests = _num_tests(by_init)
    parts = [
        f"or a synset started from {STARTS[init]} "
        + (f"this is contradicted: {listed(reasons)}" if reasons else "no attack and no figure here contradicts it")
        for init, reasons in _reasons(by_init).items()
    ]
    return (
        f"The paper claims that the synset can be released without revealing training images. F{'; f'.join(parts)}"
        f" ({num_tests} tests of attacks, each at the level {LEVEL:g} / {num_tests}; figures by their 95 % intervals)."
    )


def _leaks(ddm: Stored, level: float) -> Iterator[str]:
    """The attacks that succeed: those whose p-value is below a level."""
    for name, words in LEAKS.items():
        if ddm.get(name, 1.0) < level:
            yield words.format(**ddm)


def _shown(ddm: Stored) -> Iterator[str]:
    """The figures whose intervals lie above what images of no content would have."""
    for name, (words, chance) in SHOWN.items():
        if name not in ddm:
            continue
        interval, by_chance = ddm[f"{name}_interval"], ddm[f"{chance}_by_chance"]
        if outcome_of(interval, by_chance) == "holds":
            unit = "" if name == "correlation" else " %"
            value = f"{ddm[name]:.3g}{unit} ({between(interval, '.3g')}; {by_chance:.2g} by chance)"
            yield words.format(value=value)
