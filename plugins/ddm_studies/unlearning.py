"""How well whole classes and single clusters are unlearned, beside exact retraining (Sec. 4.3, 8.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import DDMError, Report, figures
from ddm_framework.bank import Bank, retrained
from ddm_framework.data import ImageSet
from ddm_framework.membership import advantage, losses
from ddm_framework.networks import Parameters, take
from ddm_framework.perturbations import leave_one_out
from ddm_framework.reports import Block, Chart, Section, Table, Text
from ddm_framework.unlearning import Repair, Request, cost, forgotten, repair_on, request, retained, unlearn
from ddm_framework.workspace import Workspace
from ddm_studies.paper import Compared, Comparison, sizes

Count = Annotated[int, Field(ge=1)]
Kind = Literal["class", "cluster"]
ARMS = ("target", "repair alone", "synset alone", "synset, then repair", "retrained exactly")
OURS = "synset, then repair"
MOST_KEPT, MOST_LOST, MOST_COST = 0.05, 0.03, 0.4
"""What is asked of unlearning a class: accuracy on it, accuracy lost on the others, share of a retraining's cost."""
COLUMNS = {
    "forgotten": "accuracy on what was to be forgotten",
    "others": "accuracy on other test images",
    "forgotten_training": "accuracy on its training images",
    "agreement": "predictions as after exact retraining",
    "advantage": "membership attack's advantage",
}
COMPARED = ("forgotten", "others", "advantage")
"""The columns that are shown first; the others are in metrics.json."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One class or cluster: the figures of each network by its name, and what unlearning cost.

    Attributes:
        name: of the class or cluster.
        figures: by arm, then by the keys of `COLUMNS`.
        cost: of the synset with repair, as `unlearning.cost`.
        step_size: of the synset's step alone.
    """

    name: str
    figures: Mapping[str, Mapping[str, float]]
    cost: Mapping[str, float]
    step_size: float


def run(
    workspace: Workspace,
    /,
    *,
    classes: Literal["all"] | Count = "all",
    clusters: Annotated[int, Field(ge=0)] = 10,
    repair: Count = 3,
    repair_share: Annotated[float, Field(gt=0, le=1)] = 1.0,
    resamples: Annotated[int, Field(ge=50)] = 2000,
) -> Report:
    """Unlearn whole classes and single clusters, one at a time, and retrain exactly without each.

    Args:
        workspace: the run.
        classes: how many are unlearned, the first ones; at least two make an interval.
        clusters: how many single clusters, drawn at random; 0 leaves them out.
        repair: epochs on the data that stay.
        repair_share: of the data that stay.
        resamples: of each bootstrap interval, over classes or clusters.
    Raises:
        DDMError: if fewer than two classes, or a single cluster, is asked for.
    Source: Sec. 4.3, "DDM could be used as a quick unlearn method"; Sec. 8.3; Yeom et al. 2018 for the attack.
    """
    count = workspace.info.num_classes if classes == "all" else min(classes, workspace.info.num_classes)
    if count < 2 or clusters == 1:
        raise DDMError("intervals need at least two classes, and two clusters or none")
    mending = Repair(repair, repair_share)
    by_class = _measured(workspace, "class", list(range(count)), mending)
    drawn = torch.randperm(workspace.partition.num_clusters, generator=workspace.generator("unlearning", "clusters"))
    by_cluster = _measured(workspace, "cluster", sorted(drawn[:clusters].tolist()), mending) if clusters else []
    groups: dict[str, list[Measured]] = {"class": by_class, **({"cluster": by_cluster} if by_cluster else {})}
    summaries = {kind: _summary(workspace, kind, each, resamples) for kind, each in groups.items()}
    comparison = _comparison(workspace, summaries, mending)
    return Report(
        sections=[comparison.section(_chart(by_class)), *(_section(kind, each) for kind, each in groups.items())],
        metrics={**comparison.metrics(), "unlearning": {**summaries, "repair_epochs": repair}},
        question="Does a step on the synset make the network forget, and what does a short repair add?",
        answer=comparison.sentences[0],
    )


def _measured(workspace: Workspace, kind: Kind, chosen: Sequence[int], mending: Repair) -> list[Measured]:
    bank = _bank(workspace, kind, chosen)
    found = []
    with workspace.display.bar(f"unlearning ({kind} by {kind})", len(chosen)) as advance:
        for row, each in enumerate(chosen):
            asked = request(workspace, classes=[each]) if kind == "class" else request(workspace, [each])
            exact = take(bank.load(slice(row, row + 1)), 0)
            found.append(_one(workspace, _name(workspace, kind, each), asked, mending, exact))
            advance()
    return found


