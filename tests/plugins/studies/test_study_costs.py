"""Costs: break-even by hand, bytes as counted, and what the kept bank of retrainings can do is said."""

from __future__ import annotations

import pytest
from ddm_studies.comparison.running import shifts
from ddm_studies.costs import Way, _against_bank, _on_demand, break_even, findings
from ddm_studies.costs import run as study
from hypothesis import given
from hypothesis import strategies as st
from study_runs import says_what_is_stored, stripes_run

from ddm_framework.api import Run
from ddm_framework.online.perturbations import leave_one_out
from ddm_framework.report.blocks import Chart
from ddm_framework.truth.retraining import retrained

SECONDS = st.integers(0, 1000).map(float)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return stripes_run(tmp_path_factory.mktemp("costs"), "{use: costs, queries: 5, repeats: 6}")


@pytest.mark.parametrize(
    ("way", "other", "questions"),
    [
        (Way(10, 1), Way(0, 6), 2),
        (Way(11, 1), Way(0, 6), 3),
        (Way(5, 1), Way(10, 2), 0),
        (Way(5, 1), Way(5, 1), 0),
        (Way(6, 1), Way(5, 1), None),
        (Way(0, 2), Way(9, 1), None),
    ],
)
def test_a_way_has_paid_from_the_question_at_which_it_took_no_longer(
    way: Way, other: Way, questions: int | None
) -> None:
    assert break_even(way, other) == questions


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_break_even_is_the_first_question_from_which_on_it_holds(a: float, b: float, c: float, d: float) -> None:
    way, other = Way(a, b), Way(c, d)
    ahead = [way.after(count) <= other.after(count) for count in range(1002)]
    last = next((count for count in reversed(range(1002)) if not ahead[count]), -1)
    assert break_even(way, other) == (None if last == 1001 else last + 1)


def test_bytes_are_those_of_the_tensors(run: Run) -> None:
    stored, workspace = run.metrics["costs"]["bytes"], run.workspace
    weights = 4 * sum(each.numel() for each in workspace.target.values())
    assert stored["data"] == len(workspace.data.train) * 6 * 6 * 4
    assert stored["synset"] == 6 * (6 * 6 + 3) * 4
    assert stored["class_synset"] == 3 * (6 * 6 + 3) * 4
    assert stored["trajectory"] == 3 * weights
    assert stored["bank"] == 6 * weights


def test_seconds_are_measured_and_medians_lie_in_their_intervals(run: Run) -> None:
    spent = run.metrics["costs"]["seconds"]
    for name in ("single_question", "question", "bank_question"):
        low, high = spent[f"{name}_interval"]
        assert 0 < low <= spent[name] <= high
    assert spent["offline"] == pytest.approx(spent["partition"] + spent["matching"])
    assert spent["leave_one_out"] == pytest.approx(6 * spent["one_retraining"])


def test_no_row_is_empty_and_the_paper_gives_nothing(run: Run) -> None:
    figures = run.metrics["comparison"]["figures"]
    assert all(each["ours"] is not None and each["paper"] is None for each in figures)
    sentences = run.metrics["comparison"]["sentences"]
    assert "gives no figure of its speedup or storage" in sentences[0]
    assert len(sentences) == 4
    report = study(run.workspace, queries=5, repeats=6)
    lines, bars = (block for block in report.sections[0].blocks if isinstance(block, Chart))
    assert list(lines.series) == ["DDM", "bank of retrainings, kept", "retraining on demand"]
    assert len(bars.series["megabytes"]) == 6


def test_fewer_retrainings_are_extrapolated(run: Run) -> None:
    report = study(run.workspace, queries=5, repeats=6, retrainings=2)
    spent = report.metrics["costs"]["seconds"]
    assert spent["retrainings"] == 2
    assert spent["leave_one_out"] == pytest.approx(6 * spent["one_retraining"])


