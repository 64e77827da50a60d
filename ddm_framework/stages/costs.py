"""What a run costs in seconds and bytes, from its sizes and from how long this machine takes for a few real steps.

Everything here is arithmetic, so how costs grow can be read off: a retraining with images and epochs, a replay with its
epochs, matching with clusters and steps, a question with networks and queries, and all of them with the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddm_framework.network import EVALUATION, SECOND_ORDER, TRAINING, Cost
from ddm_framework.network.networks import QUERY_BATCH, QUERY_VALUES
from ddm_framework.resources import in_words
from ddm_framework.stages.fitting import MEASURED

_BYTES = 4
WORKER_SECONDS = 4.0
"""Until the worker processes of a bank are up and have read the data."""
WORKER_BYTES = 450e6
"""Of a worker besides what it trains: Python, PyTorch and the data of a small run."""
REPORT_SECONDS = 1.0
LIBRARY_BYTES = 160e6
"""Of the libraries that a run loads on its way: scikit-learn, SciPy, Matplotlib."""
LOGITS_COPIES = 2
"""How often the logits of all estimated networks exist while they are measured."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the cost of a run follows from.

    Attributes:
        train, queries: numbers of images that are trained on, N, and that are asked about.
        values, classes: of an image.
        data_bytes: of the pixels of all splits, in memory.
        weights, activations: of the network, those for one image.
        batch_size, epochs, checkpoints: of the training; checkpoints count θ_0.
        momentum: whether checkpoints have a buffer beside them.
        clusters, images_per_cluster, steps: of matching; K clusters.
        pairs, real_epochs: that matching draws from; at each of the latter every training image has its gradient taken.
        networks: P, that are estimated for a question.
        replayed: epochs that each of these is trained for.
        certified, banked: networks that the certificate and the study retrain exactly.
        workers: processes that retrain side by side.
        trained_at_a_time, matched_at_a_time, asked_at_a_time: networks or clusters of one stack.
        kept_bytes: largest size of the networks that a question leaves on disk.
    """

    train: int
    queries: int
    values: int
    classes: int
    data_bytes: float
    weights: int
    activations: int
    batch_size: int
    epochs: int
    checkpoints: int
    momentum: bool
    clusters: int
    images_per_cluster: int
    steps: int
    pairs: int
    real_epochs: int
    networks: int
    replayed: int
    certified: int = 0
    banked: int = 0
    workers: int = 1
    trained_at_a_time: int = 1
    matched_at_a_time: int = 1
    asked_at_a_time: int = 1
    kept_bytes: float = 0.0

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.train / self.batch_size)


@dataclass(frozen=True, slots=True)
class Linear:
    """Seconds of some members: `fixed + each · members`."""

    fixed: float
    each: float

    def __call__(self, members: float) -> float:
        """Seconds of a stack of so many."""
        return self.fixed + self.each * members

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> Linear:
        """The line through two measurements (members, seconds); through zero if there is only one or it falls."""
        (low, first), (high, second) = few, many
        if high <= low or second <= first:
            return cls(0.0, second / high)
        each = (second - first) / (high - low)
        fixed = first - each * low
        return cls(fixed, each) if fixed >= 0 else cls(0.0, second / high)


@dataclass(frozen=True, slots=True)
class Speed:
    """What steps take on this machine, in seconds.

    Attributes:
        step: one step of training on a full batch, of a stack of networks.
        match: one step of matching, of a stack of clusters.
        forward: one image through one network of a stack.
        gradient: the gradient of one image in a block.
        cluster: to put images into clusters, besides their features; what is imported for it is fixed.
        load: to load the data.
        shared: how much longer a step takes where as many processes as cores take theirs.
    """

    step: Linear
    match: Linear
    forward: float
    gradient: float
    cluster: Linear
    load: float = 0.0
    shared: float = 1.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What to expect of a part of a run.

    Attributes:
        name: of the part.
        seconds: that it takes.
        memory: the most bytes that are in use at a time, by all of its processes.
        disk: bytes that it leaves.
    """

    name: str
    seconds: float
    memory: float
    disk: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What to expect of a run.

    Attributes:
        stages: in their order.
        untold: what is not counted, a sentence each.
    """

    stages: Sequence[Stage]
    untold: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(each.seconds for each in self.stages)

    @property
    def memory(self) -> float:
        """The most bytes that are in use at a time."""
        return max((each.memory for each in self.stages), default=0.0)

    @property
    def disk(self) -> float:
        """Bytes that the run and its bank leave."""
        return sum(each.disk for each in self.stages)

    def sentence(self) -> str:
        """Everything in one line."""
        parts = ", ".join(
            f"{each.name} {duration(each.seconds)}" for each in self.stages if each.seconds >= 0.05 * self.seconds
        )
        return (
            f"expected: {duration(self.seconds)} ({parts}), {in_words(self.memory)} of memory at most,"
            f" {in_words(self.disk)} on disk"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: seconds and bytes, of each stage and in all."""
        rows = {
            each.name: {"seconds": each.seconds, "memory_bytes": round(each.memory), "disk_bytes": round(each.disk)}
            for each in self.stages
        }
        total = {"seconds": self.seconds, "memory_bytes": round(self.memory), "disk_bytes": round(self.disk)}
        return {"stages": rows, "total": total, "not_counted": list(self.untold)}


