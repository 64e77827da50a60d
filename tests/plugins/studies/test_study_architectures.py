"""Several networks on the same data: each is a run of its own, and their class-wise attributions are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ddm_studies.architectures import class_matrices
from ddm_studies.architectures import study as architectures
from ddm_studies.architectures.words import findings
from scipy.stats import spearmanr
from study_runs import says_what_is_stored

import ddm_framework
from ddm_framework.runs.tensor_files import load_tensors

RECIPE = """\
seed: 0
threads: 1
dataset: {use: digits}
backbone: {use: convnet, width: 4, depth: 2}
clusterer: {use: kmeans, clusters_per_class: 1, restarts: 1}
distance: {use: cosine}
training: {epochs: 5, lr: 0.1}
matching: {steps: 30}
objectives: [{use: output_shift}]
study:
  use: architectures
  queries: 20
  backbones:
    - {use: convnet, width: 4, depth: 2}
    - {use: convnet, width: 6, depth: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ddm_framework.Run:
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "recipe.yaml").write_text(RECIPE)
    return ddm_framework.run(folder / "recipe.yaml", out=folder / "run")


def test_networks_are_named_by_what_tells_them_apart(run: ddm_framework.Run) -> None:
    assert list(run.metrics["architectures"]["networks"]) == ["convnet (width 4)", "convnet (width 6)"]


def test_the_rank_correlation_is_the_mean_over_rows_of_the_stored_matrices(run: ddm_framework.Run) -> None:
    stored = load_tensors(run.path / "online" / "attribution.safetensors")
    one, other = stored["effect.0"].numpy(), stored["effect.1"].numpy()
    wanted = np.mean([spearmanr(*rows).statistic for rows in zip(one, other, strict=True)])
    found = run.metrics["architectures"]["pairs"]["convnet (width 4) / convnet (width 6)"]
    assert one.shape == (10, 10)
    assert found["spearman"] == pytest.approx(wanted)
    low, high = found["spearman_interval"]
    assert low < found["spearman"] < high


def test_a_factor_of_the_rows_alone_is_no_agreement() -> None:
    random = torch.Generator().manual_seed(0)
    factor = 10 ** torch.linspace(-3, 3, 400)[:, None]
    one, other = (factor * torch.rand(1, 400, 10, generator=random) for _ in range(2))
    assert spearmanr(one.flatten(), other.flatten()).statistic > 0.9
    assert abs(float(class_matrices.agreement(one, other)[0])) < 0.05


def test_resamples_keep_each_class_apart_and_the_first_is_the_mean(run: ddm_framework.Run) -> None:
    asked = architectures._queries(run.workspace, 20)
    assert asked.labels is not None
    draws = class_matrices.draws(run.workspace, asked, 50)
    assert all(shares.shape == (51, 20) and torch.allclose(shares.sum(1), torch.ones(51).double()) for shares in draws)
    one_hot = torch.nn.functional.one_hot(asked.labels, 10)
    assert torch.allclose(class_matrices.class_means(one_hot, asked.labels, draws), torch.eye(10).double())
    single = class_matrices.draws(run.workspace, architectures._queries(run.workspace, 1), 50)
    assert single[0].shape == (1, 1)
    assert class_matrices.measured(torch.tensor([0.5])) == (0.5, None)


@pytest.mark.parametrize("count", [3, 10, 20])
def test_rows_that_put_their_own_class_first_agree_by_that_alone(count: int) -> None:
    """3 / (L + 1) in expectation, and 0 over the other classes."""
    random = torch.Generator().manual_seed(count)
    own = 2 * torch.eye(count)
    pairs = [[torch.rand(1, count, count, generator=random) + own for _ in range(2)] for _ in range(400)]
    found = np.mean([float(class_matrices.agreement(*pair)) for pair in pairs])
    others = np.mean([float(class_matrices.agreement(*map(class_matrices.off_diagonal, pair))) for pair in pairs])
    assert class_matrices.own_class_floor(pairs[0][0][0], pairs[0][1][0]) == pytest.approx(3 / (count + 1))
    assert found == pytest.approx(3 / (count + 1), abs=0.02)
    assert others == pytest.approx(0, abs=0.1 if count == 3 else 0.03)


