"""Answers as tables and in notebooks: the numbers of the attribution, names escaped, small."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from html_page import Page

import ddm_framework
from ddm_framework import DDMError, Run
from ddm_framework.answers.answered import Answer
from ddm_framework.report.notebook import html_table

HOSTILE = "<img src=x onerror=alert(1)>\x1b[2J"


@pytest.fixture(scope="module")
def answer(run: Run) -> Answer:
    return run.attribute(run.workspace.data.test.images[:4])


def test_a_table_has_a_row_for_each_query_and_cluster(run: Run, answer: Answer) -> None:
    pandas = pytest.importorskip("pandas")
    table = answer.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table.columns.tolist() == ["query", "cluster", "class", "effect", "support"]
    assert answer.support is not None and len(table) == 4 * 6
    for _, row in table.iterrows():
        number = answer.ids.index(row["query"])
        assert row["effect"] == float(answer.effect[number, row["cluster"], 0])
        assert row["support"] == float(answer.support[number, row["cluster"]])
        assert row["class"] == run.members(row["cluster"])[0].label


def test_several_behaviours_have_a_column_and_whole_sets_one_name(run: Run) -> None:
    pytest.importorskip("pandas")
    images, labels = run.workspace.data.test.images, run.workspace.data.test.labels
    whole = run.attribute(images, labels, "performance", metric="accuracy")
    assert set(whole.to_pandas()["query"]) == {f"all {len(images)}"}
    assert whole.to_pandas()["support"].isna().all()
    wide = replace(whole, matrix=torch.cat([whole.matrix, 2 * whole.matrix], 2)).to_pandas()
    assert wide["behaviour"].tolist() == [0, 1] * 6
    assert (wide["effect"][1::2].to_numpy() == 2 * wide["effect"][::2].to_numpy()).all()


def test_without_pandas_the_reason_is_one_sentence(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DDMError, match=r"^to_pandas needs pandas, which is not installed: pip install pandas$"):
        answer.to_pandas()


def test_a_notebook_shows_runs_and_answers(run: Run, answer: Answer) -> None:
    told = Page(run._repr_html_())
    assert f"{run.metrics['target']['test_accuracy']:.1%}" in told.text and str(run.report) in told.text
    shown = Page(answer._repr_html_())
    assert all(each in shown.text for each in answer.ids)
    assert "made it say this" in shown.text
    without = run.without([0])
    assert f"without {int(without.left_out.sum())} of 36 training images" in Page(without._repr_html_()).text
    whole = run.attribute(run.workspace.data.test.images, run.workspace.data.test.labels, "performance")
    assert "most" in Page(whole._repr_html_()).text
    for each in (run, answer, without, whole):
        assert len(each._repr_html_()) < 4000


def test_names_are_escaped_and_long_tables_counted(answer: Answer) -> None:
    shown = replace(answer, ids=(HOSTILE,) * 4, classes=(HOSTILE,) * 6)._repr_html_()
    assert "<img" not in shown and "&lt;img" in shown
    told = html_table(HOSTILE, [HOSTILE], [(HOSTILE,)] * 14)
    assert "<img" not in told and told.count("<tr>") == 11 and "and 4 more" in told


def test_attribution_is_unchanged_by_names(run: Run, answer: Answer) -> None:
    plain = ddm_framework.open_run(run.path).workspace
    found = plain.attribution(plain.queries_of("test", 4), plain.objectives[0])
    assert torch.equal(found.matrix, answer.matrix)
