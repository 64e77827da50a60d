"""Many queries are answered as few are, by one pass over the networks, and no tensor holds all of their logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from run_fixtures import TINY, ddm, finished_tiny, numbers, tensors, tiny
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import ddm_framework
from ddm_framework import Workspace
from ddm_framework.answers import search, search_each
from ddm_framework.network import Budget
from ddm_framework.online import Queries, nearly_tied, sides
from ddm_framework.runs import streaming
from ddm_framework.runs import workspace as module

OBJECTIVES = {"output_shift": {}, "margin": {}, "performance": {"metric": "loss"}}


@pytest.fixture
def streamed(run: ddm_framework.Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The same run with so little memory that even its few queries are streamed, two networks at a time."""
    opened = ddm_framework.open_run(run.path).workspace
    opened.__dict__["objectives"] = tuple(opened.objective(name, **options) for name, options in OBJECTIVES.items())
    monkeypatch.setattr(module, "fits", lambda *_: False)
    values = 2 * streaming.SHARE * 12 * 3
    monkeypatch.setattr(Budget, "items", lambda self, each, most=64: 2 if each == values else 64)
    yield opened


def plain(workspace: Workspace) -> Workspace:
    return ddm_framework.open_run(workspace.folder.path).workspace


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_answer_is_that_of_all_logits_at_once(name: str, run: ddm_framework.Run, streamed: Workspace) -> None:
    queries, objective = streamed.queries_of("test"), streamed.objective(name, **OBJECTIVES[name])
    found = streamed.attribution(queries, objective, keep=[3, 1])
    with mock.patch.object(module, "fits", lambda *_: True):
        other = plain(streamed)
        wanted = other.attribution(queries, objective)
        matrix = other.prediction_matrix(queries, [3, 1])
    for part in ("matrix", "intercept", "target_behaviour"):
        assert torch.allclose(getattr(found, part), getattr(wanted, part), atol=1e-6)
    if wanted.support is None:
        assert found.support is None
    else:
        assert found.support is not None
        assert torch.allclose(found.support, wanted.support, atol=1e-6)
    assert torch.allclose(streamed.prediction_matrix(queries, [3, 1]), matrix, atol=1e-6)
    assert torch.allclose(streamed.prediction_matrix(queries, [3, 1, 5])[:2], matrix, atol=1e-6)  # one was not kept


def test_one_pass_answers_every_objective_of_the_recipe(streamed: Workspace) -> None:
    queries, passes = streamed.queries_of("test"), []
    whole = streamed.each_logits

    def counted(*arguments: Any, **options: Any) -> Iterator[Tensor]:
        passes.append(len(arguments))
        return whole(*arguments, **options)

    with mock.patch.object(streamed, "each_logits", counted):
        for _ in range(2):
            for objective in streamed.objectives:
                if not objective.declaration.set_level:
                    streamed.attribution(queries, objective, keep=[0, 1])
            streamed.prediction_matrix(queries, [1, 0])
        assert len(passes) == 1
        streamed.attribution(queries, streamed.objective("divergence"), keep=[0])
        assert len(passes) == 2
        streamed.attribution(streamed.queries_of("validation"), streamed.objective("performance"))
        streamed.prediction_matrix(queries, [0])  # what a study asks after a whole set
        streamed.attribution(queries, streamed.objective("divergence"))
        assert len(passes) == 3
        streamed.attribution(streamed.queries_of("validation", 3), streamed.objective("divergence"))
        streamed.attribution(streamed.queries_of("validation", 4), streamed.objective("divergence"))
        assert len(streamed._streamed) == 2


def test_labels_belong_to_the_question(streamed: Workspace) -> None:
    queries = streamed.queries_of("test")
    assert queries.labels is not None
    objective = streamed.objective("margin")
    first = streamed.attribution(queries, objective)
    other = Queries(queries.images, (queries.labels + 1) % 3, queries.ids)
    assert not torch.equal(streamed.attribution(other, objective).matrix, first.matrix)
    unlabelled = Queries(queries.images, None, queries.ids)
    assert streamed.attribution(unlabelled, streamed.objective("output_shift")).matrix.shape == first.matrix.shape


def test_the_search_by_class_is_the_same(streamed: Workspace) -> None:
    queries, objective = streamed.queries_of("test"), streamed.objective("output_shift")
    effect = streamed.attribution(queries, objective).effect
    found, one = search_each(streamed, queries, objective, effect), search(streamed, queries, objective)
    with mock.patch.object(module, "fits", lambda *_: True), mock.patch.object(Budget, "items", lambda *_: 64):
        wanted = search_each(plain(streamed), queries, objective, effect)
        other = search(plain(streamed), queries, objective)
    assert torch.equal(found.cluster, wanted.cluster)
    assert (one.label, one.cluster) == (other.label, other.cluster)


class Largest(TorchDispatchMode):
    """Number of values of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, list | tuple) else [found]:
            if isinstance(each, Tensor):
                self.values = max(self.values, each.numel())
        return found


def test_no_tensor_holds_the_logits_of_all_networks(run: ddm_framework.Run) -> None:
    opened = ddm_framework.open_run(run.path).workspace
    images = opened.data.test.images[:]
    count = 9000
    queries = Queries(torch.rand(count, *images.shape[1:]), None, tuple(map(str, range(count))))
    rows, clusters, classes = len(opened.perturbations), opened.partition.num_clusters, opened.info.num_classes
    objective = opened.objective("output_shift")
    opened.reference(queries)
    with mock.patch.object(Workspace, "budget", Budget(1)), Largest() as largest:
        assert not streaming.fits(opened, queries)
        opened.attribution(queries, objective)
    images_alone = queries.images.numel()
    assert largest.values <= max(rows * count, clusters * count, images_alone)
    assert rows * classes * count > images_alone / 2  # what all logits at once would be
    with mock.patch.object(module, "fits", lambda *_: True), Largest() as largest:
        plain(opened).attribution(queries, objective)
    assert largest.values >= rows * classes * count


def test_one_query_of_many_is_looked_at_alone(run: ddm_framework.Run) -> None:
    """A page lists every query; a copy of the whole matrix for each of them took most of the time of a large one."""
    few = run.attribute(run.workspace.data.test.images[:2])
    assert few.support is not None
    many = replace(few, matrix=few.matrix.repeat(500, 1, 1), support=few.support.repeat(500, 1))
    with Largest() as largest:
        found = sides(many, 7)
        assert found is not None
        nearly_tied(many, 7, [*found.made, *found.against])
    assert largest.values <= 2 * many.matrix.shape[1]
    assert found == sides(few, 1)


def test_a_run_of_many_queries_gives_what_one_with_more_memory_gives(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    whole = finished_tiny(tmp_path / "a")
    recipe = tiny(tmp_path / "b", TINY)
    with mock.patch.object(module, "fits", lambda *_: False):
        status, _, err = ddm("run", recipe, "--out", tmp_path / "b" / "run")
    assert status == 0, err
    ours, theirs = tensors(tmp_path / "b" / "run"), tensors(whole)
    for name, each in theirs.items():
        assert torch.allclose(ours[name], each, atol=1e-5), name
    assert numbers(tmp_path / "b" / "run")["attribution"] == numbers(whole)["attribution"]
