"""Walks are plain gradient descent, accumulated errors agree with a plain loop, and sentences follow the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ddm_studies.trajectory import study as trajectory
from ddm_studies.trajectory import walks
from ddm_studies.trajectory.accumulated import Errors, error_figures, gradient_errors
from ddm_studies.trajectory.words import back, below, findings, other_classes
from study_runs import says_what_is_stored, stripes_run
from torch import Tensor

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.api import Run
from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.memory import Budget
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters
from ddm_framework.network.target import Target
from ddm_framework.offline.partition import Divided, Partition
from ddm_framework.offline.synset import Synset
from ddm_framework.recipe.settings import Matching
from ddm_framework.report.blocks import Chart

STUDY = "{use: trajectory, steps: 6, rates: [0.05, 0.5], points: 4, resamples: 50, column: mnist}"
PAIRS = [(0, 2), (1, 1), (2, 0)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:

    return stripes_run(tmp_path_factory.mktemp("trajectory"), STUDY)


def linear() -> tuple[Network, dict[int, Parameters], ImageSet, Partition, Synset]:
    """A linear classifier of four pixels in float64, three checkpoints, four clusters in two classes."""
    random = torch.Generator().manual_seed(0)
    info = DataInfo((1, 2, 2), 2, (0.5,), (0.25,), ("a", "b"))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).double().requires_grad_(False)
    trajectory = {
        epoch: {
            name: torch.randn(each.shape, generator=random, dtype=torch.float64)
            for name, each in module.named_parameters()
        }
        for epoch in range(3)
    }
    clusters = torch.tensor([0, 1, 2, 3, 0, 1, 1, 3, 2, 2, 0])
    partition = Partition(clusters, torch.tensor([0, 0, 1, 1]))
    images = torch.randn(len(clusters), 1, 2, 2, generator=random, dtype=torch.float64)
    made = torch.randn(4, 2, 1, 2, 2, generator=random, dtype=torch.float64)
    labels = torch.rand(4, 2, 2, generator=random, dtype=torch.float64).softmax(-1)
    nothing = torch.ones(4, dtype=torch.float64)
    data = ImageSet(images, partition.classes[clusters])
    return Network(module, info, 8), trajectory, data, partition, Synset(made, labels, nothing, nothing)


def plain_gradient(parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
    """By ordinary autograd, flat."""
    weight, bias = (parameters[name].clone().requires_grad_() for name in ("1.weight", "1.bias"))
    loss = F.cross_entropy(images.flatten(1) @ weight.T + bias, labels)
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, (weight, bias))])


def plain_terms(direction: str) -> tuple[Tensor, Tensor]:
    """|∇L(θ, S_κ) ± ∇L(θ_t, D_κ)| for each cluster and pair, as they are and with the best factor by a search."""
    _, path, data, partition, synset = linear()
    raw, fitted = torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    factors = torch.linspace(0, 20, 200001).double()
    for cluster in range(4):
        members = partition.members(cluster)
        for column, (real, other) in enumerate(PAIRS):
            true = plain_gradient(path[real], data.images[members], data.labels[members])
            made = plain_gradient(path[other], synset.images[cluster], synset.labels[cluster])
            wanted = -true if direction == "reverse" else true
            raw[cluster, column] = (made - wanted).norm()
            square = (factors**2) * (made @ made) - 2 * factors * (made @ wanted) + wanted @ wanted
            fitted[cluster, column] = square.min().clamp_min(0).sqrt()
    return raw, fitted


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_accumulated_errors_agree_with_a_plain_loop(direction: Any) -> None:
    network, path, data, partition, synset = linear()
    errors = gradient_errors(
        Target(network, path), Divided(data, partition), synset, PAIRS, Matching(direction=direction), Budget(64)
    )
    raw, fitted = plain_terms(direction)
    torch.testing.assert_close(errors.raw, raw, rtol=0, atol=1e-12)
    torch.testing.assert_close(errors.fitted, fitted, rtol=0, atol=1e-5)
    assert (errors.fitted <= errors.raw + 1e-12).all()


def test_eq_12_sums_over_checkpoints_and_eq_13_over_the_other_clusters_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their means, and an interval of Eq. 13 that is as wide for its size as that of Eq. 12."""
    count = run.workspace.partition.num_clusters
    fitted = torch.rand(count, 3, generator=torch.Generator().manual_seed(1)).double() + 0.5
    monkeypatch.setattr("ddm_studies.trajectory.accumulated._errors", lambda *_: Errors(2 * fitted, fitted, fitted))
    found = error_figures(run.workspace, run.workspace, 500)
    others = [sum(float(fitted[k].sum()) for k in range(count) if k != cluster) for cluster in range(count)]
    assert found["eq_12_fitted"] == pytest.approx(float(fitted.sum()) / count)
    assert found["eq_13_fitted"] == pytest.approx(sum(others) / count)
    assert found["eq_13_raw"] == pytest.approx(2 * sum(others) / count)
    widths = [high - low for low, high in (found["eq_12_fitted_interval"], found["eq_13_fitted_interval"])]
    assert widths[1] / found["eq_13_fitted"] == pytest.approx(widths[0] / found["eq_12_fitted"], rel=0.3)


