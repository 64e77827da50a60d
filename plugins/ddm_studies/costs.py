"""Bytes and seconds of the distilled datamodel, and the number of questions after which its offline work pays off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field

from ddm_framework import Chart, Report, Section, Table, Text, Workspace, retrains
from ddm_framework.data import StoredImages
from ddm_framework.network import num_weights
from ddm_framework.offline import Synset
from ddm_framework.truth import Bank
from ddm_studies.comparison.intervals import median_interval
from ddm_studies.comparison.measured import Measured, Outcome, Stored
from ddm_studies.comparison.options import AtLeastTwo, Count
from ddm_studies.comparison.paper import Claim, Compared, Comparison, Findings, sizes
from ddm_studies.comparison.running import first_test_images, seconds_of, shifts, without_each

FLOAT_BYTES = 4
KEPT = ("synset", "class_synset", "target")
"""What DDM keeps to answer questions."""
QUESTIONS = (0, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000)
"""Numbers of questions in the chart."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of answering questions.

    Attributes:
        once: seconds before the first answer.
        each: seconds for each answer.
    """

    once: float
    each: float

    def after(self, questions: int) -> float:
        """Seconds for a number of answers."""
        return self.once + questions * self.each


@retrains(lambda options, clusters, _: clusters if options["retrainings"] == "all" else options["retrainings"])
def run(
    workspace: Workspace,
    /,
    *,
    queries: AtLeastTwo = 100,
    repeats: Annotated[int, Field(ge=6, le=1_000_000)] = 7,
    retrainings: Literal["all"] | Count = "all",
) -> Report:
    """Measure storage and time of the distilled datamodel and of leave-one-out by exact retraining.

    A question asks for the effect of deleting each of the K clusters on some queries, by `output_shift`. The training
    of the target is not counted, as both ways need it.

    Args:
        queries: number of test images of the larger question.
        repeats: number of measurements of each question; their median is reported.
        retrainings: number of networks without a cluster that are really retrained; with fewer than K, the time for all
            of them is extrapolated.
    Source: abstract and Sec. 3.2, "significant speedup", "reduced storage requirements", without figures.
    """
    count = workspace.partition.num_clusters
    made = count if retrainings == "all" else min(retrainings, count)
    bank = without_each(workspace, workspace.partition, slice(made))
    stored = _stored(workspace)
    spent = _spent(workspace, bank, queries, repeats)
    ways = _ways(spent)
    paid = _paid(ways)
    kept = "as bytes" if isinstance(workspace.data.train.images, StoredImages) else "as floats"
    figures = {"bytes": stored, "seconds": {**spent, "break_even": paid}, "num_clusters": count, "images_kept": kept}
    return Comparison(
        "Abstract",
        "a significant speedup and reduced storage, without figures in the paper",
        list(_compared(stored, spent, paid)),
        findings({"costs": figures}),
        f"{sizes(workspace)}; {spent['num_queries']} queries a question, {made} networks retrained",
    ).report(
        "costs",
        figures,
        "What does the distilled datamodel cost, and after how many questions does it pay off?",
        [_seconds_chart(ways), _bytes_chart(stored)],
        [_storage_section(stored), _seconds_section(workspace, spent)],
    )


def break_even(way: Way, other: Way) -> int | None:
    """Number of questions from which on one way has never taken longer than the other; None if there is none."""
    saved, ahead = other.each - way.each, way.once - other.once
    if saved <= 0:
        return 0 if saved == 0 and ahead <= 0 else None
    return max(0, math.ceil(ahead / saved))


def _stored(workspace: Workspace) -> dict[str, int]:
    """Bytes that each way keeps."""
    weights = num_weights(workspace.target) * FLOAT_BYTES
    images = workspace.data.train.images
    each = 1 if isinstance(images, StoredImages) else FLOAT_BYTES
    return {
        "data": math.prod(images.shape) * each,
        "synset": _synset_bytes(workspace.synset),
        "class_synset": _synset_bytes(workspace.class_synset),
        "target": weights,
        "trajectory": weights * len(workspace.trajectory),
        "bank": weights * workspace.partition.num_clusters,
    }


def _synset_bytes(synset: Synset) -> int:
    return sum(each.numel() * each.element_size() for each in (synset.images, synset.labels))


def _spent(workspace: Workspace, bank: Bank, queries: int, repeats: int) -> dict[str, Any]:
    """Seconds of the stages, of questions (medians with their intervals) and of retraining."""
    stages, count = workspace.folder.seconds(), workspace.partition.num_clusters
    asked = first_test_images(workspace, queries)
    found: dict[str, Any] = {
        **{stage: stages.get(stage, 0.0) for stage in ("training", "partition", "matching")},
        "offline": stages.get("partition", 0.0) + stages.get("matching", 0.0),
        "num_queries": len(asked),
        "retrainings": len(bank),
        "one_retraining": bank.seconds / len(bank),
        "leave_one_out": bank.seconds / len(bank) * count,
    }
    for name, task in _questions(workspace, bank, len(asked)).items():
        spent = [seconds_of(task) for _ in range(repeats)]
        # Answering from a part of the bank is extrapolated to the whole bank.
        factor = count / len(bank) if name == "bank_question" else 1.0
        low, high = median_interval(spent)
        found |= Measured(median(spent) * factor, (low * factor, high * factor)).metrics(name)
    return found


def _questions(workspace: Workspace, bank: Bank, queries: int) -> dict[str, Callable[[], object]]:
    """One question for each name; each call computes the answer anew."""
    objective = workspace.objective("output_shift")
    return {
        "single_question": lambda: workspace.attribution(first_test_images(workspace, 1), objective),
        "question": lambda: workspace.attribution(first_test_images(workspace, queries), objective),
        "bank_question": lambda: shifts(workspace, bank, first_test_images(workspace, queries)),
    }


def _ways(spent: Stored) -> dict[str, Way]:
    return {
        "DDM": Way(spent["offline"], spent["question"]),
        "bank of retrainings, kept": Way(spent["leave_one_out"], spent["bank_question"]),
        "retraining on demand": Way(0.0, spent["leave_one_out"] + spent["bank_question"]),
    }


def _paid(ways: Mapping[str, Way]) -> dict[str, int | None]:
    """Number of questions after which one way pays off against another."""
    ddm, kept, demand = ways.values()
    return {
        "ddm_on_demand": break_even(ddm, demand),
        "ddm_bank": break_even(ddm, kept),
        "bank_ddm": break_even(kept, ddm),
        "bank_on_demand": break_even(kept, demand),
    }


def _compared(stored: Mapping[str, int], spent: Stored, paid: Mapping[str, int | None]) -> Iterator[Compared]:
    yield Compared("synset", "bytes, share of the training images'", stored["synset"] / stored["data"])
    yield Compared("synset", "bytes, share of the trajectory's", stored["synset"] / stored["trajectory"])
    yield Compared("synset", "bytes, share of K retrained networks'", stored["synset"] / stored["bank"])
    yield Compared("DDM, once", "seconds of clustering and matching", spent["offline"])
    for name, row in (
        ("single_question", "DDM, one query"),
        ("question", f"DDM, {spent['num_queries']} queries"),
        ("bank_question", f"kept bank, {spent['num_queries']} queries"),
    ):
        yield Compared.read(row, "seconds a question", spent, name)
    yield Compared("one exact retraining", "seconds, side by side with others", spent["one_retraining"])
    yield Compared("training the target", "seconds, with checkpoints", spent["training"])
    yield Compared("leave-one-out by retraining", "seconds", spent["leave_one_out"])
    note = "the interval covers only the question's time"
    yield Compared.measured("DDM", "times faster a question than retraining", _speedup(spent), note=note)
    for name, row in (("ddm_on_demand", "DDM against retraining on demand"), ("ddm_bank", "DDM against the kept bank")):
        if paid[name] is not None:
            yield Compared(row, "questions until it has paid", float(paid[name] or 0))


def _speedup(spent: Stored) -> Measured:
    """How many times as long as a question to DDM all retrainings take; its interval covers the question's time."""
    times, (low, high) = spent["leave_one_out"], spent["question_interval"]
    return Measured(times / spent["question"], (times / high, times / low))


