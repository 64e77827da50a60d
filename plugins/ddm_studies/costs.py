"""What the distilled datamodel takes in bytes and seconds, and from which question on its offline work has paid."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import Report, Section
from ddm_framework.data import StoredImages
from ddm_framework.network import TARGET_COPIES, num_weights
from ddm_framework.offline import Synset
from ddm_framework.online import Queries, leave_one_out
from ddm_framework.report import Block, Chart, Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth import Bank, bank_logits, retrained
from ddm_studies.comparison.intervals import median_interval
from ddm_studies.comparison.paper import Compared, Comparison, sizes

Count = Annotated[int, Field(ge=1)]
FLOAT_BYTES = 4
KEPT = ("synset", "class_synset", "target")
"""What DDM answers questions with."""
QUESTIONS = (0, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000)
"""Positions of the chart."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of answering questions.

    Attributes:
        once: seconds before the first answer.
        each: seconds for every answer.
    """

    once: float
    each: float

    def after(self, questions: int) -> float:
        """Seconds for so many answers."""
        return self.once + questions * self.each


def run(
    workspace: Workspace,
    /,
    *,
    queries: Annotated[int, Field(ge=2)] = 100,
    repeats: Annotated[int, Field(ge=6)] = 7,
    retrainings: Literal["all"] | Count = "all",
) -> Report:
    """Measure storage and time of the distilled datamodel and of leave-one-out by exact retraining.

    A question is the effect of deleting each of the K clusters on some queries, by `output_shift`. The training of the
    target itself is charged to neither: both begin with it.

    Args:
        queries: test images of one larger question.
        repeats: of each measurement of a question; the median is given.
        retrainings: of the K clusters, how many networks are really retrained; with fewer than all, the time for all is
            reckoned from them.
    Source: abstract and Sec. 3.2, "significant speedup", "reduced storage requirements", without figures.
    """
    count = workspace.partition.num_clusters
    made = count if retrainings == "all" else min(retrainings, count)
    bank = retrained(workspace, leave_one_out(count)[1 : made + 1])
    stored = _stored(workspace)
    spent = _spent(workspace, bank, queries, repeats)
    ways = _ways(spent)
    paid = _paid(ways)
    comparison = Comparison(
        "Abstract",
        "a significant speedup and reduced storage, without figures in the paper",
        list(_compared(stored, spent, paid)),
        list(_sentences(workspace, stored, spent, ways, paid)),
        f"{sizes(workspace)}; {spent['num_queries']} queries a question, {made} networks retrained",
    )
    return Report(
        sections=[
            comparison.section(*_charts(stored, ways)),
            _storage_section(stored),
            _seconds_section(workspace, spent),
        ],
        metrics={**comparison.metrics(), "costs": {"bytes": stored, "seconds": {**spent, "break_even": paid}}},
        question="What does the distilled datamodel take, and after how many questions has it paid?",
        answer=comparison.sentences[0],
    )


def break_even(way: Way, other: Way) -> int | None:
    """Questions from which on one way has taken no longer than another, for good; None if that never comes."""
    saved, ahead = other.each - way.each, way.once - other.once
    if saved <= 0:
        return 0 if saved == 0 and ahead <= 0 else None
    return max(0, math.ceil(ahead / saved))


def _stored(workspace: Workspace) -> dict[str, int]:
    """Bytes of what each way keeps."""
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
    asked = workspace.queries_of("test", queries)
    found: dict[str, Any] = {
        **{stage: stages.get(stage, 0.0) for stage in ("training", "partition", "matching")},
        "offline": stages.get("partition", 0.0) + stages.get("matching", 0.0),
        "num_queries": len(asked),
        "retrainings": len(bank),
        "one_retraining": bank.seconds / len(bank),
        "leave_one_out": bank.seconds / len(bank) * count,
    }
    for name, task in _questions(workspace, bank, len(asked)).items():
        spent = [_timed(task) for _ in range(repeats)]
        # Answering from a part of the bank is reckoned up to all of it.
        factor = count / len(bank) if name == "bank_question" else 1.0
        found[name] = median(spent) * factor
        found[f"{name}_interval"] = [end * factor for end in median_interval(spent)]
    return found


def _questions(workspace: Workspace, bank: Bank, queries: int) -> dict[str, Callable[[], object]]:
    """One question each, asked anew every time."""
    objective = workspace.objective("output_shift")

    def by_synset(count: int) -> object:
        return workspace.attribution(workspace.queries_of("test", count), objective)

    def by_bank() -> object:
        asked = workspace.queries_of("test", queries)
        return _shifts(workspace, bank, asked)

    return {
        "single_question": lambda: by_synset(1),
        "question": lambda: by_synset(queries),
        "bank_question": by_bank,
    }


def _shifts(workspace: Workspace, bank: Bank, asked: Queries) -> Tensor:
    """Effects (N, K) on the CPU, so that an accelerator has really finished."""
    objective, reference = workspace.objective("output_shift"), workspace.reference(asked)
    return torch.stack([objective.measure(each, reference) for each in bank_logits(workspace, bank, asked)], 1).cpu()


def _timed(task: Callable[[], object]) -> float:
    begun = time.monotonic()
    task()
    return time.monotonic() - begun


def _ways(spent: Mapping[str, Any]) -> dict[str, Way]:
    return {
        "DDM": Way(spent["offline"], spent["question"]),
        "bank of retrainings, kept": Way(spent["leave_one_out"], spent["bank_question"]),
        "retraining on demand": Way(0.0, spent["leave_one_out"] + spent["bank_question"]),
    }


def _paid(ways: Mapping[str, Way]) -> dict[str, int | None]:
    """After how many questions one way has paid against another."""
    ddm, kept, demand = ways.values()
    return {
        "ddm_on_demand": break_even(ddm, demand),
        "ddm_bank": break_even(ddm, kept),
        "bank_ddm": break_even(kept, ddm),
        "bank_on_demand": break_even(kept, demand),
    }


def _compared(
    stored: Mapping[str, int], spent: Mapping[str, Any], paid: Mapping[str, int | None]
) -> Iterator[Compared]:
    yield Compared("synset", "bytes, share of the training images'", stored["synset"] / stored["data"])
    yield Compared("synset", "bytes, share of the trajectory's", stored["synset"] / stored["trajectory"])
    yield Compared("synset", "bytes, share of K retrained networks'", stored["synset"] / stored["bank"])
    yield Compared("DDM, once", "seconds of clustering and matching", spent["offline"])
    for name, row in (
        ("single_question", "DDM, one query"),
        ("question", f"DDM, {spent['num_queries']} queries"),
        ("bank_question", f"kept bank, {spent['num_queries']} queries"),
    ):
        yield Compared(row, "seconds a question", spent[name], None, tuple(spent[f"{name}_interval"]))
    yield Compared("one exact retraining", "seconds, side by side with others", spent["one_retraining"])
    yield Compared("training the target", f"seconds, {TARGET_COPIES} copies with checkpoints", spent["training"])
    yield Compared("leave-one-out by retraining", "seconds", spent["leave_one_out"])
    low, high = spent["question_interval"]
    interval = (spent["leave_one_out"] / high, spent["leave_one_out"] / low)
    quicker, note = spent["leave_one_out"] / spent["question"], "interval of the question's time alone"
    yield Compared("DDM", "times faster a question than retraining", quicker, None, interval, note)
    for name, row in (("ddm_on_demand", "DDM against retraining on demand"), ("ddm_bank", "DDM against the kept bank")):
        if paid[name] is not None:
            yield Compared(row, "questions until it has paid", float(paid[name] or 0))


def _sentences(
    workspace: Workspace,
    stored: Mapping[str, int],
    spent: Mapping[str, Any],
    ways: Mapping[str, Way],
    paid: Mapping[str, int | None],
) -> Iterator[str]:
    yield (
        f"Once the synset is there, a question about all {workspace.partition.num_clusters} clusters takes"
        f" {spent['question']:.3f} seconds, {spent['leave_one_out'] / spent['question']:.0f} times less than retraining"
        f" without each of them ({spent['leave_one_out']:.1f} seconds, many networks at a time)."
    )
    yield _on_demand(spent, paid["ddm_on_demand"])
    smaller = sum(stored[each] for each in KEPT) < stored["bank"]
    yield _against_bank(ways["DDM"], ways["bank of retrainings, kept"], paid, smaller)
    yield _on_storage(workspace, stored)
    yield (
        "The paper claims a significant speedup and reduced storage and gives no figure of either, so nothing of it can"
        " stand beside these."
    )


def _on_demand(spent: Mapping[str, Any], paid: int | None) -> str:
    """Against somebody who retrains for every question and throws the networks away."""
    retrainings = spent["offline"] / spent["one_retraining"]
    said = f"The offline work ({spent['offline']:.1f} seconds) costs as much as {retrainings:.0f} exact retrainings"
    when = f"has paid from question {max(paid, 1)} on" if paid is not None else "never pays"
    return f"{said}, and against retraining for every question anew it {when}."


def _against_bank(ddm: Way, bank: Way, paid: Mapping[str, int | None], smaller: bool) -> str:
    """The bank, once made, answers every later question too, and with the truth.

    Args:
        ddm, bank: the two ways.
        paid: after how many questions each has paid against the other; at least one of them does, as each is a line.
        smaller: whether synsets and target take fewer bytes than the bank.
    """
    said = (
        "A bank of the retrained networks that is kept also answers every later question, exactly, in"
        f" {bank.each:.3f} seconds after {bank.once:.1f} seconds once; DDM takes {ddm.each:.3f} after {ddm.once:.1f}."
    )
    if paid["ddm_bank"] == 0:
        return f"{said} DDM is ahead from the first question and stays so."
    if paid["ddm_bank"] is not None:
        return f"{said} The bank is ahead until DDM has paid, at question {paid['ddm_bank']}."
    if paid["bank_ddm"] == 0:
        storage = "pays only in storage" if smaller else "does not pay in storage either"
        return f"{said} The bank is ahead from the first question and stays so: here DDM {storage}."
    return f"{said} DDM is ahead until question {paid['bank_ddm']}, from which on the bank has taken less."


def _on_storage(workspace: Workspace, stored: Mapping[str, int]) -> str:
    images, synthetic = len(workspace.data.train), workspace.synset.images.shape[:2].numel()
    share = stored["synset"] / stored["data"]
    kept = "as bytes" if isinstance(workspace.data.train.images, StoredImages) else "as floats"
    said = (
        f"The synset has {synthetic:,} images for {images:,} ({synthetic / images:.1%}) and takes {share:.1%} of their"
        f" bytes, as its pixels and labels are floats and the training images are kept {kept}"
    )
    together = sum(stored[each] for each in KEPT)
    compared = "more" if together > stored["data"] else "less"
    return (
        f"{said}. Synsets and target together take {_megabytes(together)} MB, {compared} than the training images"
        f" ({_megabytes(stored['data'])} MB); matching also needs the trajectory ({_megabytes(stored['trajectory'])}"
        f" MB), and a kept bank takes {_megabytes(stored['bank'])} MB."
    )


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.3g}"


def _charts(stored: Mapping[str, int], ways: Mapping[str, Way]) -> Sequence[Block]:
    """Seconds after so many questions, and bytes; both over many powers of ten."""
    positions = [f"{each:,}" for each in QUESTIONS]
    series = {name: [math.log10(max(way.after(each), 1e-3)) for each in QUESTIONS] for name, way in ways.items()}
    bytes_ = {"megabytes": [number / 1e6 for number in stored.values()]}
    return (
        Chart("line", series, "questions", "seconds so far, powers of ten", positions, "From the trained target on"),
        Chart("bar", bytes_, "what is kept", "megabytes", [each.replace("_", " ") for each in stored]),
    )


def _storage_section(stored: Mapping[str, int]) -> Section:
    words = {
        "data": "training images",
        "synset": "synset, cluster-wise",
        "class_synset": "synset, class-wise",
        "target": "target",
        "trajectory": "trajectory, for matching alone",
        "bank": "bank of K retrained networks",
    }
    rows: list[list[str | int | float | None]] = [
        [words[name], number, number / stored["data"]] for name, number in stored.items()
    ]
    return Section("Storage", [Table(["", "bytes", "share of the training images"], rows)])


def _seconds_section(workspace: Workspace, spent: Mapping[str, Any]) -> Section:
    words = {
        "training": f"training of the target ({TARGET_COPIES} copies, with checkpoints), needed by both",
        "partition": "clustering, once",
        "matching": "matching of both synsets, once",
        "single_question": "DDM: a question on one query",
        "question": f"DDM: a question on {spent['num_queries']} queries",
        "one_retraining": "one exact retraining, side by side with others",
        "leave_one_out": f"all {workspace.partition.num_clusters} exact retrainings",
        "bank_question": f"kept bank: a question on {spent['num_queries']} queries",
    }
    told = (
        "Questions: the median of several. Stages and retrainings: what they took when they were made, on whatever else"
        " the machine then did."
    )
    if spent["retrainings"] < workspace.partition.num_clusters:
        told += f" All retrainings are reckoned from {spent['retrainings']} of them, and so is the bank's question."
    rows: list[list[str | int | float | None]] = [[words[name], spent[name]] for name in words]
    return Section("Seconds", [Text(told), Table(["", "seconds"], rows)])