@pytest.mark.parametrize(
    ("paid", "smaller", "said"),
    [
        ({"ddm_bank": 0, "bank_ddm": None}, True, "DDM is ahead from the first question on."),
        ({"ddm_bank": 7, "bank_ddm": None}, True, "DDM is behind until it pays off, at question 7."),
        ({"ddm_bank": None, "bank_ddm": 9}, True, "DDM is ahead until question 9"),
        ({"ddm_bank": None, "bank_ddm": 0}, True, "first question on and pays off only in storage."),
        ({"ddm_bank": None, "bank_ddm": 0}, False, "first question on and does not pay off in storage either."),
    ],
)
def test_the_kept_bank_is_given_its_due(paid: dict[str, int | None], smaller: bool, said: str) -> None:
    assert said in _against_bank(paid, smaller, True)
    assert _against_bank(paid, smaller, False).endswith("DDM is neither measurably faster nor slower a question.")


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_one_of_two_ways_always_pays(a: float, b: float, c: float, d: float) -> None:
    assert break_even(Way(a, b), Way(c, d)) is not None or break_even(Way(c, d), Way(a, b)) is not None


def test_the_kept_bank_answers_with_the_effect_on_every_query(run: Run) -> None:
    workspace = run.workspace
    asked, bank = workspace.queries_of("test", 5), retrained(workspace, leave_one_out(6)[1:])
    found = shifts(workspace, bank, asked)
    assert found.shape[:2] == (5, 6)
    assert found.device.type == "cpu"


@pytest.mark.parametrize(
    ("interval", "said", "outcome"),
    [
        ([1.0, 2.0], "is confirmed", "holds"),
        ([20.0, 40.0], "is contradicted", "does not hold"),
        ([5.0, 20.0], "is neither confirmed nor contradicted", "not told"),
    ],
)
def test_the_claimed_speedup_is_judged_by_its_interval(
    run: Run, interval: list[float], said: str, outcome: str
) -> None:
    found = run.metrics["costs"]
    spent = {**found["seconds"], "leave_one_out": 10.0, "question_interval": interval}
    told = findings({"costs": {**found, "seconds": spent}})
    assert told.sentences[0].startswith(f"The claimed speedup {said} for a question")
    assert told.claims[0].outcome == outcome


def test_what_is_said_follows_from_what_is_stored(run: Run) -> None:
    assert says_what_is_stored(findings, run.metrics)


def test_retraining_on_demand_is_counted_in_retrainings() -> None:
    spent = {"offline": 12.0, "one_retraining": 0.5}
    assert _on_demand(spent, 1, "holds").startswith("The offline work of DDM costs as much as 24 exact retrainings")
    assert "from question 1 on" in _on_demand(spent, 0, "holds")
    assert "never pays off" in _on_demand(spent, None, "does not hold")
    assert _on_demand(spent, 1, "not told").endswith("cannot be told.")


@pytest.mark.parametrize(
    ("question", "bank", "told"),
    [
        ([1.0, 2.0], [1.5, 3.0], False),
        ([1.0, 2.0], [2.0, 3.0], False),
        ([1.0, 2.0], [2.5, 3.0], True),
        ([4.0, 5.0], [1.5, 3.0], True),
    ],
)
def test_who_is_ahead_in_the_end_is_said_only_where_intervals_are_apart(
    run: Run, question: list[float], bank: list[float], told: bool
) -> None:
    found = run.metrics["costs"]
    spent = {**found["seconds"], "question_interval": question, "bank_question_interval": bank}
    sentences = findings({"costs": {**found, "seconds": spent}}).sentences
    assert ("neither measurably faster" in sentences[2]) != told


@pytest.mark.parametrize(
    ("bank", "outcome", "verdict"), [(10**9, "holds", "confirmed"), (1, "does not hold", "contra")]
)
def test_storage_is_compared_with_a_bank(run: Run, bank: int, outcome: str, verdict: str) -> None:
    found = run.metrics["costs"]
    told = findings({"costs": {**found, "bytes": {**found["bytes"], "bank": bank}}})
    assert told.claims[1].outcome == outcome
    assert f"reduction of storage is {verdict}" in told.sentences[3]