def findings(metrics: Stored) -> Findings:
    """The verdicts on the claimed speedup and storage, and what cannot be compared, from the entry of metrics.json."""
    figures = metrics["costs"]
    stored, spent = figures["bytes"], figures["seconds"]
    speedup = _speedup(spent)
    times, outcome = f"{speedup.words(',.3g')} times as fast", speedup.outcome(1)
    verdict = {
        "holds": "is confirmed",
        "does not hold": "is contradicted",
        "not told": "is neither confirmed nor contradicted",
    }[outcome]
    together, bank = _kept(stored), stored["bank"]
    sentences = [
        f"The claimed speedup {verdict} for a question after the offline work: DDM answers it {times} as retraining"
        f" without each of the {figures['num_clusters']} clusters. The paper gives no figure of its speedup or storage,"
        " so figures cannot be compared.",
        _on_demand(spent, spent["break_even"]["ddm_on_demand"], outcome),
        _against_bank(spent["break_even"], together < stored["bank"], _each_apart(spent)),
        _on_storage(stored, figures["images_kept"]),
    ]
    measured = f"{times}, after the offline work; the interval covers only DDM's time"
    bytes_ = f"synsets and target {_megabytes(together)} MB, a bank of retrained networks {_megabytes(bank)} MB"
    claims = [
        Claim("answers come with a significant speedup over retraining", measured, outcome),
        Claim("storage is reduced", bytes_, "holds" if together < bank else "does not hold"),
    ]
    return Findings(sentences, claims)