def _bank(workspace: Workspace, kind: Kind, chosen: Sequence[int]) -> Bank:
    if kind == "cluster":
        return retrained(workspace, leave_one_out(workspace.partition.num_clusters)[1:][list(chosen)])
    count = workspace.info.num_classes
    return retrained(workspace, leave_one_out(count)[1:][list(chosen)], partition=workspace.partition.class_wise(count))


def _name(workspace: Workspace, kind: Kind, each: int) -> str:
    names = workspace.info.class_names
    return names[each] if kind == "class" else f"{names[int(workspace.partition.classes[each])]} · cluster {each}"


def _one(workspace: Workspace, name: str, asked: Request, mending: Repair, exact: Parameters) -> Measured:
    done = unlearn(workspace, asked, mending)
    plain = repair_on(workspace, workspace.target, retained(workspace, asked), mending.epochs)
    networks = dict(zip(ARMS, (workspace.target, plain, done.synset_alone, done.parameters, exact), strict=True))
    test, training = workspace.data.test, forgotten(workspace, asked)
    concerned = torch.isin(test.labels, training.labels.unique())
    sets = {"same": test.take(concerned.nonzero()[:, 0]), "training": training}
    sets["others"] = test.take((~concerned).nonzero()[:, 0]) if asked.classes else test
    truth = _predicted(workspace, exact, test)
    found = {
        arm: {
            **_accuracies(workspace, each, sets, asked),
            "agreement": float((_predicted(workspace, each, test) == truth).double().mean()),
            "advantage": _advantage(workspace, each, sets),
        }
        for arm, each in networks.items()
    }
    return Measured(name, found, cost(workspace, done, asked), done.step_size)


def _accuracies(
    workspace: Workspace, parameters: Parameters, sets: Mapping[str, ImageSet], asked: Request
) -> dict[str, float]:
    correct = {
        name: float((_predicted(workspace, parameters, each) == each.labels).double().mean())
        for name, each in sets.items()
    }
    own = correct["same"] if asked.classes else correct["training"]
    return {"forgotten": own, "others": correct["others"], "forgotten_training": correct["training"]}


def _predicted(workspace: Workspace, parameters: Parameters, images: ImageSet) -> Tensor:
    return workspace.network.logits_of(parameters, images.images).argmax(1)


def _advantage(workspace: Workspace, parameters: Parameters, sets: Mapping[str, ImageSet]) -> float:
    """Forgotten training images against test images of their classes; NaN where there are too few of either."""
    members, others = (losses(workspace.network, parameters, sets[name]) for name in ("training", "same"))
    if min(len(members), len(others)) < 2:
        return float("nan")
    return advantage(members, others, workspace.generator("unlearning", "attack"))


def _summary(workspace: Workspace, kind: str, found: Sequence[Measured], resamples: int) -> dict[str, Any]:
    """Means over classes or clusters with their intervals, by arm; and the cost."""
    random = workspace.generator("bootstrap", "unlearning", kind)
    arms: dict[str, Any] = {}
    for arm in ARMS:
        for column in COLUMNS:
            values = [each.figures[arm][column] for each in found]
            arms.setdefault(arm, {}).update(_with_interval(column, values, random, resamples))
    lost = [each.figures["target"]["others"] - each.figures[OURS]["others"] for each in found]
    alone = [each.figures["target"]["others"] - each.figures["synset alone"]["others"] for each in found]
    prices: dict[str, Any] = {}
    for key in found[0].cost:
        prices |= _with_interval(key, [each.cost[key] for each in found], random, resamples)
    return {
        "arms": arms,
        "count": len(found),
        **_with_interval("lost", lost, random, resamples),
        **_with_interval("lost_synset_alone", alone, random, resamples),
        "cost": prices,
        "step_sizes": [each.step_size for each in found],
    }


def _with_interval(name: str, values: Sequence[float], random: torch.Generator, resamples: int) -> dict[str, Any]:
    known = torch.tensor([each for each in values if each == each], dtype=torch.float64)
    if len(known) < 2:
        return {name: None, f"{name}_interval": None}
    interval = figures.bootstrap_interval(known, random, resamples=resamples)
    return {name: float(known.mean()), f"{name}_interval": list(interval)}


def _comparison(workspace: Workspace, summaries: Mapping[str, dict[str, Any]], mending: Repair) -> Comparison:
    return Comparison(
        "Sec. 8.3",
        "machine unlearning, beside exact retraining",
        list(_compared(summaries)),
        list(_sentences(workspace, summaries, mending)),
        f"{sizes(workspace)}; repair of {mending.epochs} epochs on {mending.share:.0%} of the data that stay",
    )


def _compared(summaries: Mapping[str, dict[str, Any]]) -> Iterator[Compared]:
    for kind, summary in summaries.items():
        for arm, found in summary["arms"].items():
            for column in COMPARED:
                if found[column] is not None:
                    interval = tuple(found[f"{column}_interval"])
                    yield Compared(f"{kind}: {arm}", COLUMNS[column], found[column], interval=interval)
        for key, title in (("seconds_share", "seconds"), ("epochs_share", "passes over data")):
            if summary["cost"].get(key) is not None:
                interval = tuple(summary["cost"][f"{key}_interval"])
                yield Compared(
                    f"{kind}: {OURS}", f"{title}, share of a retraining", summary["cost"][key], None, interval
                )