def test_the_mean_gradient_is_that_of_all_images_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, path, data, _, _ = linear()
    monkeypatch.setattr(walks, "BATCH", 4)
    stack = {name: torch.stack([path[1][name], path[2][name]]) for name in path[1]}
    found = walks.mean_gradient(network, stack, data.images, data.labels)
    for row, point in enumerate((path[1], path[2])):
        wanted = plain_gradient(point, data.images, data.labels)
        own = torch.cat([each[row].flatten() for each in found.values()])
        torch.testing.assert_close(own, wanted, rtol=0, atol=1e-12)


def test_a_walk_is_plain_gradient_descent_seen_at_even_distances() -> None:
    def bowl(parameters: Parameters) -> Parameters:
        return {"x": parameters["x"]}

    rates = torch.tensor([0.1, 0.5]).double()
    reached = list(walks.descent({"x": torch.tensor(1.0).double()}, bowl, rates, 10, 6))
    for row, kept in enumerate((0.9, 0.5)):
        assert [float(each["x"][row]) for each in reached] == pytest.approx(
            [kept**step for step in (0, 2, 4, 6, 8, 10)]
        )


def test_ends_of_normal_training_are_the_run_own_and_each_method_keeps_its_own_start(run: Run) -> None:
    methods, workspace = run.metrics["trajectory"]["methods"], run.workspace
    assert methods["normal training"]["theta_tau"] == pytest.approx(100 * workspace.accuracy("test"))
    assert methods["DDM"]["theta_tau"] == methods["normal training"]["theta_tau"]
    assert methods["DDM-match"]["theta_0"] == methods["normal training"]["theta_0"]
    for figures in methods.values():
        for end in ("theta_0", "theta_tau"):
            low, high = figures[f"{end}_interval"]
            assert low <= figures[end] <= high


def test_the_validation_split_decides_between_the_rates(run: Run) -> None:
    found = run.metrics["trajectory"]
    tried = {method: [each for each in found["grid"] if each["method"] == method] for method in ("DDM", "DDM-match")}
    assert all([each["rate"] for each in walks] == [0.05, 0.5] for walks in tried.values())
    workspace = run.workspace
    start = 100 * workspace.accuracy_of(workspace.initial, workspace.data.validation)
    nearest = min(tried["DDM"], key=lambda each: abs(each["validation_at_end"] - start))
    highest = max(tried["DDM-match"], key=lambda each: each["validation_at_end"])
    assert (found["ddm_rate"], found["match_rate"]) == (nearest["rate"], highest["rate"])
    assert found["methods"]["DDM"]["theta_0"] == pytest.approx(nearest["test_at_end"])
    assert found["methods"]["DDM-match"]["theta_tau"] == pytest.approx(highest["test_at_end"])


def test_the_papers_numbers_stand_beside_ours_and_no_row_is_empty(run: Run) -> None:
    figures = run.metrics["comparison"]["figures"]
    paper = {(each["row"], each["column"]): each["paper"] for each in figures if each["paper"] is not None}
    assert paper["DDM", "accuracy (θ_0), %"] == 0.6
    assert paper["DDM-match", "accuracy (θ_τ), %"] == 85.0
    assert len(paper) == 6
    assert all(each["ours"] is not None for each in figures)


def test_curves_run_from_the_start_to_the_target(run: Run) -> None:
    found = run.metrics["trajectory"]
    curves = found["curves"]
    assert all(len(curve) == 4 for curve in curves.values())
    assert curves["DDM, back from θ_τ"][-1] == curves["normal training"][-1]
    assert curves["DDM-match, on from θ_0"][0] == curves["normal training"][0]
    report = run.workspace.recipe.study(run.workspace)
    assert sum(isinstance(block, Chart) for block in report.sections[0].blocks) == 2


def test_a_sentence_says_whether_eq_12_is_the_smaller(run: Run) -> None:
    errors = run.metrics["trajectory"]["errors"]
    said = "is smaller" if errors["eq_12_fitted"] < errors["eq_13_fitted"] else "is not smaller"
    told = run.metrics["comparison"]["sentences"]
    assert len(told) == 4
    assert told[-1].startswith(f"Eq. 12 {said} than Eq. 13 here, but they are not comparable")
    assert errors["eq_12_fitted"] <= errors["eq_12_raw"]
    assert errors["checkpoints"] == 3