def _each_apart(spent: Stored) -> bool:
    """Whether the intervals of a question to DDM and to the kept bank have nothing in common."""
    (low, high), (bank_low, bank_high) = spent["question_interval"], spent["bank_question_interval"]
    return bool(high < bank_low or bank_high < low)


def _kept(stored: Mapping[str, int]) -> int:
    """Bytes of what DDM keeps to answer questions."""
    return sum(stored[each] for each in KEPT)


def _on_demand(spent: Stored, paid: int | None, speedup: Outcome) -> str:
    """Break-even against retraining for every question without keeping the networks.

    Args:
        spent: seconds.
        paid: number of questions after which DDM pays off; None if never.
        speedup: whether a question is answered faster; where its interval does not tell, neither does the break-even.
    """
    retrainings = spent["offline"] / spent["one_retraining"]
    said = f"The offline work of DDM costs as much as {retrainings:.0f} exact retrainings"
    if speedup == "not told":
        return f"{said}; whether they pay off compared with retraining for every question cannot be told."
    when = f"pays off from question {max(paid, 1)} on" if paid is not None else "never pays off"
    return f"{said}; compared with retraining for every question, it {when}."


def _against_bank(paid: Mapping[str, int | None], smaller: bool, apart: bool) -> str:
    """Break-even against a bank of retrained networks that is kept and answers every later question.

    Args:
        paid: number of questions after which each pays off against the other; never None for both.
        smaller: whether synsets and target take fewer bytes than the bank.
        apart: whether one answers a question measurably faster; without it, nothing is said of who ends up ahead.
    """
    said = "Compared with a kept bank of retrained networks, which answers every later question exactly,"
    if not apart:
        return f"{said} DDM is neither measurably faster nor slower a question."
    if paid["ddm_bank"] == 0:
        return f"{said} DDM is ahead from the first question on."
    if paid["ddm_bank"] is not None:
        return f"{said} DDM is behind until it pays off, at question {paid['ddm_bank']}."
    if paid["bank_ddm"] == 0:
        storage = "pays off only in storage" if smaller else "does not pay off in storage either"
        return f"{said} DDM is behind from the first question on and {storage}."
    return f"{said} DDM is ahead until question {paid['bank_ddm']}, from which on the bank has taken less time."


def _on_storage(stored: Mapping[str, int], kept: str) -> str:
    together = _kept(stored)
    verdict = "confirmed" if together < stored["bank"] else "contradicted"
    return (
        f"The claimed reduction of storage is {verdict} compared with a bank of retrained networks: synsets and target"
        f" take {_megabytes(together)} MB, the bank {_megabytes(stored['bank'])} MB and the training images, stored"
        f" {kept}, {_megabytes(stored['data'])} MB. Matching also needs the trajectory"
        f" ({_megabytes(stored['trajectory'])} MB)."
    )


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.3g}"


def _seconds_chart(ways: Mapping[str, Way]) -> Chart:
    """Seconds by number of questions, on a logarithmic scale."""
    series = {name: [math.log10(max(way.after(each), 1e-3)) for each in QUESTIONS] for name, way in ways.items()}
    positions, caption = [f"{each:,}" for each in QUESTIONS], "Time after the training of the target"
    return Chart("line", series, "questions", "total seconds, powers of ten", positions, caption)


def _bytes_chart(stored: Mapping[str, int]) -> Chart:
    series = {"megabytes": [number / 1e6 for number in stored.values()]}
    return Chart("bar", series, "what is kept", "megabytes", [each.replace("_", " ") for each in stored])


def _storage_section(stored: Mapping[str, int]) -> Section:
    words = {
        "data": "training images",
        "synset": "synset, cluster-wise",
        "class_synset": "synset, class-wise",
        "target": "target",
        "trajectory": "trajectory, only for matching",
        "bank": "bank of K retrained networks",
    }
    table = Table(
        ["", "bytes", "share of the training images"],
        [[words[name], number, number / stored["data"]] for name, number in stored.items()],
    )
    return Section("Storage", [table])


def _seconds_section(workspace: Workspace, spent: Stored) -> Section:
    words = {
        "training": "training of the target (with checkpoints), needed by both",
        "partition": "clustering, once",
        "matching": "matching of both synsets, once",
        "single_question": "DDM: a question on one query",
        "question": f"DDM: a question on {spent['num_queries']} queries",
        "one_retraining": "one exact retraining, in parallel with others",
        "leave_one_out": f"all {workspace.partition.num_clusters} exact retrainings",
        "bank_question": f"kept bank: a question on {spent['num_queries']} queries",
    }
    told = (
        "Times of questions are medians of several measurements. Stages and retrainings were timed once, when they ran,"
        " with whatever else the machine did at that time."
    )
    if spent["retrainings"] < workspace.partition.num_clusters:
        told += f" Times of all retrainings and of the bank's question are extrapolated from {spent['retrainings']}."
    return Section("Seconds", [Text(told), Table(["", "seconds"], [[words[name], spent[name]] for name in words])])