def duration(seconds: float) -> str:
    """A time that is known roughly, as `2 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 99.5:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.0f} h" if hours < 47.5 else f"{hours / 24:.0f} days"


def network_bytes(sizes: Sizes) -> float:
    """Of one network, on disk and in memory."""
    return float(_BYTES * sizes.weights)


def training_seconds(sizes: Sizes, speed: Speed) -> float:
    """Of the target: epochs × steps, each of one network."""
    return sizes.epochs * sizes.batches * speed.step(1)


def retraining_seconds(sizes: Sizes, speed: Speed, count: int, epochs: int | None = None, workers: int = 0) -> float:
    """Of `count` exact retrainings, in stacks that as many processes share as there are.

    Args:
        epochs: that each is trained for; all by default.
        workers: processes; `sizes.workers` by default.
    """
    if not count:
        return 0.0
    epochs, workers = sizes.epochs if epochs is None else epochs, workers or sizes.workers
    stacks = math.ceil(count / sizes.trained_at_a_time)
    if workers > 1:
        stacks = min(count, workers * math.ceil(stacks / workers))
    sharing = min(workers, stacks)
    one = epochs * sizes.batches * speed.step(count / stacks)
    if sharing == 1:
        return stacks * one
    return WORKER_SECONDS + math.ceil(stacks / sharing) * one * speed.shared


def replay_seconds(sizes: Sizes, speed: Speed, count: int) -> float:
    """Of `count` networks that are trained for `sizes.replayed` epochs, in this process."""
    return retraining_seconds(sizes, speed, count, sizes.replayed, workers=1) if sizes.replayed else 0.0


def clustering_seconds(sizes: Sizes, speed: Speed) -> float:
    """Of features and clusters: a pass over the training images, and the clusterer's own work on them."""
    return sizes.train * speed.forward + speed.cluster(sizes.train)


def matching_seconds(sizes: Sizes, speed: Speed, clusters: int, *, real: bool = True) -> float:
    """Of matching so many clusters: gradients of all training images, steps, and the cosine at the end.

    Args:
        real: whether the real gradients are still to be computed.
    """
    chunks = math.ceil(clusters / sizes.matched_at_a_time)
    steps = chunks * sizes.steps * speed.match(clusters / chunks)
    images = (sizes.real_epochs * sizes.train if real else 0) + sizes.pairs * clusters * sizes.images_per_cluster
    return steps + images * speed.gradient


def question_seconds(sizes: Sizes, speed: Speed, networks: int | None = None) -> float:
    """Of a question: each estimated network is replayed, if asked for, and sees every query once."""
    count = sizes.networks if networks is None else networks
    steps = math.ceil(count / sizes.asked_at_a_time) * sizes.clusters * sizes.images_per_cluster * speed.gradient
    return steps + replay_seconds(sizes, speed, count) + count * sizes.queries * speed.forward


def bank_seconds(sizes: Sizes, speed: Speed, count: int) -> float:
    """Of `count` exact retrainings and of what they say of the queries."""
    return retraining_seconds(sizes, speed, count) + count * sizes.queries * speed.forward


def _stack_bytes(sizes: Sizes, cost: Cost, members: int, images: int, kept: int = 0) -> float:
    weights = (cost.weights + kept) * sizes.weights
    return MEASURED * _BYTES * members * (weights + cost.activations * images * sizes.activations)


