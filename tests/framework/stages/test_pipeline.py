"""A run does nothing twice, says what changed, and what it wrote can be made again to the last bit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from html_page import Page
from plugin_sites import Site, hooks
from run_fixtures import (
    assert_same_run,
    copied,
    ddm,
    finished_tiny,
    manifest,
    numbers,
    plugin,
    refused,
    save_data,
    stamps,
    tensors,
    tiny,
)

import ddm_framework
from ddm_framework.errors import PluginError, RunFolderError
from ddm_framework.recipe.settings import General
from ddm_framework.runs import safe_files
from ddm_framework.runs.run_folder import STAGES, RunFolder, locked
from ddm_framework.runs.tensor_files import load_tensors, save_tensors
from ddm_framework.stages import pipeline

OFFLINE = ("training", "partition", "matching")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_tiny(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture
def done(original: Path, tmp_path: Path) -> Path:
    """A finished run that this test may break; its recipe and data lie beside it."""
    return copied(original, tmp_path)


@pytest.fixture
def recipe(done: Path) -> Path:
    return done.parent / "tiny.yaml"


def redone(run: Path, action: Callable[[], Any]) -> list[str]:
    """The stages that are made anew."""
    before = manifest(run)["stages"]
    action()
    return [stage for stage in STAGES if manifest(run)["stages"][stage] != before[stage]]


def test_a_second_run_redoes_nothing(done: Path, recipe: Path) -> None:
    ddm_framework.run(recipe, out=done)  # so that the run knows the data beside it
    before, metrics = stamps(done), json.loads((done / "metrics.json").read_text())
    again = ddm_framework.run(recipe, out=done)
    assert stamps(done) == before
    assert again.metrics == metrics


def test_a_finished_run_can_be_run_where_nothing_can_be_written(
    done: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ddm_framework.run(recipe, out=done)

    def refuse(path: Path, _: bytes) -> None:
        raise AssertionError(f"{path} was written")

    monkeypatch.setattr(safe_files, "write_atomically", refuse)
    assert ddm_framework.run(recipe, out=done, fresh=True).metrics["target"]


def test_the_first_run_returns_what_its_file_holds(original: Path, tmp_path: Path) -> None:
    made = ddm_framework.run(tiny(tmp_path), out=tmp_path / "run")
    assert made.metrics == json.loads((made.path / "metrics.json").read_text())
    assert made.report == tmp_path / "run" / "report.html"


def test_the_written_recipe_gives_the_same_numbers(original: Path, done: Path, tmp_path: Path) -> None:
    again = ddm_framework.run(done / "recipe.yaml", out=tmp_path / "again")
    assert_same_run(again.path, done)
    assert again.path.joinpath("recipe.yaml").read_text() == (done / "recipe.yaml").read_text()


def test_the_written_recipe_spells_everything_out(done: Path) -> None:
    written = yaml.safe_load((done / "recipe.yaml").read_text())
    assert written["threads"] == 1
    assert written["device"] == "cpu"
    assert written["online"]["step_size"] == 5e-4
    assert written["dataset"]["layout"] == "auto"
    assert "extends" not in written


CHANGES = [
    ("seed=4", STAGES),
    ("training.lr=0.2", STAGES),
    ("backbone.width=5", STAGES),
    ("dataset.validation=0.5", STAGES),
    ("clusterer.clusters_per_class=3", ("partition", "matching", "online")),
    ("clusterer.features=pixels", ("partition", "matching", "online")),
    ("distance.use=mse", ("matching", "online")),
    ("matching.steps=5", ("matching", "online")),
    ("online.step_size=0.001", ("online",)),
    ("objectives=[{use: margin}]", ("online",)),
    ("study.show=2", ("online",)),
]


@pytest.mark.parametrize(("change", "stages"), CHANGES)
def test_a_changed_recipe_is_refused_and_fresh_redoes_what_depends_on_it(
    done: Path, recipe: Path, change: str, stages: tuple[str, ...]
) -> None:
    before = stamps(done)
    message = refused("run", recipe, "--out", done, "--set", change)
    assert message.startswith(f"{done} holds a run with other settings (stage {stages[0]}):\n")
    named = {"dataset.validation=0.5": "data", "objectives=[{use: margin}]": "objectives.0.use"}
    assert f"  {named.get(change, change.partition('=')[0])}: " in message
    assert stamps(done) == before
    made = redone(done, lambda: ddm_framework.run(recipe, [change], out=done, fresh=True))
    assert made == list(stages)
    kept = {name for name in before if not any(name in files(done, stage) for stage in stages)}
    kept -= {"manifest.json", "recipe.yaml"}
    assert {name: before[name] for name in kept} == {name: stamps(done)[name] for name in kept}


def files(run: Path, stage: str) -> list[str]:
    found: list[str] = manifest(run)["stages"][stage]["files"]
    return found


def test_a_run_made_fresh_is_the_one_made_anew(done: Path, recipe: Path, tmp_path: Path) -> None:
    change = ["matching.steps=2", "training.epochs=3", "training.checkpoint_every=1"]
    ddm_framework.run(recipe, change, out=done, fresh=True)
    assert_same_run(done, ddm_framework.run(recipe, change, out=tmp_path / "anew").path)


def test_a_setting_taken_back_is_the_old_run_again(done: Path, recipe: Path, original: Path) -> None:
    ddm_framework.run(recipe, ["matching.steps=2"], out=done, fresh=True)
    ddm_framework.run(recipe, out=done, fresh=True)
    assert_same_run(done, original)


def test_other_data_under_the_same_path_are_refused(done: Path, recipe: Path) -> None:
    save_data(done.parent / "data.npz", seed=1)
    assert re.search(r"\n  data: '\w+' there, '\w+' asked for\n", refused("run", recipe, "--out", done))
    ddm_framework.run(recipe, out=done, fresh=True)
    assert not re.search("other settings", ddm("run", recipe, "--out", done)[2])


def test_the_same_data_under_another_path_are_the_same_data(done: Path, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
    before = stamps(done)
    ddm_framework.run(recipe, [f"dataset.path={tmp_path / 'moved.npz'}"], out=done)
    assert {name for name, stamp in stamps(done).items() if stamp != before[name]} == {"recipe.yaml"}
    assert len(ddm_framework.open_run(done).workspace.data.train) == 36


def test_a_moved_run_goes_on(done: Path, recipe: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    ddm_framework.run(recipe, out=done)
    done.rename(moved)
    before = stamps(moved)
    ddm_framework.run(recipe, out=moved)
    assert stamps(moved) == before
    ddm_framework.run(recipe, ["matching.steps=2"], out=moved, fresh=True)


def test_a_recipe_means_the_same_from_every_folder(
    done: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ddm_framework.run(recipe, out=done)
    before = stamps(done)
    for folder, name in ((recipe.parent, "tiny.yaml"), (recipe.parents[1], f"{recipe.parent.name}/tiny.yaml")):
        monkeypatch.chdir(folder)
        assert ddm("run", name, "--out", done)[0] == 0
    assert stamps(done) == before


def test_the_run_folder_is_named_after_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ddm_framework.run(tiny(tmp_path)).path == Path("runs") / "tiny"


def test_what_is_automatic_is_what_the_run_was_begun_with(done: Path, recipe: Path, tmp_path: Path) -> None:
    ddm_framework.run(recipe, out=done)
    before = stamps(done)
    automatic = ddm_framework.run(recipe, ["threads=auto", "device=auto"], out=done).workspace.recipe
    assert (automatic.general.threads, automatic.general.device) == (1, "cpu")
    assert stamps(done) == before
    begun = RunFolder(tmp_path)
    begun.manifest = {"stages": {"training": {"inputs": {"threads": 3, "device": "cpu"}}}}
    unsettled = automatic.with_general(General(threads="auto", device="auto"))
    settled, device = pipeline.settle(unsettled, begun)
    assert (settled.general.threads, torch.get_num_threads(), device.type) == (3, 3, "cpu")


def test_another_number_of_threads_or_another_device_is_another_input(done: Path, recipe: Path) -> None:
    assert "\n  threads: 1 there, 2 asked for\n" in refused("run", recipe, "--out", done, "--set", "threads=2")
    assert refused("run", recipe, "--out", done, "--device", "cuda")


def test_another_file_of_weights_under_the_same_name_is_another_input(tmp_path: Path) -> None:
    source = """
