"""The distilled datamodel's effects are the differences that its own fine-tuned networks show."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ddm_attributors.ddm import attribute
from ddm_backbones import convnet
from ddm_objectives.distances import correctness, output_shift
from ddm_objectives.performance import performance
from ddm_objectives.predictions import predictions
from torch import Tensor
from torch.func import functional_call

from ddm_framework.data.splits import DataInfo
from ddm_framework.network.networks import build_network
from ddm_framework.network.stacks import Parameters
from ddm_framework.network.target import Target
from ddm_framework.offline.partition import Partition
from ddm_framework.offline.synset import Synset
from ddm_framework.online.perturbations import beta_weights
from ddm_framework.online.questions import Objective, Queries, Reference, declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.registry import Registry
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import Clustering, General, Matching, Online, Training
from ddm_framework.runs.run_folder import RunFolder
from ddm_framework.runs.workspace import Workspace

INFO = DataInfo((1, 4, 4), 3, (0.5,), (0.25,), ("a", "b", "c"))
NUM_CLUSTERS = 6


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(**online: Any) -> Workspace:
    """A run in float64 whose artifacts are random: a target, and a synset of six clusters."""
    unused = Choice("none", "none", {}, lambda: None)
    recipe = Recipe(
        "planted",
        General(),
        dataset=unused,
        backbone=unused,
        clusterer=unused,
        clustering=Clustering(),
        distance=unused,
        training=Training(),
        matching=Matching(),
        online=Online(step_size=0.05, **online),
        objectives=(),
        study=unused,
    )
    build = partial(convnet.build, width=4, depth=1, norm="group", groups=2)
    network, initial = build_network(build, INFO, 0, torch.device("cpu"))
    network.module.double()
    target = {name: each.double() + 0.3 * random(*each.shape, seed=1) for name, each in initial.items()}
    ones = torch.ones(NUM_CLUSTERS, dtype=torch.float64)
    synset = Synset(random(6, 2, 1, 4, 4, seed=2), random(6, 2, 3, seed=3).softmax(2), ones, ones)
    workspace = Workspace(recipe, RunFolder(Path("planted")), Registry((), []), torch.device("cpu"))
    classes = torch.arange(3).repeat_interleave(2)
    vars(workspace).update(info=INFO, _built=(network, initial), trained=Target(network, {0: target}), synset=synset)
    vars(workspace).update(partition=Partition(torch.arange(NUM_CLUSTERS), classes))
    return workspace


QUERIES = Queries(random(4, 1, 4, 4, seed=4), torch.tensor([0, 1, 2, 1]), ("a", "b", "c", "d"))


def objective(measure: Any, **options: Any) -> Objective:
    return declared(Choice("objective", measure.__name__, options, measure))


def logits_without(workspace: Workspace, deleted: list[int]) -> Tensor:
    """Logits of the queries by the network that one plain step on each deleted cluster's synset leads to (Eq. 9)."""
    target = {name: each.clone().requires_grad_() for name, each in workspace.target.items()}
    size = torch.cat([each.flatten() for each in workspace.target.values()]).norm()
    moved: Parameters = {name: each.detach().clone() for name, each in target.items()}
    for cluster in deleted:
        logits = functional_call(workspace.network.module, target, (workspace.synset.images[cluster],))
        loss = F.cross_entropy(logits, workspace.synset.labels[cluster])
        slopes = torch.autograd.grad(loss, target.values())
        length = torch.cat([each.flatten() for each in slopes]).norm()
        for name, slope in zip(target, slopes, strict=True):
            moved[name] -= 0.05 * size / length * slope
    return functional_call(workspace.network.module, moved, (QUERIES.images,))


@pytest.mark.parametrize("beta", ["uniform", "inverse"])
@pytest.mark.parametrize("measure", [output_shift, correctness, predictions])
def test_leave_one_out_effects_are_direct_differences(measure: Any, beta: str) -> None:
    workspace, asked = planted(beta=beta), objective(measure)
    reference = Reference(QUERIES.images, QUERIES.labels, logits_without(workspace, []), INFO)
    before = measure(reference.target_logits, reference)
    wanted = [measure(logits_without(workspace, [k]), reference) - before for k in range(NUM_CLUSTERS)]
    found = attribute(workspace, QUERIES, asked)
    torch.testing.assert_close(found, torch.stack(wanted, 1), rtol=0, atol=1e-10)


def test_random_design_is_a_weighted_least_squares_of_its_own_networks() -> None:
    workspace = planted(perturbations="random", num_perturbations=20, beta="inverse")
    reference = Reference(QUERIES.images, QUERIES.labels, logits_without(workspace, []), INFO)
    rows = workspace.perturbations
    behaviours = [
        predictions(logits_without(workspace, (row == 0).nonzero()[:, 0].tolist()), reference).flatten() for row in rows
    ]
    roots = beta_weights(rows, "inverse").sqrt()[:, None]
    design = torch.cat([rows.double(), torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    matrix = torch.linalg.lstsq(roots * design, roots * torch.stack(behaviours)).solution[:-1]
    wanted = -matrix.unflatten(1, (4, 3)).transpose(0, 1)
    found = attribute(workspace, QUERIES, objective(predictions))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_set_level_objective_has_one_row() -> None:
    workspace, asked = planted(), objective(performance, metric="loss", classes=None, positive=None)
    found = attribute(workspace, QUERIES, asked)
    single = attribute(workspace, QUERIES, objective(correctness)).mean(0, keepdim=True)
    assert found.shape == (1, NUM_CLUSTERS, 1)
    torch.testing.assert_close(found, single, rtol=0, atol=1e-10)


def test_queries_may_be_asked_one_by_one() -> None:
    workspace, asked = planted(), objective(output_shift)
    together = attribute(workspace, QUERIES, asked)
    alone = [attribute(workspace, QUERIES.take(torch.tensor([i])), asked) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-12)
