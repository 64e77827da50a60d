"""What unlearning says, in sentences that are computed from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ddm_framework.answers import Repair
from ddm_framework.runs import Workspace

TARGET, PLAIN, ALONE, OURS, EXACT = ARMS = (
    "target",
    "repair alone",
    "synset alone",
    "synset, then repair",
    "retrained exactly",
)
MOST_KEPT, MOST_LOST, MOST_COST = 0.05, 0.03, 0.4
"""What is asked of unlearning a class: accuracy on it, accuracy lost on the others, share of a retraining's cost."""


def sentences(
    workspace: Workspace, summaries: Mapping[str, dict[str, Any]], mending: Repair, once: Mapping[str, float]
) -> Iterator[str]:
    """What is to be said of the figures of classes, and of clusters where there are any."""
    whole = summaries["class"]
    yield _verdict(whole, mending)
    yield _paid_once(once)
    yield _alone(whole)
    yield (
        "The paper gives no figure of unlearning that these could be set beside: Sec. 8.3 shows two curves of the"
        " empirical error (Fig. 7), and Table 4 one accuracy after fine-tuning on all synthetic images at once."
    )
    for kind, summary in summaries.items():
        yield from _attacked(kind, summary)
    if "cluster" in summaries:
        yield _clusters(workspace, summaries["cluster"])


def _verdict(summary: dict[str, Any], mending: Repair) -> str:
    left, lost = summary["arms"][OURS]["forgotten"], summary["lost"]
    passes, seconds = summary["cost"]["epochs_share"], summary["cost"]["seconds_share"]
    met = left <= MOST_KEPT and lost <= MOST_LOST and max(passes, seconds) <= MOST_COST
    return (
        f"Unlearning a class by its synset and {epochs_of(mending)} of repair leaves {left:.1%} accuracy on it and"
        f" changes the others by {_points(-lost)}, mean over {summary['count']} classes, for {passes:.0%} of a"
        f" retraining's passes over the data and {seconds:.0%} of its seconds; asked for were at most {MOST_KEPT:.0%},"
        f" {100 * MOST_LOST:.0f} points lost and {MOST_COST:.0%}, which it {'meets' if met else 'misses'}."
    )


def epochs_of(mending: Repair) -> str:
    """`3 epochs`."""
    return f"{mending.epochs} epoch{'s' if mending.epochs > 1 else ''}"


def _points(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0.0:+.1f} points"  # no minus before a zero


def _paid_once(once: Mapping[str, float]) -> str:
    return (
        f"The shares leave out the synset itself, which cost {once['seconds_distillation_once']:.3g} seconds or"
        f" {once['seconds_distillation_in_retrainings']:,.1f} retrainings once, for every class and question;"
        f" a retraining, timed once and without saving, takes {once['seconds_retraining']:.3g} seconds."
    )


def _alone(summary: dict[str, Any]) -> str:
    """What the synset does without the repair, and the repair without the synset."""
    alone, plain = summary["arms"][ALONE]["forgotten"], summary["arms"][PLAIN]["forgotten"]
    low, high = summary["repair_alone_leaves_more_interval"]
    if low > 0 and alone <= MOST_KEPT:
        verdict = "it is the synset that makes the network forget"
    elif low > 0:
        verdict = f"the synset forgets more, but not to the {MOST_KEPT:.0%} that were asked for"
    elif high < 0:
        verdict = "in accuracy, training on the others forgets more here"
    else:
        verdict = "in accuracy, neither measurably forgets more here"
    return (
        f"The synset alone, without any training data ({_step_in_words(summary)}), leaves {alone:.1%} and changes the"
        f" others by {_points(-summary['lost_synset_alone'])}; the repair alone, without the synset, leaves"
        f" {plain:.1%} (difference {100 * low:+.1f} to {100 * high:+.1f} points): {verdict}."
    )


def _step_in_words(summary: dict[str, Any]) -> str:
    if not summary["steps_decided"]:
        return "its step is fixed, as there are no validation images"
    some = summary["steps_decided"] < summary["count"]
    return "validation images decide its step" + (" where a class has any" if some else "")


def _attacked(kind: str, summary: dict[str, Any]) -> Iterator[str]:
    """Whether the attack finds more after unlearning than after exact retraining, which saw none of those images."""
    beyond = summary["advantage_beyond_exact"]
    if beyond is None:
        return
    found = {arm: f"{round(each['advantage'], 2) + 0.0:.2f}" for arm, each in summary["arms"].items()}
    low, high = summary["advantage_beyond_exact_interval"]
    told = f"cannot be told from exact retraining (difference {beyond:+.2f}, {low:+.2f} to {high:+.2f})"
    if not low <= 0 <= high:
        told = f"differs from exact retraining by {beyond:+.2f} ({low:+.2f} to {high:+.2f})"
    nothing = (
        ""
        if summary["advantage_beyond_exact_target_interval"][0] > 0
        else " The target itself is not measurably above exact retraining, so this says little of unlearning."
    )
    yield (
        f"Told by their losses, training images of a forgotten {kind} are set apart from test images of the same"
        f" class with an advantage of {found[TARGET]} before, {found[ALONE]} after the synset's step,"
        f" {found[OURS]} after the repair and {found[EXACT]} after exact retraining. As some images are easier"
        f" than others for any network, only the difference counts: after the repair, the network {told}.{nothing}"
    )


def _clusters(workspace: Workspace, summary: dict[str, Any]) -> str:
    ours, exact = summary["arms"][ALONE], summary["arms"][EXACT]
    each_class = workspace.partition.classes.bincount()
    others = ", as their class has other clusters" if int(each_class.min()) > 1 else ""
    size = workspace.recipe.online.step_size
    return (
        f"Retrained without a single cluster, the network is right on {exact['forgotten']:.1%} of that cluster's"
        f" images{others}; the synset's step of {size:g} leaves {ours['forgotten']:.1%}."
        " That step is made to rank effects, not to reach the retrained network."
    )