def test_the_floor_follows_the_place_of_the_own_class_in_each_row() -> None:
    random = torch.Generator().manual_seed(0)
    one, other = (torch.rand(4000, 1, 6, generator=random) for _ in range(2))
    one[:, 0, 0], other[:, 0, 0] = 2.0, -1.0  # first in one row, last in the other
    found = float(class_matrices.agreement(one.transpose(0, 1), other.transpose(0, 1))[0])
    rows = [torch.eye(6) + 0.1 * torch.rand(6, 6, generator=random), -torch.eye(6) + torch.rand(6, 6, generator=random)]
    assert class_matrices.own_class_floor(*rows) == pytest.approx(found, abs=0.02)


def test_what_is_said_follows_from_what_is_stored(run: ddm_framework.Run) -> None:
    assert says_what_is_stored(findings, run.metrics)


@pytest.mark.parametrize(
    ("interval", "outcome", "said"),
    [
        ([0.1, 0.3], "holds", "are similar beyond chance, as the paper says"),
        ([-0.1, 0.3], "not told", "are not measurably similar beyond chance"),
        ([-0.3, -0.1], "does not hold", "are less similar than by chance"),
    ],
)
def test_similarity_is_judged_off_the_diagonal(
    run: ddm_framework.Run, interval: list[float], outcome: str, said: str
) -> None:
    stored = {**run.metrics["architectures"], "off_diagonal_interval": interval}
    told = findings({"architectures": {**stored, "figure": "fig_8"}})
    assert said in told.sentences[0]
    assert [each.outcome for each in told.claims] == [outcome, "cannot be tested at this size"]
    told = findings({"architectures": stored})
    assert said in told.sentences[1]
    assert told.claims[1].outcome == outcome


@pytest.mark.parametrize(
    ("floor", "said"),
    [(0.1, "above the 0.10"), (0.3, "not measurably other than the 0.30"), (0.6, "below the 0.60")],
)
def test_agreement_within_rows_is_told_against_its_floor(run: ddm_framework.Run, floor: float, said: str) -> None:
    stored = {**run.metrics["architectures"], "spearman": 0.3, "spearman_interval": [0.2, 0.5], "floor": floor}
    told = findings({"architectures": stored})
    assert f"0.30 (0.20 to 0.50) within rows, {said} that their own classes alone give" in told.sentences[1]
    assert f"0.30 (0.20 to 0.50) within rows ({floor:.2f} by own classes alone)" in told.claims[1].measured


def test_similarity_without_an_interval_or_with_two_classes_is_not_judged(run: ddm_framework.Run) -> None:
    stored = run.metrics["architectures"]
    single = {**stored, "off_diagonal_interval": None, "spearman_interval": None}
    two = {name: value for name, value in stored.items() if "off_diagonal" not in name}
    for given, reason in ((single, "a class has only one query"), (two, "with two classes")):
        told = findings({"architectures": given})
        assert "cannot be judged for similarity" in told.sentences[1] and reason in told.sentences[1]
        assert reason in told.claims[1].measured
        assert told.claims[1].outcome == "cannot be tested at this size"


@pytest.mark.parametrize(("interval", "more"), [([0.57, 0.68], True), ([0.5, 0.68], False), (None, False)])
def test_estimates_that_agree_more_than_exact_matrices_are_told(
    run: ddm_framework.Run, interval: list[float] | None, more: bool
) -> None:
    stored = {**run.metrics["architectures"], "spearman_interval": interval, "both_exact_interval": [0.48, 0.56]}
    assert findings({"architectures": stored}).sentences[-1].endswith(", but these do.") == more