from pathlib import Path
from torch import nn

def target(data, /, *, weights: Path | None = None):
    module = nn.Sequential(nn.Flatten(), nn.Linear(data.num_values, data.num_classes))
    nn.init.constant_(module[1].bias, len(weights.read_bytes()))
    return module
"""
    weighted = plugin(tmp_path / "weighted.py", "backbone", "weighted", source)
    recipe = tiny(tmp_path, backbone="{use: weighted, weights: weights.bin}")
    arguments = ("run", recipe, "--out", tmp_path / "run", "--plugin", weighted)
    (tmp_path / "weights.bin").write_bytes(b"1")
    assert ddm(*arguments)[0] == 0
    (tmp_path / "weights.bin").write_bytes(b"22")
    assert "backbone.contents." in refused(*arguments)


OBJECTIVE = """
@objective(more_influential="larger")
def target(logits, reference, /):
    return {factor} * logits[:, :1]
"""


def test_edited_code_of_a_local_plugin_is_another_input(tmp_path: Path) -> None:
    mine = plugin(tmp_path / "mine.py", "objective", "mine", OBJECTIVE.format(factor=1))
    arguments = ("run", tiny(tmp_path, objectives="[{use: mine}]"), "--out", tmp_path / "run", "--plugin", mine)
    assert ddm(*arguments)[0] == 0
    plugin(mine, "objective", "mine", OBJECTIVE.format(factor=2))
    assert "objectives" in refused(*arguments)
    before = tensors(tmp_path / "run")["online/attribution.safetensors:0.mine.matrix"]
    assert redone(tmp_path / "run", lambda: ddm(*arguments, "--fresh")) == ["online"]
    after = tensors(tmp_path / "run")["online/attribution.safetensors:0.mine.matrix"]
    assert torch.allclose(after, 2 * before)


ASKING = """
def target(workspace, /):
    found = workspace.effects_by(workspace.queries_of("test"), workspace.objectives[0], "mine").effect
    return Report([], metrics={"found": float(found.sum())})
