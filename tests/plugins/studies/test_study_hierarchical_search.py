"""The search of Fig. 6 is shown, compared with the flat one query by query, and timed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_studies.hierarchical_search import _claimed, _saved, _together, _traced, findings
from ddm_studies.hierarchical_search import run as study
from study_runs import says_what_is_stored, stripes_run

from ddm_framework import DDMError
from ddm_framework.answers.hierarchical import effects, search
from ddm_framework.api import Run
from ddm_framework.report.blocks import Chart, Clusters, Pictures

OPTIONS: dict[str, Any] = {"query_class": 2, "batch_class": 1, "batch": 3, "repeats": 6, "resamples": 50}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = ", ".join(f"{name}: {value}" for name, value in OPTIONS.items())
    return stripes_run(tmp_path_factory.mktemp("fig6"), f"{{use: hierarchical_search, {options}}}")


def test_one_image_and_a_batch_are_searched_for(run: Run) -> None:
    workspace, (one, batch) = run.workspace, run.metrics["hierarchical_search"]["searches"]
    labels = workspace.data.test.labels
    asked = workspace.queries_of("test").take((labels == 1).nonzero()[:3, 0])
    found = search(workspace, asked, workspace.objective("output_shift"))
    assert (batch["class_found"], batch["cluster_found"]) == (found.label, found.cluster)
    torch.testing.assert_close(torch.tensor(batch["class_effect"]).double(), found.class_effect, atol=1e-6, rtol=1e-4)
    assert (one["class"], batch["class"]) == (2, 1)
    assert one["asked"] == "one image of class 2"
    assert batch["asked"] == "a batch of 3 images of class 1"


def test_agreement_is_that_of_searching_for_every_query_alone(run: Run) -> None:
    workspace, found = run.workspace, run.metrics["hierarchical_search"]
    objective, asked = workspace.objective("output_shift"), workspace.queries_of("test")
    every = effects(workspace, asked, objective, "cluster", torch.arange(6))
    flat = objective.ranking(every)[:, 0].tolist()
    alone = [search(workspace, asked.take(torch.tensor([query])), objective) for query in range(len(asked))]
    same = [each.cluster == top for each, top in zip(alone, flat, strict=True)]
    assert found["same_cluster"] == pytest.approx(sum(same) / len(asked))
    assert found["num_finetunings_all_queries"] == 3 + 2 * len({each.label for each in alone})


def test_the_saving_is_counted_and_timed(run: Run) -> None:
    found = run.metrics["hierarchical_search"]
    assert (found["num_finetunings"], found["num_finetunings_flat"]) == (3 + 2, 6)
    assert found["saving"] == pytest.approx(6 / 5)
    low, high = found["saving_seconds_interval"]
    assert 0 < low <= found["saving_seconds"] <= high


def test_no_row_is_empty_and_what_was_found_is_shown(run: Run) -> None:
    assert all(each["ours"] is not None for each in run.metrics["comparison"]["figures"])
    report = study(run.workspace, **OPTIONS)
    for section in report.sections[1:]:
        kinds = [type(block) for block in section.blocks]
        assert kinds.count(Pictures) == 1
        assert kinds.count(Chart) == 2
        (clusters,) = (block for block in section.blocks if isinstance(block, Clusters))
        bars = next(block for block in section.blocks if isinstance(block, Chart) and "cluster-wise" in block.series)
        assert bars.x is not None
        at = list(bars.x).index(str(clusters.ids[0]))
        assert clusters.values[0] == bars.series["cluster-wise"][at] == max(bars.series["cluster-wise"])


def test_the_papers_saving_stands_beside_ours_where_it_gives_one(run: Run) -> None:
    report = study(run.workspace, **OPTIONS, column="cifar100")
    compared = report.metrics["comparison"]
    saving = [each for each in compared["figures"] if each["row"] == "one search"]
    assert [each["paper"] for each in saving] == [10.0, 10.0]
    assert "its K / (C + L) is 9.1, rounded up." in compared["sentences"][2]
    assert len(compared["sentences"]) == 4
    assert _claimed(100, 10, 5.0).endswith("gives no seconds; its K / (C + L) is 5.0.")


@pytest.mark.parametrize(("visited", "said"), [(6, "saves nothing"), (9, "saves nothing"), (3, "saving of 2.0 times")])
def test_many_queries_at_once_save_little(visited: int, said: str) -> None:
    found = {"num_finetunings_all_queries": visited, "num_finetunings_flat": 6, "num_queries": 12}
    assert said in _together(found)


@pytest.mark.parametrize(
    ("finetunings", "seconds", "said"),
    [
        (5, 2.0, "is 2.0 times as fast (1.5 to 2.5) as the flat search, with 2.0 times fewer fine-tunings (5 fine-tun"),
        (5, 0.9, "measurably save time: it is 0.9 times as fast (0.4 to 1.4) as the flat search, with 5 fine-tunings"),
        (11, 0.9, "saves nothing (11 fine-tunings instead of 10)"),
    ],
)
def test_a_search_that_saves_nothing_says_so(finetunings: int, seconds: float, said: str) -> None:
    counts = {"num_finetunings": finetunings, "num_finetunings_flat": 10, "saving": 10 / finetunings}
    timed = {"saving_seconds": seconds, "saving_seconds_interval": [seconds - 0.5, seconds + 0.5]}
    assert said in _saved({**counts, **timed})


def test_classes_that_the_searches_miss_are_named() -> None:
    hit, miss = ({"asked": f"image {found}", "class": 1, "class_found": found} for found in (1, 2))
    assert _traced([hit, hit]).startswith("As in Fig. 6, image 1 and image 1 are traced")
    assert _traced([hit, miss]) == "Unlike in Fig. 6, not traced to the own class: image 2."


def test_what_is_said_follows_from_what_is_stored(run: Run) -> None:
    assert says_what_is_stored(findings, run.metrics)


@pytest.mark.parametrize(
    ("interval", "outcome"), [([1.2, 2.0], "holds"), ([0.8, 1.2], "not told"), ([0.2, 0.8], "does not hold")]
)
def test_a_faster_search_is_claimed_by_its_interval(run: Run, interval: list[float], outcome: str) -> None:
    found = {**run.metrics["hierarchical_search"], "saving_seconds_interval": interval}
    *_, faster = findings({"hierarchical_search": found}).claims
    assert faster.outcome == outcome


def test_a_class_that_is_not_there_is_refused(run: Run) -> None:
    with pytest.raises(DDMError, match="no class 5: the data have 3 classes, from 0 to 2"):
        study(run.workspace, **{**OPTIONS, "query_class": 5})
