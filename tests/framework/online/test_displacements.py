"""Directions from real data are those of plain loops, and foretell where a convex model goes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.curvature import DampedInverse
from ddm_framework.network.memory import Budget
from ddm_framework.network.networks import build_network
from ddm_framework.network.stacks import Parameters, flat, take
from ddm_framework.network.target import Target
from ddm_framework.offline.partition import Divided, Partition
from ddm_framework.offline.synset import Synset
from ddm_framework.online.displacements import Displacements
from ddm_framework.online.finetuning import finetune
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import Online

if TYPE_CHECKING:
    from conftest import Toy

RATES = {0: 0.3, 1: 0.2}
DAMPING = 0.05


def recipe(**online: Any) -> Recipe:
    path = Path(__file__).parents[3] / "recipes" / "digits_convnet.yaml"
    settings = Online(**{"replay": 0, "damping": DAMPING, **online})
    return dataclasses.replace(load_recipe(path, load_plugins()), online=settings)


def displacements(toy: Toy, epoch: int = 2, **online: Any) -> Displacements:
    target, divided = Target(toy.network, toy.trajectory), Divided(toy.data, toy.partition)
    return Displacements(target, epoch, RATES, divided, recipe(**online))


def along_the_trajectory(toy: Toy, cluster: int) -> Tensor:
    """Σ w_s ∇L(θ_s, D_κ), by ordinary autograd."""
    parts = [rate * vector(toy.real_gradient(cluster, epoch)) for epoch, rate in RATES.items()]
    return torch.stack(parts).sum(0)


def vector(parameters: Parameters) -> Tensor:
    return torch.cat([each.flatten() for each in parameters.values()])


def gauss_newton(toy: Toy, parameters: Parameters) -> Tensor:
    """Mean over the images of Jᵀ (diag p − p pᵀ) J, written out."""
    module = toy.module(parameters)

    def logits(weights: Parameters, image: Tensor) -> Tensor:
        return functional_call(module, weights, image[None])[0]

    total = torch.zeros((), dtype=torch.float64)
    for image in toy.data.images:
        found = jacrev(logits)(parameters, image)
        jacobian = torch.cat([each.flatten(1) for each in found.values()], 1)
        p = logits(parameters, image).softmax(0)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian / len(toy.data)
    return total.detach()


def test_gradients_are_summed_along_the_trajectory_by_its_rates(toy: Toy) -> None:
    found = flat(displacements(toy, direction="gradient").block(1, 4))
    wanted = torch.stack([along_the_trajectory(toy, cluster) for cluster in (1, 2, 3)])
    torch.testing.assert_close(found, wanted)


def test_influence_inverts_the_curvature_where_the_step_is_taken(toy: Toy) -> None:
    found = flat(displacements(toy, direction="influence").block(0, 6))
    curvature = gauss_newton(toy, toy.trajectory[2])
    damped = curvature + DAMPING * torch.eye(len(curvature), dtype=torch.float64)
    wanted = torch.stack([torch.linalg.solve(damped, along_the_trajectory(toy, cluster)) for cluster in range(6)])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_the_damped_inverse_is_that_of_the_whole_matrix(damping: float) -> None:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(7, 20, generator=random, dtype=torch.float64)
    vectors = torch.randn(3, 20, generator=random, dtype=torch.float64)
    matrix = rows.T @ rows + damping * torch.eye(20, dtype=torch.float64)
    torch.testing.assert_close(DampedInverse(rows, damping)(vectors), torch.linalg.solve(matrix, vectors.T).T)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("direction", ["gradient", "influence"])
def test_each_deleted_cluster_moves_the_network_uphill_by_its_length(toy: Toy, direction: Any, steps: int) -> None:
    rows = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1], [0.25, 1, 1, 0, 1, 1]], dtype=torch.float64)
    uphill, asked = displacements(toy, direction=direction), Online(step_size=0.1, steps=steps)
    target, synset = Target(toy.network, toy.trajectory), unmatched()
    stack = finetune(target, synset, rows, asked, "reverse", Budget(64), displacements=uphill)
    units = torch.nn.functional.normalize(flat(uphill.block(0, 6)), dim=1)
    length = 0.1 * vector(toy.target).norm()
    for row, moved in zip(rows, flat(stack), strict=True):
        wanted = vector(toy.target) + length * ((1 - row) @ units)
        torch.testing.assert_close(moved, wanted)
    assert all(torch.equal(each, toy.target[name]) for name, each in take(stack, 0).items())


def unmatched() -> Synset:
    """A synset that nobody may look at: it is all NaN but for its lengths."""
    nan = torch.full((6, 1, 1, 4, 4), torch.nan, dtype=torch.float64)
    ones = torch.ones(6, dtype=torch.float64)
    return Synset(nan, nan[:, :, 0, 0, :3], ones, ones)


def test_influence_foretells_where_a_convex_model_goes() -> None:
    """A regression at its optimum, and at the optimum without each cluster: the planted answer."""
    random = torch.Generator().manual_seed(0)
    clusters, classes = torch.arange(90) % 6, torch.arange(3).repeat_interleave(2)
    centres = torch.randn(6, 1, 2, 2, generator=random, dtype=torch.float64)
    images = centres[clusters] + 0.7 * torch.randn(90, 1, 2, 2, generator=random, dtype=torch.float64)
    data, partition = ImageSet(images, classes[clusters]), Partition(clusters, classes)
    info = DataInfo((1, 2, 2), 3, (0.0,), (1.0,), ("a", "b", "c"))
    network, _ = build_network(lambda _: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), info, 0, torch.device("cpu"))
    network.module.double()
    decay = 0.02

    def objective(weights: Tensor, kept: Tensor) -> Tensor:
        logits = images.flatten(1) @ weights[:12].view(3, 4).T + weights[12:]
        losses = nn.functional.cross_entropy(logits, data.labels, reduction="none")
        return (losses * kept).sum() / 90 + decay / 2 * weights.square().sum()

    def optimum(kept: Tensor) -> Tensor:
        weights = torch.zeros(15, dtype=torch.float64)
        for _ in range(30):
            slope = torch.func.grad(objective)(weights, kept)
            weights = weights - torch.linalg.solve(hessian(objective)(weights, kept), slope)
        return weights

    best = optimum(torch.ones(90, dtype=torch.float64))
    trajectory = {1: {"1.weight": best[:12].view(3, 4), "1.bias": best[12:]}}
    asked = recipe(direction="influence", damping=decay)
    found = Displacements(Target(network, trajectory), 1, {1: 1.0}, Divided(data, partition), asked)
    foretold = flat(found.block(0, 6))
    true = torch.stack([optimum((clusters != each).double()) - best for each in range(6)])
    cosine = torch.nn.functional.cosine_similarity(foretold, true)
    assert float(cosine.min()) > 0.95
    plain = flat(
        Displacements(
            Target(network, trajectory), 1, {1: 1.0}, Divided(data, partition), recipe(direction="gradient")
        ).block(0, 6)
    )
    assert float(cosine.mean()) > float(torch.nn.functional.cosine_similarity(plain, true).mean())
