"""Tables 1 and 2: the paper's figures stand beside ours, and what contradicts or cannot be compared is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from ddm_studies.comparison.judging import Judge, Verdict
from ddm_studies.comparison.measured import outcome_of
from ddm_studies.influence_tables.published import BEST, RANDOM, TABLE_1, TABLE_2, PaperTable
from ddm_studies.influence_tables.study import _settings
from ddm_studies.influence_tables.words import _dist_3, _few_queries, _orders, against_own, findings, pairs
from study_runs import says_what_is_stored, stripes_run

from ddm_framework import Report, use
from ddm_framework.api import Run
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.plugin import choose
from ddm_framework.report.blocks import Table
from ddm_framework.runs.workspace import Workspace
from ddm_framework.truth.retraining import bank_logits, retrained

STUDY = """{use: influence, column: cifar10, resamples: 50, methods: [{use: prediction}, {use: clustering}, \
{use: ddm_sequential}, {use: ddm_match}, {use: ddm}]}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return stripes_run(tmp_path_factory.mktemp("table_1"), STUDY)


def figures(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.metrics["comparison"]["figures"]
    return found


def figure(run: Run, row: str, column: str) -> dict[str, Any]:
    return next(each for each in figures(run) if each["row"] == row and each["column"].startswith(column))


def sentences(run: Run) -> str:
    return " ".join(run.metrics["comparison"]["sentences"])


def verdict(name: str, value: float, **more: Any) -> Verdict:
    given = {"dist_1": value, "dist_1_interval": [value - 1, value + 1], "recovered_share": 0.5}
    bounds = {"dist_1_floor": 1.0, "dist_1_floor_interval": [0.9, 1.1], "dist_1_oracle": 20.0}
    chosen = {"dist_1": around(value)}
    return Verdict(name, name, "defaults", {**given, **bounds, **more}, chosen, {"dist_1": around(1.0)})


def around(value: float, spread: float = 0.2) -> torch.Tensor:
    """A hundred queries with this mean, in no order that another shares."""
    drawn = torch.randn(100, generator=torch.Generator().manual_seed(round(100 * value))).double() * spread
    return drawn - drawn.mean() + value


def test_every_row_has_a_figure_with_its_interval(run: Run) -> None:
    assert all(each["ours"] is not None for each in figures(run))
    for each in figures(run):
        low, high = each["interval"]
        assert low <= each["ours"] + 1e-9
        assert each["ours"] <= high + 1e-9
    section = run.workspace.recipe.study(run.workspace).sections[0]
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert len(table.rows) == 4 * (2 + 5) - 1 + sum(each["column"].startswith("share") for each in figures(run))


def test_the_papers_column_stands_beside_ours(run: Run) -> None:
    assert figure(run, RANDOM, "Dist_1")["paper"] == 2.7
    assert figure(run, "Clustering-based", "Dist_1")["paper"] == 2.5
    assert figure(run, "DDM-full", "Dist_2")["paper"] == 0.81
    assert figure(run, "Predict-based", "Dist_2")["paper"] is None
    assert figure(run, BEST, "Dist_1")["paper"] is None
    assert figure(run, "DDM-full", "Dist_3: rank")["paper"] is None


def test_random_and_best_are_the_mean_and_the_largest_of_the_truth(run: Run) -> None:
    workspace = run.workspace
    asked = workspace.queries_of("test")
    bank = retrained(workspace, leave_one_out(workspace.partition.num_clusters)[1:])
    probabilities = bank_logits(workspace, bank, asked).softmax(2)
    own = workspace.target_logits(asked.images).softmax(1)
    shift = (probabilities - own).square().sum(2)
    assert figure(run, RANDOM, "Dist_1")["ours"] == pytest.approx(100 * float(shift.mean()), rel=1e-4)
    assert figure(run, BEST, "Dist_1")["ours"] == pytest.approx(100 * float(shift.amax(0).mean()), rel=1e-4)
    stays = 1 / (1 + shift)
    assert figure(run, RANDOM, "Dist_3")["ours"] == pytest.approx(float(stays.mean()), rel=1e-5)


def test_our_choice_is_looked_up_in_the_truth(run: Run) -> None:
    workspace = run.workspace
    asked, objective = workspace.queries_of("test"), workspace.objective("output_shift")
    top = workspace.effects_by(asked, objective, "ddm").ranking[:, 0]
    bank = retrained(workspace, leave_one_out(workspace.partition.num_clusters)[1:])
    shift = (bank_logits(workspace, bank, asked).softmax(2) - workspace.target_logits(asked.images).softmax(1)).square()
    mean = 100 * float(shift.sum(2)[top, torch.arange(len(asked))].mean())
    assert figure(run, "DDM-full", "Dist_1")["ours"] == pytest.approx(mean, rel=1e-4)
    assert run.metrics["table_1"]["ddm"]["dist_1"] == pytest.approx(mean, rel=1e-4)


def test_clusters_of_its_own_bring_their_own_bounds(run: Run) -> None:
    assert "clusters of its own: random" in figure(run, "DDM w/o cluster", "Dist_1")["note"]
    assert figure(run, "DDM-full", "Dist_1")["note"] == ""


def test_dist_3_is_told_to_be_incomparable(run: Run) -> None:
    assert "not comparable" in figure(run, "DDM-full", "Dist_3")["note"]
    assert "Dist_1 of 2.7 (×100) for a random cluster implies a Dist_3 of at least 0.974, not 0.54" in sentences(run)
    assert "20 queries without an interval" in sentences(run)
    assert "Values of Dist_1 are not comparable with the paper's" in sentences(run)
    assert len(run.metrics["comparison"]["sentences"]) == 4


def test_no_lds_is_measured_for_which_networks_would_be_retrained(run: Run) -> None:
    assert "cluster_lds" not in run.metrics["table_1"]["ddm"]


@pytest.mark.parametrize(
    ("column", "outside"),
    [("mnist", "4 of the paper's 4 figures (0.07 to 0.13) lie"), ("cifar100", "of the paper's 4 figures (0.8 to 1.6)")],
)
def test_figures_outside_of_what_eq_10_allows_are_counted(column: str, outside: str) -> None:
    stored = {"random": {"dist_3": 0.99}, "oracle": {"dist_3": 1.0}}
    said = _dist_3(stored, TABLE_1.paper[column])
    assert outside in said
    assert ("but its Dist_1" in said) == ("None of" in said)
    assert "does not follow its Eq. 10 and is not comparable" in said
    assert "paper" not in _dist_3(stored, {})


def stored(own: float, **others: float) -> dict[str, Any]:
    """The entry of metrics.json for Table 2 on MNIST, of methods with these values of Dist_1."""
    paper = {row: value for row, (value,) in TABLE_2.paper["mnist"].items() if value is not None}
    rows = {"koh": "Koh et al.", "fastif": "FASTIF", "arnoldi": "Scaleup"}
    ours = {RANDOM: around(1.0), **{rows[name]: around(value) for name, value in others.items()}, "DDM": around(own)}
    figures = {"dist_1_interval": [own - 1, own + 1], "recovered_share": 0.5, "recovered_share_interval": [0.4, 0.6]}
    return {
        "table": 2,
        "column": "mnist",
        "num_queries": 100,
        "own": "DDM",
        "own_method": "ddm",
        "ddm": figures,
        "pairs": pairs("dist_1", ours, paper),
        "against_own": against_own("DDM", ours),
    }


def test_orders_that_hold_and_that_do_not_are_counted() -> None:
    found = stored(8.99, koh=9.0, fastif=3.0, arnoldi=0.5)
    (said,) = _orders(found["pairs"])
    assert said == (
        "Of the paper's orders of two rows, by Dist_1 ×100, 6 of 10 are confirmed, 3 reversed and 1 undecided."
    )
    assert list(_orders([])) == []


def test_a_loss_is_reported_like_a_win() -> None:
    told = findings({"table_2": stored(5.0, koh=9.0, fastif=3.0, arnoldi=5.0)})
    assert "DDM is clearly behind Koh et al. -4.00 (-4.0" in told.sentences[0]
    assert "; clearly ahead of Random Select +4.00" in told.sentences[0]
    assert "and FASTIF +2.00" in told.sentences[0]
    assert told.sentences[0].endswith("; not told from Scaleup.")
    (claim,) = told.claims
    assert claim.claim == "DDM moves predictions more than influence functions"
    assert claim.outcome == "does not hold"


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ({"koh": 4.0, "fastif": 3.0}, "holds"),
        ({"koh": 5.0, "fastif": 3.0}, "not told"),
        ({"koh": 6.0}, "does not hold"),
    ],
)
def test_the_claim_follows_the_intervals(values: dict[str, float], outcome: str) -> None:
    (claim,) = findings({"table_2": stored(5.0, **values)}).claims
    assert claim.outcome == outcome
    assert "Koh et al. " in claim.measured


