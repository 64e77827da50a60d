"""The controls: a step along the real gradient by a plain loop, and the anchor of a step that vanishes."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from ddm_attributors import controls
from torch import Tensor
from torch.nn import functional as F

from ddm_framework import DDMError
from ddm_framework.network.stacks import Parameters
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.settings import Online
from ddm_framework.runs.workspace import Workspace
from ddm_framework.testing.small_run import SEVERAL, SINGLE, WHOLE_SET, small_workspace


@cache
def workspace() -> Workspace:
    return small_workspace(load_plugins())


def flat(parameters: Parameters) -> Tensor:
    return torch.cat([each.flatten() for each in parameters.values()])


def rise(parameters: Parameters, cluster: int) -> Parameters:
    """Gradient of the mean loss of one cluster, by autograd."""
    run = workspace()
    members = run.partition.members(cluster)
    leaves = {name: each.detach().clone().requires_grad_() for name, each in parameters.items()}
    logits = torch.func.functional_call(run.network.module, leaves, run.data.train.images[members])
    slopes = torch.autograd.grad(F.cross_entropy(logits, run.data.train.labels[members]), list(leaves.values()))
    return dict(zip(leaves, slopes, strict=True))


@pytest.mark.parametrize("at", ["target", "trajectory"])
def test_each_network_takes_a_unit_step_up_the_loss_of_its_cluster(at: str) -> None:
    run = workspace()
    queries, target = run.queries_of("test", 5), run.target
    found = controls.gradient(run, queries, SEVERAL, at=at, step_size=0.05)
    assert found.shape == (5, run.partition.num_clusters, 3)
    own = run.target_logits(queries.images).softmax(1)
    for cluster in range(run.partition.num_clusters):
        networks = [target] if at == "target" else list(run.trajectory.values())
        slopes = [rise(each, cluster) for each in networks]
        total = {name: sum(each[name] for each in slopes) for name in target}
        length = 0.05 * flat(target).norm() / flat(total).norm()
        moved = {name: each + length * total[name] for name, each in target.items()}
        wanted = torch.func.functional_call(run.network.module, moved, queries.images).softmax(1) - own
        torch.testing.assert_close(found[:, cluster].float(), wanted, rtol=1e-3, atol=1e-6)


def test_the_step_is_the_recipes_unless_told() -> None:
    run = workspace()
    queries = run.queries_of("test", 5)
    by_default = controls.gradient(run, queries, SINGLE)
    torch.testing.assert_close(by_default, controls.gradient(run, queries, SINGLE, step_size=5e-4))
    assert controls.gradient(run, queries, WHOLE_SET).shape == (1, run.partition.num_clusters, 1)


def test_a_step_of_nothing_is_refused() -> None:
    run = workspace().with_online(start="target", anchor=1, step_size=0.0)
    with pytest.raises(DDMError, match=r"the recipe's online\.step_size is 0"):
        controls.gradient(run, run.queries_of("test", 5), SINGLE)
    assert controls.gradient(run, run.queries_of("test", 5), SINGLE, step_size=0.1).any()


def test_retained_is_the_limit_of_anchored_for_a_step_that_vanishes() -> None:
    run = workspace()
    queries = run.queries_of("test", 5)
    found = controls.retained(run, queries, SINGLE, passes=2)
    tiny = run.with_online(start="target", anchor=2, step_size=1e-9).attribution(queries, SINGLE).effect
    torch.testing.assert_close(found, tiny, rtol=1e-2, atol=1e-4)
    assert found.any()


def test_no_step_and_no_anchor_is_refused() -> None:
    with pytest.raises(ValueError, match="every network is the target; raise step_size"):
        Online(step_size=0)
    assert Online(step_size=0, anchor=1).anchor == 1
