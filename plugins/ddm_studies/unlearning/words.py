"""What is said of unlearning, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ddm_framework.answers import Repair
from ddm_studies.comparison.measured import Stored, between, outcome_of
from ddm_studies.comparison.paper import Claim, Findings

TARGET, PLAIN, ALONE, OURS, EXACT = ARMS = (
    "target",
    "repair alone",
    "synset alone",
    "synset, then repair",
    "retrained exactly",
)
MOST_KEPT, MOST_LOST, MOST_COST = 0.05, 0.03, 0.4
"""Maxima required of unlearning a class: accuracy on it, accuracy lost on others, share of a retraining's cost."""


def findings(metrics: Stored) -> Findings:
    """The verdicts on unlearning, and what cannot be compared, from the entry of metrics.json."""
    stored = metrics["unlearning"]
    summaries = {kind: stored[kind] for kind in ("class", "cluster") if kind in stored}
    mending = Repair(stored["repair_epochs"], stored["repair_share"])
    return Findings(list(_sentences(summaries, mending, stored)), list(_claims(summaries["class"], stored)))


def _claims(summary: dict[str, Any], once: Mapping[str, float]) -> Iterator[Claim]:
    """That it is the synset that makes the network forget, and that this is quick."""
    alone, plain = summary["arms"][ALONE]["forgotten"], summary["arms"][PLAIN]["forgotten"]
    measured = (
        f"accuracy on the class {alone:.1%} after the synset's step, {plain:.1%} after training on the other classes"
        f" alone ({_difference(summary)})"
    )
    more = outcome_of(summary["repair_alone_leaves_more_interval"])
    yield Claim("the synset makes the network forget a class", measured, more)
    cost, (low, high) = summary["cost"], _seconds_share(summary, once)
    seconds = f"{cost['seconds_share']:.0%} ({between((low, high), '.0%')}) of the seconds"
    measured = f"{cost['epochs_share']:.0%} of the passes and {seconds}, with repair and without the synset"
    quicker = "does not hold" if cost["epochs_share"] >= 1 else outcome_of((-high, -low), -1)
    yield Claim("a class is unlearned faster than by retraining", measured, quicker)


def _difference(summary: Stored) -> str:
    """How much more of the class the repair alone leaves than the synset alone."""
    low, high = summary["repair_alone_leaves_more_interval"]
    return f"difference {between((100 * low, 100 * high), '+.1f')} points"


def _seconds_share(summary: Stored, once: Mapping[str, float]) -> tuple[float, float]:
    """Interval of the seconds of unlearning as a share of one retraining's, which was timed once."""
    low, high = (end / once["seconds_retraining"] for end in summary["cost"]["seconds_interval"])
    return low, high


def _sentences(summaries: Mapping[str, dict[str, Any]], mending: Repair, once: Mapping[str, float]) -> Iterator[str]:
    """The verdicts on unlearning classes, and clusters where there are any, and what cannot be compared."""
    whole = summaries["class"]
    yield f"{_verdict(whole, mending, once)} {_paid_once(once)}"
    yield _alone(whole)
    if attacked := [_attacked(kind, summary) for kind, summary in summaries.items() if _is_attacked(summary)]:
        yield (
            "Compared with exact retraining, the advantage of a membership attack by the loss after unlearning with"
            f" repair is {' and '.join(attacked)}."
        )
    yield (
        "The paper gives no figure of unlearning that could be compared: Sec. 8.3 shows two curves of the empirical"
        " error (Fig. 7), and Table 4 one accuracy after fine-tuning on all synthetic images at once."
    )


def _verdict(summary: dict[str, Any], mending: Repair, once: Mapping[str, float]) -> str:
    left, lost = summary["arms"][OURS]["forgotten"], summary["lost"]
    passes, seconds = summary["cost"]["epochs_share"], summary["cost"]["seconds_share"]
    return (
        f"Unlearning a class by its synset and {epochs_of(mending)} of repair leaves {left:.1%} accuracy on the class"
        f" (at most {MOST_KEPT:.0%} required), changes that on the others by {_points(-lost)} (at most"
        f" {100 * MOST_LOST:.0f} points lost) and costs {passes:.0%} of a retraining's passes over the data and"
        f" {seconds:.0%} of its seconds (at most {MOST_COST:.0%}): {_requirements(summary, once)}."
    )


def _requirements(summary: dict[str, Any], once: Mapping[str, float]) -> str:
    """Met if all intervals lie within the maxima, missed if one lies beyond its own."""
    low, high = _seconds_share(summary, once)
    passes = summary["cost"]["epochs_share"]
    ranges = [
        (*summary["arms"][OURS]["forgotten_interval"], MOST_KEPT),
        (*summary["lost_interval"], MOST_LOST),
        (max(passes, low), max(passes, high), MOST_COST),
    ]
    if all(highest <= most for _, highest, most in ranges):
        return "it meets the requirements"
    if any(lowest > most for lowest, _, most in ranges):
        return "it misses the requirements"
    return "the intervals do not tell whether it meets the requirements"


def epochs_of(mending: Repair) -> str:
    """`3 epochs`."""
    return f"{mending.epochs} epoch{'s' if mending.epochs > 1 else ''}"


def _points(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0.0:+.1f} points"  # no minus before a zero


def _paid_once(once: Mapping[str, float]) -> str:
    return (
        "This cost excludes the synset, which took as long as"
        f" {once['seconds_distillation_in_retrainings']:,.1f} retrainings, once for all requests."
    )


def _alone(summary: dict[str, Any]) -> str:
    """What the synset does without the repair, and the repair without the synset."""
    alone, plain = summary["arms"][ALONE]["forgotten"], summary["arms"][PLAIN]["forgotten"]
    low, high = summary["repair_alone_leaves_more_interval"]
    least, most = summary["arms"][ALONE]["forgotten_interval"]
    if low > 0 and most <= MOST_KEPT:
        verdict = "it is the synset that makes the network forget"
    elif low > 0 and least > MOST_KEPT:
        verdict = f"the synset forgets more, but does not reach the required {MOST_KEPT:.0%}"
    elif low > 0:
        verdict = f"the synset forgets more; whether it reaches the required {MOST_KEPT:.0%} is not told"
    elif high < 0:
        verdict = "in accuracy, the repair alone forgets more"
    else:
        verdict = "in accuracy, neither measurably forgets more"
    return (
        f"The synset alone ({_step_in_words(summary)}) leaves {alone:.1%} accuracy on the class, the repair alone"
        f" {plain:.1%} ({_difference(summary)}): {verdict}."
    )


def _step_in_words(summary: dict[str, Any]) -> str:
    if not summary["steps_decided"]:
        return "its step size is fixed, as there are no validation images"
    some = summary["steps_decided"] < summary["count"]
    return "its step size is chosen on validation images" + (" where a class has any" if some else "")


def _is_attacked(summary: dict[str, Any]) -> bool:
    return summary["advantage_beyond_exact"] is not None


def _attacked(kind: str, summary: dict[str, Any]) -> str:
    """Whether the attack succeeds more after unlearning than after exact retraining, which saw none of those images."""
    low, high = summary["advantage_beyond_exact_interval"]
    told = "higher" if low > 0 else "lower" if high < 0 else "not measurably different"
    nothing = (
        ""
        if summary["advantage_beyond_exact_target_interval"][0] > 0
        else "; as the target itself is not measurably above exact retraining, this says little about unlearning"
    )
    beyond = f"{summary['advantage_beyond_exact']:+.2f}, {between((low, high), '+.2f')}"
    return f"{told} for a {kind} ({beyond}{nothing})"
