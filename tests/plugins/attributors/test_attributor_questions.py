"""Linear methods are asked what the objective asks, also where the network is wrong more often than right."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from ddm_attributors import arnoldi, ekfac, fastif, koh, tracin, trak
from ddm_objectives.distances import output_shift, stability
from ddm_objectives.divergence import divergence
from ddm_objectives.margin import margin
from ddm_objectives.performance import performance
from known_runs import NUM_CLUSTERS, NUM_TRAIN, correlation, flat_of, logits, regression
from torch import Tensor

from ddm_framework import PluginError, attributor
from ddm_framework.online.questions import EVERY_LOGIT, Objective, Queries, declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.runs.workspace import Workspace
from ddm_framework.truth.agreement import judge, recovered_share

BY_LOGITS = {
    "koh": (koh.attribute, {"damping": 1e-3, "solver": "cg", "rows": 4096, "iterations": 50}),
    "fastif": (fastif.attribute, {"damping": 1e-3, "neighbours": NUM_TRAIN, "rows": 4096, "depth": 500}),
    "arnoldi": (arnoldi.attribute, {"damping": 1e-3, "projection_dim": 15, "arnoldi_dim": 15}),
    "tracin": (tracin.attribute, {}),
}
BY_SURROGATE = {"trak": (trak.attribute, {}), "ekfac": (ekfac.attribute, {})}
DEFAULTS: dict[str, Any] = {"depth": 200, "batch_size": 32, "repeats": 1}


def objective(measure: Any, **options: Any) -> Objective:
    return declared(Choice("objective", measure.__name__, options, measure))


@cache
def asked() -> tuple[Workspace, Queries]:
    """The regression with labels of which the network reads 40 %, and the registry for the surrogates."""
    known = regression()
    random = torch.Generator().manual_seed(3)
    images = known.queries.images.repeat(5, 1, 1, 1)
    images = images + 0.4 * torch.randn(images.shape, generator=random, dtype=images.dtype)
    predicted = logits(flat_of(known.workspace.target), images).argmax(1)
    wrong = torch.rand(len(images), generator=random).argsort() >= 0.4 * len(images)
    labels = torch.where(wrong, (predicted + 1) % 3, predicted)
    workspace = replace(known.workspace, registry=load_plugins())
    vars(workspace).update({key: each for key, each in vars(known.workspace).items() if key not in vars(workspace)})
    vars(workspace).update(info=known.workspace.info, trained=known.workspace.trained)
    assert (labels == predicted).double().mean() == pytest.approx(0.4)
    return workspace, Queries(images, labels, tuple(map(str, range(len(images)))))


@cache
def true_logits() -> Tensor:
    """Logits (K, N, classes) of the networks retrained without each cluster, to convergence."""
    known = regression()
    _, queries = asked()
    clusters = known.workspace.partition.clusters
    return torch.stack([logits(known.optimum((clusters != k).double()), queries.images) for k in range(NUM_CLUSTERS)])


def share(ranking: Tensor) -> float:
    """Of the way from a random cluster to the best one, by the true Dist_1."""
    workspace, queries = asked()
    reference = workspace.reference(queries)
    truth = torch.stack([output_shift(each, reference)[:, 0] for each in true_logits()], 1)
    return recovered_share(judge(truth, ranking[:, 0]))


def chosen(name: str, options: dict[str, Any] | None = None) -> Choice:
    pytest.importorskip("dattri", reason="the extra `compare` is not installed")
    pytest.importorskip("captum", reason="the extra `compare` is not installed")
    attribute, own = {**BY_LOGITS, **BY_SURROGATE}[name]
    return Choice("attributor", name, {**own, **(options or {})}, attribute)


def test_the_label_is_the_wrong_surrogate_where_most_queries_are_misread() -> None:
    workspace, queries = asked()
    by_label = workspace.effects_by(queries, objective(margin, of="label"), chosen("koh"))
    assert share(by_label.ranking) < 0.6
    by_prediction = workspace.effects_by(queries, objective(output_shift), chosen("koh"), by_surrogate=True)
    assert by_prediction.objective.choice.options == {"of": "prediction"}
    assert share(by_prediction.ranking) > 0.75
    itself = workspace.effects_by(queries, objective(output_shift), chosen("koh"))
    assert share(itself.ranking) > 0.85


@pytest.mark.parametrize("measure", [output_shift, divergence, stability])
def test_label_free_objectives_do_not_depend_on_the_labels(measure: Any) -> None:
    workspace, queries = asked()
    without = Queries(queries.images, None, queries.ids)
    for by_surrogate in (True, False):
        found, wanted = (
            workspace.effects_by(each, objective(measure), chosen("koh"), by_surrogate) for each in (queries, without)
        )
        torch.testing.assert_close(found.effect, wanted.effect)
        assert torch.equal(found.ranking, wanted.ranking)


@pytest.mark.parametrize("name", list(BY_LOGITS))
def test_the_objective_itself_is_measured_on_estimated_logits(name: str) -> None:
    workspace, queries = asked()
    changes = workspace.effects_by(queries, EVERY_LOGIT, chosen(name)).effect
    reference = workspace.reference(queries)
    wanted = torch.stack([output_shift(reference.target_logits + changes[:, k], reference) for k in range(6)], 1)
    estimate = workspace.effects_by(queries, objective(output_shift), chosen(name))
    assert estimate.objective.name == "output_shift"
    torch.testing.assert_close(estimate.effect, wanted)


def test_influence_functions_find_the_change_of_every_logit() -> None:
    workspace, queries = asked()
    found = workspace.effects_by(queries, EVERY_LOGIT, chosen("koh")).effect
    truth = (true_logits() - workspace.target_logits(queries.images)).transpose(0, 1)
    assert found.shape == (40, NUM_CLUSTERS, 3)
    assert correlation(found, truth) > 0.97


@pytest.mark.parametrize("name", ["koh", "arnoldi", "ekfac"])
def test_effects_on_logits_add_up_to_those_on_any_objective_with_a_gradient(name: str) -> None:
    if name == "ekfac":
        pytest.importorskip("kronfluence", reason="the extra `compare` is not installed")
    workspace, queries = asked()
    reference = workspace.reference(queries)
    slope = torch.func.jacrev(lambda at: margin(at, reference)[:, 0].sum())(reference.target_logits)
    changes = chosen(name)(workspace, queries, EVERY_LOGIT)
    found = chosen(name)(workspace, queries, objective(margin))[:, :, 0]
    torch.testing.assert_close(found, (changes * slope[:, None]).sum(2), rtol=1e-5, atol=1e-8)


def test_a_method_up_to_a_factor_is_given_the_margin_of_the_prediction() -> None:
    workspace, queries = asked()
    estimate = workspace.effects_by(queries, objective(output_shift), chosen("trak", {"projection_dim": 64}))
    assert (estimate.objective.name, estimate.objective.choice.options) == ("margin", {"of": "prediction"})


def test_a_method_that_declares_logits_and_estimates_one_is_named() -> None:
    workspace, queries = asked()

    @attributor(linear=True, logits=True)
    def single(workspace: Workspace, queries: Queries, _: Objective, /) -> Tensor:
        return torch.zeros(len(queries), workspace.partition.num_clusters, 1)

    with pytest.raises(PluginError, match="'single' declares `logits=True`, but returned effects on 1 of 3 logits"):
        workspace.effects_by(queries, objective(output_shift), Choice("attributor", "single", {}, single))


def test_a_set_without_a_gradient_is_answered_through_the_logits() -> None:
    workspace, queries = asked()
    accuracy = objective(performance, metric="accuracy", classes=None, positive=None)
    assert not accuracy.has_gradient(workspace.reference(queries))
    found = workspace.effects_by(queries, accuracy, chosen("koh")).effect
    reference = workspace.reference(queries)
    own = performance(reference.target_logits, reference, metric="accuracy")
    true = torch.stack([performance(each, reference, metric="accuracy") - own for each in true_logits()], 1)
    assert found.shape == (1, NUM_CLUSTERS, 1)
    assert (found - true).abs().max() <= 0.1


def test_gradients_are_told_from_none() -> None:
    workspace, queries = asked()
    reference = workspace.reference(queries)
    assert objective(margin).has_gradient(reference)
    assert objective(performance, metric="loss", classes=None, positive=None).has_gradient(reference)
    assert EVERY_LOGIT.has_gradient(reference)
    assert not objective(output_shift).has_gradient(reference)