"""


def test_edited_code_of_an_attributor_that_the_study_names_is_another_input_of_it(tmp_path: Path) -> None:
    source = "def target(workspace, queries, objective, /):\n    return torch.zeros(len(queries), 6, 1)"
    mine = plugin(tmp_path / "mine.py", "attributor", "mine", source)
    asking = plugin(tmp_path / "asking.py", "study", "asking", ASKING)
    recipe = tiny(tmp_path, study="{use: asking}")
    arguments = ("run", recipe, "--out", tmp_path / "run", "--plugin", mine, "--plugin", asking)
    assert ddm(*arguments)[0] == 0
    assert ddm(*arguments)[0] == 0
    mine.write_text(mine.read_text().replace("zeros", "ones"))
    assert "the code of attributor mine has changed" in refused(*arguments)
    assert redone(tmp_path / "run", lambda: ddm(*arguments, "--fresh")) == ["online"]
    assert numbers(tmp_path / "run")["found"] == 72


def test_edited_code_that_a_study_never_asked_for_changes_nothing(tmp_path: Path) -> None:
    source = "def target(workspace, queries, objective, /):\n    return torch.zeros(len(queries), 6, 1)"
    mine = plugin(tmp_path / "mine.py", "attributor", "mine", source)
    arguments = ("run", tiny(tmp_path), "--out", tmp_path / "run", "--plugin", mine)
    assert ddm(*arguments)[0] == 0
    mine.write_text(mine.read_text() + "\n# changed\n")
    assert ddm(*arguments)[0] == 0


INSTALLED = {
    "__init__.py": hooks('yield Component("installed", "fake_study.study:run")', "ddm_register_studies"),
    "study.py": "from ddm_framework import Report\nfrom fake_study.helper import value\n"
    "def run(workspace, /):\n    return Report([], metrics={'found': value()})\n",
    "helper.py": "from fake_study import deeper\ndef value():\n    return deeper.VALUE\n",
    "deeper.py": "VALUE = 1\n",
    "apart.py": "",
}


def installed(site: Path) -> Site:
    """A package with a study, laid out as pip installs it."""
    made = Site(site)
    made.add("fake_study", "")
    (site / "fake_study.py").unlink()
    (site / "fake_study").mkdir()
    for name, text in INSTALLED.items():
        (site / "fake_study" / name).write_text(text)
    return made


def test_a_changed_helper_of_an_installed_study_runs_it_again(tmp_path: Path) -> None:
    arguments = ("run", tiny(tmp_path, study="{use: installed}"), "--out", tmp_path / "run")
    with installed(tmp_path / "site"):
        assert ddm(*arguments)[0] == 0
    assert numbers(tmp_path / "run")["found"] == 1
    (tmp_path / "site" / "fake_study" / "apart.py").write_text("# not imported\n")
    with Site(tmp_path / "site"):
        assert redone(tmp_path / "run", lambda: ddm(*arguments)) == []
    (tmp_path / "site" / "fake_study" / "deeper.py").write_text("VALUE = 20\n")
    with Site(tmp_path / "site"):
        assert "study.code: the code has changed" in refused(*arguments)
        assert redone(tmp_path / "run", lambda: ddm(*arguments, "--fresh")) == ["online"]
    assert numbers(tmp_path / "run")["found"] == 20


def test_a_setting_that_is_added_later_leaves_a_run_as_it_is(original: Path, tmp_path: Path) -> None:
    run = copied(original, tmp_path / "old")
    noted = manifest(run)
    stages = noted["stages"]
    # As if an earlier version had written it, which knew neither of these settings nor digested code.
    del stages["training"]["inputs"]["training"]["schedule"], stages["training"]["inputs"]["backbone"]["code"]
    del stages["partition"]["inputs"]["clusterer"]["restarts"], stages["online"]["inputs"]["certificate"]
    stages["training"]["hash"] = "1" * 32
    stages["partition"]["inputs"]["after"] = "1" * 32
    for path in run.glob("offline/trajectory/*.safetensors"):
        save_tensors(path, load_tensors(path), {"inputs": "1" * 32, "file": path.relative_to(run).as_posix()})
    (run / "manifest.json").write_text(json.dumps(noted))
    assert redone(run, lambda: ddm("run", run.parent / "tiny.yaml", "--out", run)) == []
    changed = ("run", run.parent / "tiny.yaml", "--out", run, "--set", "training.schedule=cosine")
    told = refused(*changed)
    assert "training.schedule: nothing there, 'cosine' asked for" in told
    assert f"it was made by ddm-framework {version('ddm-framework')}, and this is {version('ddm-framework')}" in told


def test_metrics_have_every_name_that_others_read(original: Path) -> None:
    metrics = json.loads((original / "metrics.json").read_text())
    assert 0 <= metrics["target"]["test_accuracy"] <= 1
    assert len(metrics["matching"]["cosine"]) == 6
    assert metrics["matching"]["mean_cosine"] == pytest.approx(np.mean(metrics["matching"]["cosine"]))
    assert metrics["matching"]["class_mean_cosine"] == pytest.approx(np.mean(metrics["matching"]["class_cosine"]))
    assert metrics["online"]["num_finetunings"] == 6
    assert 0 <= metrics["attribution"]["top_class_agreement"] <= 1
    assert metrics["seconds"].keys() == {*STAGES, "report", "total"}
    seconds = metrics["seconds"]
    assert seconds["total"] == pytest.approx(sum(seconds[each] for each in (*STAGES, "report")), abs=1e-2)
    assert all(value >= 0 for value in seconds.values())


def test_the_manifest_says_what_the_run_was_made_with(original: Path) -> None:
    noted = manifest(original)
    assert (noted["recipe"], noted["seed"], noted["threads"], noted["device"]) == ("tiny", 3, 1, "cpu")
    assert noted["data"]["sizes"] == {"train": 36, "validation": 12, "test": 12}
    assert "ddm-framework:datasets" in noted["plugins"]
    assert noted["versions"]["torch"]
    assert all(noted["stages"][stage]["done"] and noted["stages"][stage]["hash"] for stage in STAGES)


HOSTILE = '</style><script>alert(1)</script><img src="https://example.org/x.png" onerror="alert(1)">'


def test_the_report_reaches_for_nothing_and_runs_nothing_but_its_own_search(tmp_path: Path) -> None:
    save_data(tmp_path / "data.npz", class_names=np.array([HOSTILE, "b & c", "ünï"]))
    recipe = tiny(tmp_path).rename(tmp_path / "<b>tiny.yaml")
    html = ddm_framework.run(recipe, out=tmp_path / "<i>run").report.read_text(encoding="utf-8")
    assert not re.search(r"url\((?!data:image/png|#)", html)
    found = Page(html)
    assert not {tag for tag, _ in found.tags} & {"link", "iframe", "object", "embed", "base", "form"}
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [{}]  # the page's own, which searches
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert attributes.get("src", "data:image/png").startswith("data:image/png")
        assert attributes.get("href", "#").startswith("#")
    assert HOSTILE in found.text
    assert "<b>tiny" in found.text
    assert "b &amp; c" in html
    assert "ünï" in html


def test_a_study_and_a_dataset_that_return_something_else_are_named(tmp_path: Path) -> None:
    study = plugin(tmp_path / "s.py", "study", "mine", "def target(workspace, /):\n    return {}")
    with pytest.raises(PluginError, match="study 'mine' must return a Report, returned dict"):
        ddm_framework.run(tiny(tmp_path, study="{use: mine}"), out=tmp_path / "run", plugins=[study])
    dataset = plugin(tmp_path / "d.py", "dataset", "mine", "def target():\n    return None")
    with pytest.raises(PluginError, match=r"dataset 'mine' of plugin .* must return DataSplits, returned NoneType"):
        ddm_framework.run(tiny(tmp_path, dataset="{use: mine}"), out=tmp_path / "other", plugins=[dataset])
    assert not (tmp_path / "other").exists()


def test_a_study_may_report_numbers_of_any_library_and_its_own_target(tmp_path: Path) -> None:
    source = """