def _sentences(workspace: Workspace, summaries: Mapping[str, dict[str, Any]], mending: Repair) -> Iterator[str]:
    whole = summaries["class"]
    yield _verdict(whole, mending)
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
    passes, seconds = summary["cost"]["epochs_share"], summary["cost"].get("seconds_share")
    met = left <= MOST_KEPT and lost <= MOST_LOST and max(passes, seconds or 0) <= MOST_COST
    timed = "" if seconds is None else f" and {seconds:.0%} of its seconds"
    return (
        f"Unlearning a class by its synset and {mending.epochs} epochs of repair leaves {left:.1%} accuracy on it and"
        f" changes the others by {-100 * lost:+.1f} points, mean over {summary['count']} classes, for {passes:.0%} of a"
        f" retraining's passes over the data{timed}; asked for were at most {MOST_KEPT:.0%},"
        f" {100 * MOST_LOST:.0f} points lost and {MOST_COST:.0%}, which it {'meets' if met else 'misses'}."
    )


def _alone(summary: dict[str, Any]) -> str:
    alone, plain = summary["arms"]["synset alone"], summary["arms"]["repair alone"]
    return (
        f"The synset alone, without any training data (validation images decide its step), leaves"
        f" {alone['forgotten']:.1%} and changes the others by {-100 * summary['lost_synset_alone']:+.1f} points; the"
        f" repair alone, without the synset, leaves {plain['forgotten']:.1%}: it is the synset that makes the"
        " network forget."
        if plain["forgotten"] > alone["forgotten"]
        else f"The synset alone, without any training data, leaves {alone['forgotten']:.1%}, no less than the repair"
        f" alone, {plain['forgotten']:.1%}: in accuracy, here training on the others forgets as much."
    )


def _attacked(kind: str, summary: dict[str, Any]) -> Iterator[str]:
    found = {arm: each["advantage"] for arm, each in summary["arms"].items()}
    if any(each is None for each in found.values()):
        return
    before, after, exact = found["target"], found[OURS], found["retrained exactly"]
    low, high = summary["arms"][OURS]["advantage_interval"]
    reads = "cannot be told from a guess" if low <= 0 <= high else "still differs from a guess, whatever its accuracy"
    known = summary["arms"]["target"]["advantage_interval"][0] > 0
    nothing = (
        "" if known else " The target itself gives the attack nothing to go by, so this says little of unlearning."
    )
    yield (
        f"Told by their losses, training images of a forgotten {kind} are set apart from test images of the same"
        f" class with an advantage of {before:.2f} before, {found['synset alone']:.2f} after the synset's step,"
        f" {after:.2f} after the repair, and {exact:.2f} after exact retraining (0 = a guess); after the repair it"
        f" {reads}.{nothing}"
    )


def _clusters(workspace: Workspace, summary: dict[str, Any]) -> str:
    ours, exact = summary["arms"]["synset alone"], summary["arms"]["retrained exactly"]
    size = workspace.recipe.online.step_size
    return (
        f"Retrained without a single cluster, the network is still right on {exact['forgotten']:.1%} of that cluster's"
        f" images, as their class has other clusters; the synset's step of {size:g} leaves {ours['forgotten']:.1%}."
        " That step is made to rank effects, not to reach the retrained network."
    )


def _chart(found: Sequence[Measured]) -> Block:
    series = {arm: [each.figures[arm]["forgotten"] for each in found] for arm in ARMS}
    names = [each.name for each in found]
    return Chart(
        "bar", series, "class", "accuracy on its test images", names, "What each network still knows of a class"
    )


def _section(kind: str, found: Sequence[Measured]) -> Section:
    columns = [kind, "step", *(f"{short}: {arm}" for short in ("own", "others") for arm in ARMS[2:])]
    rows: list[list[str | int | float | None]] = []
    for each in found:
        own, others = ([each.figures[arm][key] for arm in ARMS[2:]] for key in ("forgotten", "others"))
        rows.append([each.name, each.step_size, *own, *others])
    told = {
        "class": "One step on the class-wise synset, whose size the validation split decides: the smallest after which"
        " validation images of the class are hardly recognised. A repair follows a step four times as long. `own` is"
        " accuracy on test images of the class, `others` on the other test images.",
        "cluster": "The recipe's step on the cluster's synset. `own` is accuracy on the cluster's training images,"
        " `others` on all test images.",
    }
    return Section(f"{kind.capitalize()} by {kind}", [Text(told[kind]), Table(columns, rows)])