def test_rows_are_in_an_order_only_where_the_same_queries_tell_them_apart() -> None:
    def outcomes(ours: dict[str, torch.Tensor], paper: dict[str, float]) -> dict[tuple[str, str], str]:
        return {(each["above"], each["below"]): outcome_of(each["interval"]) for each in pairs("dist_1", ours, paper)}

    ours = {"a": around(1.0), "b": around(2.0), "c": around(0.0), "e": around(1.0)}
    found = outcomes(ours, {"a": 5.0, "b": 5.0, "c": 1.0, "d": 9.0})
    assert found == {("a", "c"): "holds", ("b", "c"): "holds"}
    found = outcomes(ours, {"b": 1.0, "a": 2.0, "e": 3.0})
    assert found == {("a", "b"): "does not hold", ("e", "b"): "does not hold", ("e", "a"): "not told"}
    shifted = {"a": around(1.0, 9.0), "b": around(1.0, 9.0) + 0.01}
    assert outcomes(shifted, {"b": 2.0, "a": 1.0}) == {("b", "a"): "holds"}, "a small difference of every query counts"
    assert outcomes({"a": around(3.0), "b": around(3.0)}, {"a": 2.0, "b": 1.0}) == {("a", "b"): "not told"}


@pytest.mark.parametrize("name", ["run", "table_2"])
def test_what_is_said_follows_from_what_is_stored(name: str, request: pytest.FixtureRequest) -> None:
    assert says_what_is_stored(findings, request.getfixturevalue(name).metrics)