@pytest.fixture
def measured() -> Callable[..., dict[str, Any]]:
    """What two sentences are made of."""

    def make(end: float, least: float, lowest: float, reached: float = 10.0) -> dict[str, Any]:
        ends = {"theta_0": 10.0, "theta_tau": 90.0}
        return {
            "methods": {"DDM": {**ends, "theta_0": reached}, "normal training": ends, "DDM-match": ends},
            "ddm_distance_to_start": end,
            "ddm_least_distance_to_start": least,
            "ddm_predicts_most": 50.0,
            "lowest": {"accuracy": lowest, "accuracy_interval": [lowest - 2, lowest + 2]},
            "uphill": {
                "accuracy": 10.0,
                "accuracy_interval": [8.0, 12.0],
                "distance_to_start": 1.0,
                "predicts_most": 100.0,
            },
            "rarest_class": 10.0,
            "chance": 10.0,
            "test_images": 400,
        }

    return make


def test_where_a_walk_ends_is_said_as_it_is(measured: Callable[..., dict[str, Any]]) -> None:
    said = back(measured(1.2, 0.95, 10.0))
    assert "does not lead back to θ_0, and ends farther from θ_0 than it began" in said
    assert "Only the accuracy is near" in said
    assert "only a part of the way back" in back(measured(0.7, 0.6, 10.0))
    assert "more than half of the way back" in back(measured(0.3, 0.3, 10.0))
    assert "leads back close to θ_0:" in back(measured(0.02, 0.02, 10.0))
    assert "Only the accuracy is near" not in back(measured(1.2, 0.95, 10.0, reached=60.0))


def test_below_chance_is_said_only_beyond_what_sampling_explains(measured: Callable[..., dict[str, Any]]) -> None:
    said = below(measured(1.0, 1.0, 9.0), "digits")
    assert said.startswith(
        "Here, accuracy on the way back does not measurably fall below chance (lowest: 9.0%, chance 10%)"
    )
    assert "real training images it does not measurably fall below chance (10.0%)" in said
    assert "way back falls below chance (lowest: 2.0%" in below(measured(1.0, 1.0, 2.0), "digits")
    assert "15.5% for DDM at θ_0 is above its chance of 10%. Here" in below(measured(1.0, 1.0, 2.0), "cifar10")


@pytest.mark.parametrize(
    ("least", "lowest", "outcomes"),
    [(0.05, 2.0, ["holds", "holds"]), (0.3, 9.0, ["not told", "not told"]), (0.9, 30.0, ["does not hold"] * 2)],
)
def test_claims_follow_the_figures(
    measured: Callable[..., dict[str, Any]], run: Run, least: float, lowest: float, outcomes: list[str]
) -> None:
    errors = run.metrics["trajectory"]["errors"]
    stored = {**measured(1.0, least, lowest), "errors": errors, "column": "mnist", "num_clusters": 30}
    assert [each.outcome for each in findings({"trajectory": stored}).claims] == outcomes
    stored["column"] = "cifar10"
    assert len(findings({"trajectory": stored}).claims) == 1, "the paper's 15.5 % is above chance"


def test_what_is_said_follows_from_what_is_stored(run: Run) -> None:
    assert says_what_is_stored(findings, run.metrics)


def test_the_papers_chance_is_that_of_its_own_classes(run: Run, measured: Callable[..., dict[str, Any]]) -> None:
    errors = run.metrics["trajectory"]["errors"]
    stored = {**measured(1.0, 1.0, 9.0), "errors": errors, "column": "tinyimagenet", "num_clusters": 30}
    said = " ".join(findings({"trajectory": stored}).sentences)
    assert "0.1% for DDM at θ_0 is below its chance of 0.5%" in said
    assert "would avoid the labels" in said
    assert "chance 10%" in said
    assert "the paper's is of 200 classes" in other_classes({"chance": 10.0}, "tinyimagenet")
    assert other_classes({"chance": 10.0}, "mnist") == other_classes({"chance": 10.0}, "digits") == ""


def test_real_images_of_the_uphill_walk_are_of_all_classes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "UPHILL_IMAGES", 8)
    seen: list[Tensor] = []
    gradient = walks.mean_gradient
    monkeypatch.setattr(walks, "mean_gradient", lambda *given: (seen.append(given[3]), gradient(*given))[1])
    walk = walks.uphill(run.workspace)
    assert set(seen[0].tolist()) == set(range(run.workspace.info.num_classes))
    assert len(walk.points) == len(walk.validation) == walks.UPHILL_STEPS + 1


def test_no_validation_split_and_rates_that_diverge_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DDMError, match=r"keeps the weights finite; name lower ones in study\.rates"):
        trajectory.run(run.workspace, rates=[1e30], steps=4, points=2)
    empty = ddm_framework.open_run(run.path).workspace
    data = empty.data
    monkeypatch.setitem(
        empty.__dict__, "data", type(data)(data.train, data.test.take(torch.arange(0)), data.test, data.info)
    )
    with pytest.raises(DDMError, match=r"set dataset\.validation"):
        trajectory.run(empty)


def test_a_target_without_a_trajectory_has_no_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ddm_framework.open_run(run.path).workspace
    monkeypatch.setitem(other.__dict__, "trained", Target(other.network, {0: run.workspace.target}))
    with pytest.raises(DDMError, match=r"no start to go back to; name earlier ones in target\.trajectory"):
        trajectory.run(other)
