"""What several studies ask of a run: its test images and classes, what a network predicts, and the time of a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ddm_framework import DDMError, ImageSet, Objective, Queries, Workspace
from ddm_framework.network import Parameters
from ddm_framework.offline import Partition
from ddm_framework.online import leave_one_out
from ddm_framework.truth import Bank, bank_logits, retrained

Item = TypeVar("Item")


def first_test_images(workspace: Workspace, count: Literal["all"] | int) -> Queries:
    """All test images, or the first ones."""
    return workspace.queries_of("test", None if count == "all" else count)


def need_validation(workspace: Workspace, without: str, instead: str = "") -> None:
    """Refuse a run without a validation split.

    Args:
        without: what cannot be done then, such as `clusters have no value`.
        instead: another way out than to set dataset.validation.
    Raises:
        DDMError: if the split is empty.
    """
    if len(workspace.data.validation) == 0:
        raise DDMError(f"the validation split is empty, so {without}; set dataset.validation{instead}")


def known_class(workspace: Workspace, label: int | None, papers: int) -> int:
    """A class of the data; by default the paper's, or the last one if there are fewer.

    Raises:
        DDMError: if there is no such class.
    """
    last = workspace.info.num_classes - 1
    if label is not None and label > last:
        raise DDMError(f"there is no class {label}: the data have {last + 1} classes, from 0 to {last}")
    return min(papers, last) if label is None else label


def images_of_classes(workspace: Workspace, labels: Iterable[int], most: int | None = None) -> list[Tensor]:
    """Positions of the first test images of each class, int64 (n,), on the CPU.

    Raises:
        DDMError: if a class has none.
    """
    names, of_test, wanted = workspace.info.class_names, workspace.data.test.labels.cpu(), list(labels)
    found = [(of_test == label).nonzero()[:most, 0] for label in wanted]
    without = [repr(names[label]) for label, each in zip(wanted, found, strict=True) if not len(each)]
    if without:
        raise DDMError(f"there is no test image of class {', '.join(without[:5])}; set dataset.test_size larger")
    return found


def cluster_name(workspace: Workspace, cluster: int) -> str:
    """`cat · cluster 30`."""
    return f"{workspace.info.class_names[int(workspace.partition.classes[cluster])]} · cluster {cluster}"


def predictions(workspace: Workspace, parameters: Parameters, images: ImageSet) -> Tensor:
    """The class that one network predicts for each image, int64 (N,)."""
    return workspace.network.logits_of(parameters, images.images).argmax(1)


def behaviours(workspace: Workspace, objective: Objective, logits: Iterable[Tensor], queries: Queries) -> Tensor:
    """Behaviours (P, N) of P networks by an objective with one behaviour, float64, on the CPU.

    Args:
        objective: by which the networks are measured.
        logits: (N, classes) of each network on the queries.
        queries: N of them.
    """
    reference = workspace.reference(queries)
    return torch.stack([objective.measure(each, reference)[:, 0] for each in logits]).double().cpu()


def without_each(workspace: Workspace, partition: Partition, chosen: Sequence[int] | slice = slice(None)) -> Bank:
    """The networks retrained exactly without each cluster of a partition, or without each of the chosen ones."""
    return retrained(workspace, leave_one_out(partition.num_clusters)[1:][chosen], partition=partition)


def shifts(workspace: Workspace, bank: Bank, queries: Queries) -> Tensor:
    """`output_shift` (Dist_1) of each of K networks of a bank, float64 (N, K), on the CPU."""
    return behaviours(workspace, workspace.objective("output_shift"), bank_logits(workspace, bank, queries), queries).T


def tracked(workspace: Workspace, what: str, items: Iterable[Item], count: int) -> Iterator[Item]:
    """Each of a number of items in turn, while a progress bar counts those that are done."""
    with workspace.display.bar(what, count) as advance:
        for each in items:
            yield each
            advance()


def seconds_of(task: Callable[[], object]) -> float:
    """Seconds that a task takes."""
    begun = time.monotonic()
    task()
    return time.monotonic() - begun