def training_bytes(sizes: Sizes, networks: int) -> float:
    """Memory of a stack of networks in training: itself, gradient, buffers and the activations of a batch."""
    return _stack_bytes(sizes, TRAINING, networks, min(sizes.batch_size, sizes.train))


def matching_bytes(sizes: Sizes, clusters: int) -> float:
    """Memory of matching so many clusters: their real gradients by epoch, and the graph of one step of a stack."""
    at_a_time = min(clusters, sizes.matched_at_a_time)
    graph = _stack_bytes(sizes, SECOND_ORDER, at_a_time, sizes.images_per_cluster)
    return graph + at_a_time * sizes.real_epochs * network_bytes(sizes) + trajectory_bytes(sizes)


def question_bytes(sizes: Sizes) -> float:
    """Memory of a question: a stack of networks, and what all of them say of the queries."""
    at_a_time = min(sizes.networks, sizes.asked_at_a_time)
    images = max(1, min(QUERY_BATCH, QUERY_VALUES // max(sizes.activations, 1)))
    stack = _stack_bytes(sizes, EVALUATION, at_a_time, images)
    trained = training_bytes(sizes, min(sizes.networks, sizes.trained_at_a_time)) if sizes.replayed else 0.0
    return max(stack, trained) + LOGITS_COPIES * _BYTES * sizes.networks * sizes.queries * sizes.classes


def bank_memory(sizes: Sizes, count: int) -> float:
    """Memory of retraining `count` networks, of all worker processes together."""
    each = training_bytes(sizes, min(count, sizes.trained_at_a_time))
    return each if sizes.workers == 1 else sizes.workers * (WORKER_BYTES + sizes.data_bytes + each)


def trajectory_bytes(sizes: Sizes) -> float:
    """Of the checkpoints, without buffers of momentum."""
    return sizes.checkpoints * network_bytes(sizes)


def synset_bytes(sizes: Sizes) -> float:
    """Of both synsets on disk."""
    each = sizes.images_per_cluster * (sizes.values + sizes.classes) + 2
    return float(_BYTES * (sizes.clusters + sizes.classes) * each)


def costs_of(sizes: Sizes, speed: Speed, held: float, untold: Sequence[str] = ()) -> Costs:
    """What to expect of a whole run.

    Args:
        sizes: of the run.
        speed: of this machine.
        held: bytes that the process holds with the data loaded.
        untold: what is not counted.
    """
    saved = trajectory_bytes(sizes) * (2 if sizes.momentum else 1)
    one_chunk = sizes.clusters <= sizes.matched_at_a_time
    matching = matching_seconds(sizes, speed, sizes.clusters)
    matching += matching_seconds(sizes, speed, sizes.classes, real=not one_chunk)
    # The certificate asks all networks about queries before the study does, and each network about sets beside.
    certificate = bank_seconds(sizes, speed, sizes.certified)
    later = held + LIBRARY_BYTES
    kept = min(sizes.kept_bytes, sizes.networks * network_bytes(sizes)) if sizes.replayed else 0.0
    stages = [
        Stage("load", speed.load, held, 0.0),
        Stage("train", training_seconds(sizes, speed), held + training_bytes(sizes, 1), saved),
        Stage("cluster", clustering_seconds(sizes, speed), later, 8.0 * sizes.train),
        Stage("match", matching, later + matching_bytes(sizes, sizes.clusters), synset_bytes(sizes)),
        Stage(
            "perturb and replay" if sizes.replayed else "perturb",
            question_seconds(sizes, speed),
            later + question_bytes(sizes),
            kept,
        ),
    ]
    if sizes.certified:
        bank = sizes.certified * network_bytes(sizes)
        stages.append(Stage("certificate", certificate, later + bank_memory(sizes, sizes.certified), bank))
    banked = bank_seconds(sizes, speed, sizes.banked)
    memory = later + (bank_memory(sizes, sizes.banked) if sizes.banked else 0.0)
    disk = sizes.banked * network_bytes(sizes) + _BYTES * 2.0 * sizes.queries * sizes.clusters
    name = "study with its bank" if sizes.banked else "study"
    stages.append(Stage(name, banked + REPORT_SECONDS, memory, disk))
    return Costs(stages, untold)