def test_exact_retraining_stands_beside_the_traced_class(run: ddm_framework.Run) -> None:
    networks = run.metrics["architectures"]["networks"].values()
    exact = sum(each["traced_exact"] for each in networks)
    said, *_ = run.metrics["comparison"]["sentences"]
    assert said.endswith(f"exact retraining traces them to it for {exact} of 2.")
    shown = [each["ours"] for each in run.metrics["comparison"]["figures"] if "same by exact" in each["column"]]
    assert shown == [float(each["traced_exact"]) for each in networks]


def test_an_interval_lies_around_the_measured_value() -> None:
    drawn = torch.cat([torch.tensor([0.8]), torch.linspace(0.4, 0.8, 101)]).double()
    value, interval = class_matrices.measured(drawn)
    assert value == pytest.approx(0.8)
    assert interval == pytest.approx((0.61, 0.99))


def test_a_sibling_of_the_same_network_has_the_run_s_own_target(run: ddm_framework.Run) -> None:
    own = load_tensors(run.path / "offline" / "trajectory" / "epoch_005.safetensors")
    sibling = load_tensors(run.path / "variants" / "0_convnet" / "offline" / "trajectory" / "epoch_005.safetensors")
    assert all(torch.equal(own[name], sibling[name]) for name in own)


def test_no_figure_is_missing_and_each_but_yes_and_no_has_an_interval(run: ddm_framework.Run) -> None:
    compared = run.metrics["comparison"]
    assert compared["figures"] and all(each["ours"] is not None for each in compared["figures"])
    assert all(each["interval"] or "1 = " in each["column"] for each in compared["figures"])
    assert compared["source"] == "Fig. 3"
    assert compared["sentences"][0].startswith('Queries "2" are traced')
    assert "convnet (width 4, " in compared["sizes"] and "convnet (width 6, " in compared["sizes"]
    assert "cannot be expected to agree more than that" in compared["sentences"][-1]
    assert "Class-wise attribution matrices" in run.report.read_text(encoding="utf-8")


def test_fig_8_answers_its_own_claims_and_names_no_class_of_queries(run: ddm_framework.Run) -> None:
    options = {name: value for name, value in run.workspace.recipe.study.options.items() if name != "figure"}
    compared = architectures.run(run.workspace, figure="fig_8", **options).metrics["comparison"]
    assert all(each["paper"] is None for each in compared["figures"])
    assert compared["sentences"][0].startswith("Attribution matrices from 2 initialisations are")
    assert "diversity grows with the size of the data" in compared["sentences"][1]
    assert len(compared["sentences"]) <= 4
    assert not any('"2"' in each for each in compared["sentences"])


def test_each_network_is_matched_at_settings_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    options = ["training.epochs=4", "matching.steps=1", "study.retrain=false", "study.image_rates=[0.1,0.005]"]
    given = [*options, "study.distances=[{use: cosine}, {use: mse}]"]
    sizes = ddm_framework.run(tmp_path / "recipe.yaml", given, out=tmp_path / "run").metrics["comparison"]["sizes"]
    assert "matched by cosine, image rate 0.1)" in sizes
    assert "matched by mse, image rate 0.005)" in sizes
    with pytest.raises(ddm_framework.DDMError, match="`image_rates` has 1 entries for 2 backbones"):
        ddm_framework.run(tmp_path / "recipe.yaml", [*options[:3], "study.image_rates=[0.1]"], out=tmp_path / "other")


def test_a_class_without_a_test_image_is_refused(run: ddm_framework.Run) -> None:
    test = run.workspace.data.test
    kept = (test.labels != 3).nonzero()[:, 0]
    data = replace(run.workspace.data, test=test.take(kept))
    with pytest.raises(ddm_framework.DDMError, match="there is no test image of class '3'"):
        architectures._queries(replace(run.workspace, loaded_data=data), 20)


def test_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(ddm_framework.DDMError, match="the data have 10 classes"):
        small = ["study.query_class=10", "training.epochs=4", "matching.steps=1"]
        ddm_framework.run(tmp_path / "recipe.yaml", small, out=tmp_path / "run")
