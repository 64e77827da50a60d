"""A certificate with sets and single clusters: figures before and after the correction, and amounts with intervals."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_fixtures import ddm, numbers, tiny
from torch import Tensor

import ddm_framework
from ddm_framework import DDMError, RecipeError, Run
from ddm_framework.online import log_odds
from ddm_framework.recipe.settings import Certificate
from ddm_framework.truth import amounts_of, bank_logits, explained, retrained
from ddm_framework.truth.agreement import leave_one_out_spearman, sampled_explained_interval
from ddm_framework.truth.calibration import Calibration, Fidelity, SingleEffects, named_and_random, without_each
from ddm_framework.truth.corrected import centred, estimated_changes, random_fifths, true_changes
from ddm_framework.truth.correction import Strength, left_out
from ddm_framework.truth.spread import Spread

ASKED = {"certificate": "{retrainings: 6, singles: 4}", "online": "{replay: 2}"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("calibration")
    return ddm_framework.run(tiny(folder, **ASKED), out=folder / "runs" / "tiny")


def test_figures_are_those_of_the_sets_before_and_after(run: Run) -> None:
    workspace, found = run.workspace, run.certificate
    assert found is not None
    assert (found["of"], found["num_retrainings"], found["objective"]) == ("sets", 6, "output_shift")
    queries, sets = workspace.queries_of("test"), random_fifths(workspace, 6)
    reference, objective = workspace.reference(queries), workspace.objectives[0]

    def effect(change: Tensor) -> Tensor:
        return objective.effect_on((reference.target_logits + change).float(), reference)[:, :, 0]

    true, raw = true_changes(workspace, queries, sets), estimated_changes(workspace, queries, sets)
    own = centred(raw)
    after = raw - own + left_out(1 - sets, own.flatten(1), true.flatten(1)).view_as(own)
    for told, change in ((found, raw), (found["corrected"], after)):
        assert told["spearman"] == pytest.approx(float(leave_one_out_spearman(effect(change), effect(true)).mean()))
        assert told["r2"] == pytest.approx(explained(effect(change), effect(true)), abs=1e-5)
        for name in ("spearman", "r2"):
            low, high = told[f"{name}_interval"]
            assert low <= high <= 1
    assert found["corrected"]["scale"] >= 0


def test_singles_are_those_named_first_most_often_and_others(run: Run) -> None:
    workspace = run.workspace
    queries, objective = workspace.queries_of("test"), workspace.objectives[0]
    first = objective.ranking(workspace.attribution(queries, objective).effect)[:, 0].bincount(minlength=6)
    chosen = named_and_random(workspace, queries, objective, 4)
    assert list(chosen) == run.metrics["certificate"]["singles"]["clusters"]
    assert len(set(chosen)) == 4
    assert sorted(first[list(chosen[:2])].tolist()) == sorted(first.sort().values[-2:].tolist())
    assert named_and_random(workspace, queries, objective, 0) == ()
    assert sorted(named_and_random(workspace, queries, objective, 50)) == list(range(6))


def test_time_of_the_certificate_stands_apart(run: Run) -> None:
    seconds = run.metrics["seconds"]
    assert seconds["certificate"] > 0
    assert seconds["total"] == pytest.approx(sum(v for name, v in seconds.items() if name != "total"), abs=1e-2)
    recorded = run.workspace.folder.seconds()["online"]
    assert seconds["online"] == pytest.approx(recorded)


def test_amounts_of_retrained_clusters_are_the_truth_and_the_others_have_intervals(run: Run) -> None:
    workspace, queries = run.workspace, run.workspace.queries_of("test")
    told, clusters = amounts_of(workspace, queries), run.metrics["certificate"]["singles"]["clusters"]
    assert told is not None
    logits = bank_logits(workspace, retrained(workspace, without_each(workspace, clusters)), queries)
    said = workspace.target_logits(queries.images).argmax(1)
    truth = log_odds(logits, said).sigmoid().T
    torch.testing.assert_close(told.without[:, clusters], truth, atol=1e-5, rtol=1e-4)
    assert told.retrained.nonzero()[:, 0].tolist() == sorted(clusters)
    assert torch.equal(told.low[:, clusters], told.high[:, clusters])
    others = (~told.retrained).nonzero()[:, 0]
    assert bool((told.low[:, others] < told.high[:, others]).all())
    assert bool(((told.low >= 0) & (told.high <= 1)).all())
    some = amounts_of(workspace, queries, [3, 5])
    assert some is not None
    torch.testing.assert_close(some.without, told.without[[3, 5]], atol=1e-5, rtol=1e-4)


def test_the_report_and_the_command_line_tell_them(run: Run, tmp_path: Path) -> None:
    text = run.report.read_text(encoding="utf-8")
    assert "Without cluster" in text
    assert "the network was retrained without it" in text or "90% interval" in text
    assert "random fifths of the clusters" in text
    assert "single clusters, those that are named first most often" in text
    from torchvision.utils import save_image

    picture = tmp_path / "query.png"
    save_image(run.workspace.info.to_pixels(run.workspace.queries_of("test").images[0]), picture)
    asked = ("attribute", run.path, "--images", picture, "--out", tmp_path / "page.html")
    status, out, err = ddm(*asked)
    assert status == 0, err
    assert "without it" in out
    answered = json.loads(ddm(*asked, "--json")[1])
    listed = answered["queries"][0]["clusters"]
    assert all({"value", "interval", "level", "retrained"} == set(each["probability_without"]) for each in listed)
    by_another = json.loads(ddm(*asked, "--by", "gradient", "--json")[1])
    assert not any("probability_without" in each for each in by_another["queries"][0]["clusters"])


def test_python_tells_them(run: Run) -> None:
    queries = run.workspace.queries_of("test")
    told = run.amounts(queries.images)
    assert told is not None
    assert told.without.shape == (len(queries), 6)
    assert told.level == 0.9
    opened = ddm_framework.open_run(run.path)
    again = opened.amounts(queries.images)
    assert again is not None
    torch.testing.assert_close(again.low, told.low, atol=1e-6, rtol=1e-5)
    assert opened.certificate == run.certificate


def test_without_its_networks_directions_alone_are_told(run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "runs" / "tiny"
    shutil.copytree(run.path.parent.parent, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(moved.parent / "bank")
    opened = ddm_framework.open_run(moved)
    assert opened.amounts(opened.workspace.queries_of("test").images) is None
    assert not (moved.parent / "bank").exists()  # a question retrains nothing


def test_no_retrainings_leave_singles_out_too() -> None:
    assert Certificate.model_validate({"retrainings": 20, "singles": 10}).changed({"retrainings": 0}).retrainings == 0
    assert Certificate.model_validate({"retrainings": 0, "singles": 10}).retrainings == 0


def test_without_singles_there_are_no_amounts(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, certificate="{retrainings: 4, singles: 0}")
    run = ddm_framework.run(recipe, out=tmp_path / "runs" / "tiny")
    assert "singles" not in run.metrics["certificate"]
    assert run.metrics["certificate"]["spearman_interval"] == [-1, 1]  # four sets say nothing of others
    assert run.amounts(run.workspace.queries_of("test").images) is None
    assert "Without cluster" not in run.report.read_text(encoding="utf-8")


def test_a_recipe_without_the_new_setting_means_what_it_meant(tmp_path: Path) -> None:
    run = ddm_framework.run(tiny(tmp_path, certificate="{retrainings: 4}"), out=tmp_path / "runs" / "tiny")
    assert run.metrics["certificate"].keys() == {
        *("of", "num_retrainings", "objective", "clusters", "spearman", "spearman_interval", "seconds")
    }
    assert run.metrics["certificate"]["of"] == "clusters"


def test_what_the_study_finds_does_not_depend_on_the_certificate(run: Run, tmp_path: Path) -> None:
    plain = ddm_framework.run(tiny(tmp_path, online="{replay: 2}"), out=tmp_path / "runs" / "tiny")
    assert numbers(plain.path)["attribution"] == numbers(run.path)["attribution"]
    assert "certificate" not in plain.metrics["seconds"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{retrainings: 20, singles: 2}", "errors of one or two clusters say nothing"),
        ("{retrainings: 2, singles: 4}", "0, or 3 and more"),
        ("{singles: 6}", "singles go with retrainings"),
        ("{retrainings: 20, singles: -1}", "greater than or equal to 0"),
    ],
)
def test_settings_that_say_nothing_are_refused(tmp_path: Path, settings: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        ddm_framework.run(tiny(tmp_path, certificate=settings), out=tmp_path / "runs" / "tiny")


def test_the_interval_of_r2_holds_that_of_all_sets() -> None:
    random = torch.Generator().manual_seed(0)
    held = []
    for _ in range(200):
        weight = 0.5 + torch.rand(1, 400, generator=random, dtype=torch.float64)  # sets differ in how well they go
        true = torch.randn(30, 400, generator=random, dtype=torch.float64) * weight
        effect = true + 0.5 * weight**2 * torch.randn(30, 400, generator=random, dtype=torch.float64)
        low, high = sampled_explained_interval(effect[:, :20], true[:, :20])
        held.append(low <= explained(effect, true) <= high)
    assert sum(held) / len(held) == pytest.approx(0.95, abs=0.04)


def test_the_interval_of_r2_of_few_or_of_the_truth_itself() -> None:
    true = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    assert sampled_explained_interval(true[:, :4] * 0.9, true[:, :4]) == (-math.inf, 1.0)
    assert sampled_explained_interval(true, true) == (1.0, 1.0)


def found(retrainings: int, interval: tuple[float, float], coverage: float) -> Calibration:
    figures = Fidelity(0.61, (0.5, 0.7), 0.4, interval)
    single = SingleEffects((3, 1, 2), 0.5, 0.8, Strength(1, 2, 0), Spread(0.1, 0.2, 0.3, 0.9), coverage)
    return Calibration("margin", retrainings, figures, figures, Strength(1.5, math.inf, 0.1), single, 2.0)


def test_sentences_say_no_more_than_the_figures() -> None:
    told = found(20, (0.1, 0.6), 0.93).sentences()
    assert "0.61 (0.50 to 0.70)" in told[0]
    assert "0.40 (0.10 to 0.60)" in told[0]
    assert "3 single clusters" in told[1]
    assert "93% of the effects that matter" in told[1]
    few = found(3, (-math.inf, 1.0), math.nan).sentences()
    assert not any("inf" in each or "nan" in each for each in few)
    assert few[-1].startswith("Fewer than 5 sets")
    assert not any("online.replay: 0" in each for each in told)
    alone = replace(found(20, (0.1, 0.6), 0.9), step_alone=True).sentences()
    assert any("online.replay: 0" in each for each in alone)
    assert found(20, (0.1, 0.6), 0.9).metrics()["corrected"]["penalty"] is None


def test_a_target_that_no_cluster_changes_is_named(tmp_path: Path) -> None:
    training = "{epochs: 4, lr: 1.0e-30, batch_size: 16, checkpoint_every: 2}"
    recipe = tiny(tmp_path, training=training, certificate="{retrainings: 3, singles: 3}")
    with pytest.raises(DDMError, match="is the target trained at all"):
        ddm_framework.run(recipe, out=tmp_path / "runs" / "tiny")