import numpy
def target(workspace, /):
    metrics = {"mine": {"a": numpy.float32(0.5), "b": torch.tensor([1.0, float("nan")])}, "target": {"more": 1}}
    return Report([], metrics)
"""
    mine = plugin(tmp_path / "mine.py", "study", "mine", source)
    run = ddm_framework.run(tiny(tmp_path, study="{use: mine}"), out=tmp_path / "run", plugins=[mine])
    assert run.metrics["mine"] == {"a": 0.5, "b": [1.0, None]}
    assert run.metrics["target"].keys() == {"more", "train_accuracy", "validation_accuracy", "test_accuracy"}
    assert tensors(run.path).keys() == {name for name in tensors(run.path) if name.startswith("offline/")}


def test_a_run_without_validation_split_has_no_validation_accuracy(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, dataset="{use: npz, path: data.npz, validation: 0}")
    assert ddm_framework.run(recipe, out=tmp_path / "run").metrics["target"].keys() == {
        "train_accuracy",
        "test_accuracy",
    }


def test_the_folder_of_another_recipe_is_refused(done: Path, recipe: Path, tmp_path: Path) -> None:
    other = tiny(tmp_path / "other", backbone="{use: convnet, width: 3}", objectives="[{use: margin}]")
    message = refused("run", other, "--out", done)
    assert "backbone.width: 4 there, 3 asked for" in message
    assert "choose another folder with --out" in message


def test_a_folder_in_use_is_refused(done: Path, recipe: Path) -> None:
    with locked(done):
        assert "another ddm works in" in refused("run", recipe, "--out", done)


def test_what_the_folder_cannot_be_is_said_before_data_are_loaded(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, dataset="{use: npz, path: nowhere.npz}")
    with pytest.raises(RunFolderError, match="has no manifest"):
        ddm_framework.run(recipe, out=tmp_path)