def test_settings_that_are_not_the_defaults_are_named() -> None:
    found = [replace(verdict("ddm_match", 2.0), settings="start initial (best of 2)"), verdict("ddm", 3.0)]
    assert _settings(TABLE_1, found) == "; DDM-match: start initial (best of 2)"


def test_the_uncertainty_of_few_queries_is_told_by_our_numbers() -> None:
    said = _few_queries({**stored(5.0), "num_queries": 2000})
    assert said.endswith("would have an uncertainty of about ±10, with all 2000 it has ±1.")


@pytest.mark.parametrize("table", [TABLE_1, TABLE_2])
def test_tables_have_one_figure_a_column_and_every_row(table: PaperTable) -> None:
    for rows in table.paper.values():
        assert list(rows) == [RANDOM, *table.rows]
        assert {len(each) for each in rows.values()} == {len(table.figures)}


def influence(workspace: Workspace, **options: Any) -> Report:
    """The study with options as a recipe writes them."""
    report: Report = choose(workspace.registry, "study", "influence", options)(workspace)
    return report


def test_without_a_column_of_the_paper_nothing_is_compared(run: Run) -> None:
    workspace = run.workspace
    report = influence(workspace, methods=[use("ddm")], resamples=50)
    compared = report.metrics["comparison"]
    assert all(each["paper"] is None for each in compared["figures"])
    assert "has no column for this data set" in " ".join(compared["sentences"])
    assert len(compared["sentences"]) == 3


@pytest.fixture(scope="module")
def table_2(run: Run) -> Report:
    methods = [use("koh", rows=64), use("ddm")]
    return influence(run.workspace, table=2, methods=methods, column="mnist", resamples=50, by_logits=True)


def test_table_2_is_judged_in_dist_1_alone_and_linear_methods_by_their_logits_too(table_2: Report) -> None:
    figures = table_2.metrics["comparison"]["figures"]
    title = "Dist_1 ×100"
    assert [(each["row"], each["column"], each["paper"]) for each in figures if each["column"] == title] == [
        (RANDOM, title, 3.3),
        ("Koh et al.", title, 10.0),
        ("Koh et al., by its logits", title, None),
        ("DDM", title, 10.8),
        (BEST, title, None),
    ]
    assert table_2.metrics["table_2"]["oracle"].keys() == {"dist_1"}
    assert "by_logits" not in table_2.metrics["table_2"]["ddm"]


def test_a_grid_is_decided_on_the_validation_split_and_shown(run: Run) -> None:
    workspace = run.workspace
    methods = [use("ddm", step_size=[5e-4, 5.0])]
    report = influence(workspace, methods=methods, validation_masks=3, deleted=0.34, resamples=50)
    assert report.sections[-1].heading == "How settings were decided"
    assert len(report.sections[-1].blocks[1].rows) == 2


def test_two_of_a_kind_have_a_row_each(run: Run) -> None:
    methods = [use("ddm"), use("ddm", step_size=5.0)]
    report = influence(run.workspace, methods=methods, column="mnist", resamples=50)
    rows = {each["row"] for each in report.metrics["comparison"]["figures"]}
    assert rows == {RANDOM, "ddm (defaults)", "ddm (step_size 5.0)", BEST}
    assert {"ddm (defaults)", "ddm (step_size 5.0)"} <= report.metrics["table_1"].keys()


def test_one_cold_question_is_timed_and_each_artifact_charged_once(run: Run) -> None:
    workspace = run.workspace
    judge = Judge(workspace, workspace.queries_of("test"), leave_one_out(workspace.partition.num_clusters)[:0], 50)
    own, parts = workspace.folder.seconds(), ("partition", "matching")
    choices = {name: choose(workspace.registry, "attributor", name) for name in ("ddm", "ddm_sequential")}
    charged = {name: judge.verdict(name, each, "").figures["seconds_offline"] for name, each in choices.items()}
    assert charged["ddm"] == pytest.approx(sum(own[each] for each in parts))
    sequential = workspace.root.file("variants", "ddm_sequential")
    spent = json.loads((sequential / "manifest.json").read_text())["stages"]
    assert charged["ddm_sequential"] == pytest.approx(sum(spent[each]["seconds"] for each in parts))
    asked: list[int] = []
    fine_tune = Workspace.perturbed_logits

    def counted(self: Workspace, *given: Any) -> torch.Tensor:
        asked.append(len(given))
        return fine_tune(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "perturbed_logits", counted)
        judge.verdict("ddm", choices["ddm"], "")
    assert len(asked) == 1, "the question that is timed finds nothing remembered of an earlier method"
