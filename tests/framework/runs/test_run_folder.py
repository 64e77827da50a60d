"""A run folder takes in nothing that is not its own, and knows which of its stages can be kept."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import in_process

from ddm_framework.errors import RunFolderError
from ddm_framework.runs.provenance import StageInputs, environment
from ddm_framework.runs.run_folder import STAGES, RunFolder, locked, stage_files
from ddm_framework.runs.safe_files import save_text
from ddm_framework.runs.tensor_files import save_tensors

FILES = {
    "training": ("offline/trajectory/epoch_000.safetensors", "offline/trajectory/epoch_001.safetensors"),
    "partition": ("offline/partition.safetensors",),
    "matching": ("offline/synset.safetensors",),
    "online": ("online/attribution.safetensors", "metrics.json", "report.html", "samples.csv"),
}


def inputs(**changes: Any) -> dict[str, StageInputs]:
    """Of the four stages; `training=2` changes what the training is made from, and with it all that follows."""
    found: dict[str, StageInputs] = {}
    after = ""
    for stage in STAGES:
        found[stage] = StageInputs({"after": after, stage: {"value": changes.get(stage, 1)}})
        after = found[stage].digest
    return found


def write(folder: RunFolder, stage: str, names: Sequence[str]) -> None:
    for name in names:
        path = folder.file(*name.split("/"))
        if path.suffix == ".safetensors":
            save_tensors(path, {"x": torch.zeros(3)}, folder.stamp(stage, path))
        else:
            save_text(path, "{}")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run."""
    folder = RunFolder.open(tmp_path / "run")
    given = inputs()
    folder.claim(given, fresh=False)
    for stage, names in FILES.items():
        with folder.stage(stage, given[stage]):
            write(folder, stage, names)
    return folder


def reopened(folder: RunFolder) -> RunFolder:
    return RunFolder.open(folder.path)


def done(folder: RunFolder) -> list[str]:
    return [stage for stage in STAGES if reopened(folder).is_done(stage)]


def held(folder: RunFolder) -> list[str]:
    return [name for stage in STAGES for name in FILES[stage] if folder.file(*name.split("/")).exists()]


def test_a_new_and_an_empty_folder_are_taken(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "new" / "er"):
        assert RunFolder.open(path).manifest == {"stages": {}}


def test_what_a_killed_process_was_about_to_write_keeps_no_folder_from_being_taken(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.17.partial").write_text("{")
    RunFolder.open(tmp_path).claim(inputs(), fresh=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["thesis.tex", "recipe.yaml", "metrics.json", "offline", ".hidden"])
def test_a_folder_with_other_things_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(RunFolderError, match=r"no manifest\.json, so it is not a run folder of ddm; choose another"):
        RunFolder.open(tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(RunFolderError, match="run exists and has no manifest"):
        RunFolder.open(tmp_path / "run")
    with pytest.raises(RunFolderError, match="run exists and is not a run folder"), locked(tmp_path / "run"):
        pass
    with pytest.raises(RunFolderError, match="cannot make the run folder"), locked(tmp_path / "run" / "deeper"):
        pass


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="the name is longer than the system allows"):
        RunFolder.open(tmp_path / ("n" * 300))
    with pytest.raises(RunFolderError, match="holds no run of ddm"):
        RunFolder.existing(tmp_path / ("n" * 300))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"stages": []}', '{"stages": {"training": 3}}'])
def test_a_manifest_that_is_none_is_refused(folder: RunFolder, content: str) -> None:
    (folder.path / "manifest.json").write_text(content)
    for opening in (RunFolder.open, RunFolder.existing):
        with pytest.raises(RunFolderError, match=r"manifest\.json is not .*, so .* is not a run folder of ddm"):
            opening(folder.path)
    assert held(folder) == [name for names in FILES.values() for name in names]


def test_a_folder_in_the_place_of_the_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(RunFolderError, match="is not a run folder of ddm"):
        RunFolder.open(tmp_path)


def test_a_manifest_that_cannot_be_written_is_named(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    before = (folder.path / "manifest.json").read_text()
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RunFolderError, match=r"cannot write .*manifest\.json: permission is denied"):
        folder.note(more=1)
    assert (folder.path / "manifest.json").read_text() == before


def test_only_a_finished_run_exists(folder: RunFolder, tmp_path: Path) -> None:
    RunFolder.existing(folder.path)
    with pytest.raises(RunFolderError, match=r"holds no run of ddm \(no manifest.json\); make one with `ddm run"):
        RunFolder.existing(tmp_path)
    folder.discard(["matching", "online"])
    with pytest.raises(RunFolderError, match=r"is not finished \(matching, online\); run its recipe again to go on"):
        RunFolder.existing(folder.path)


def test_the_same_inputs_keep_everything(folder: RunFolder) -> None:
    for fresh in (False, True):
        reopened(folder).claim(inputs(), fresh=fresh)
        assert done(folder) == list(STAGES)
    assert held(folder) == [name for names in FILES.values() for name in names]


def test_digests_depend_on_what_is_hashed_alone() -> None:
    assert StageInputs({"a": 1, "b": 2}).digest == StageInputs({"b": 2, "a": 1}, {"path": "x"}).digest
    assert StageInputs({"a": 1}).digest != StageInputs({"a": 1.5}).digest


@pytest.mark.parametrize("changed", STAGES)
def test_other_inputs_are_refused_with_what_differs(folder: RunFolder, changed: str) -> None:
    with pytest.raises(RunFolderError) as refusal:
        reopened(folder).claim(inputs(**{changed: 2}), fresh=False)
    first, *differing, last = str(refusal.value).splitlines()
    assert first == f"{folder.path} holds a run with other settings (stage {changed}):"
    assert differing == [f"  {changed}.value: 1 there, 2 asked for"]
    assert last.endswith("with --fresh")
    assert done(folder) == list(STAGES)


@pytest.mark.parametrize("changed", STAGES)
def test_fresh_discards_the_first_changed_stage_and_what_follows(folder: RunFolder, changed: str) -> None:
    reopened(folder).claim(inputs(**{changed: 2}), fresh=True)
    kept = STAGES[: STAGES.index(changed)]
    assert done(folder) == list(kept)
    assert held(folder) == [name for stage in kept for name in FILES[stage]]


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def foreign(path: Path) -> None:
    save_tensors(path, {"x": torch.zeros(3)})


def renamed(path: Path) -> None:
    other = next(each for each in path.parents[1].rglob("*.safetensors") if each != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [missing, truncated, foreign, renamed])
@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_file_is_named_and_fresh_makes_its_stage_again(folder: RunFolder, damage: Any, stage: str) -> None:
    path = folder.file(*FILES[stage][0].split("/"))
    damage(path)
    with pytest.raises(RunFolderError, match=rf"{path.name} is .*; run with --fresh to make it again"):
        reopened(folder).claim(inputs(), fresh=False)
    assert done(folder) == list(STAGES)
    reopened(folder).claim(inputs(), fresh=True)
    assert done(folder) == list(STAGES[: STAGES.index(stage)])


def test_a_missing_report_and_broken_metrics_are_damage_too(folder: RunFolder) -> None:
    (folder.path / "metrics.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"metrics\.json is not readable JSON"):
        folder.claim(inputs(), fresh=False)
    (folder.path / "metrics.json").write_text("{}")
    (folder.path / "report.html").unlink()
    with pytest.raises(RunFolderError, match=r"report\.html is missing"):
        folder.claim(inputs(), fresh=False)


def test_files_that_are_not_its_own_are_nothing_to_the_run(folder: RunFolder) -> None:
    strangers = ["offline/trajectory/epoch_099.safetensors", "online/net.safetensors", "offline/notes.txt"]
    for name in strangers:
        save_text(folder.file(*name.split("/")), "mine")
    reopened(folder).claim(inputs(), fresh=False)
    assert [path.name for path in folder.files("training")] == ["epoch_000.safetensors", "epoch_001.safetensors"]
    reopened(folder).claim(inputs(online=2), fresh=True)
    assert all(folder.file(*name.split("/")).read_text() == "mine" for name in strangers)


def test_a_stage_that_fails_is_not_done_and_keeps_its_files(folder: RunFolder) -> None:
    given = inputs(matching=2)
    folder.claim(given, fresh=True)
    with pytest.raises(ZeroDivisionError), folder.stage("matching", given["matching"]):
        write(folder, "matching", ["offline/synset/class_00000_00003.safetensors"])
        raise ZeroDivisionError
    assert done(folder) == ["training", "partition"]
    again = reopened(folder)
    again.claim(given, fresh=False)
    with again.stage("matching", given["matching"]):
        assert (folder.path / "offline/synset/class_00000_00003.safetensors").is_file()
    assert done(folder) == ["training", "partition", "matching"]


def test_leftovers_of_another_run_are_not_taken_for_a_new_stage(folder: RunFolder) -> None:
    for stage in STAGES:
        folder.manifest["stages"].pop(stage)
    given = inputs(training=2)
    folder.claim(given, fresh=False)
    with folder.stage("training", given["training"]):
        assert stage_files(folder.path, "training") == []


def test_seconds_add_up_over_interruptions_and_stop_where_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    given = inputs()
    with pytest.raises(KeyboardInterrupt), RunFolder.open(tmp_path).stage("online", given["online"]) as spent:
        clock[0] += 3
        spent.saved()
        clock[0] += 2  # was not saved, so it is lost
        raise KeyboardInterrupt
    folder = RunFolder.open(tmp_path)
    with folder.stage("online", given["online"]) as spent:
        clock[0] += 4
        spent.stop()
        clock[0] += 50
    assert RunFolder.open(tmp_path).seconds() == {"online": 7.0}


def test_partial_files_are_swept_but_not_those_of_a_question_being_answered(folder: RunFolder) -> None:
    names = [".a.1.partial", "offline/.b.2.partial", "offline/trajectory/.c.3.partial", "online/.d.4.partial"]
    for name in (*names, "questions/.1.html.5.partial"):
        save_text(folder.file(*name.split("/")), "half")
    folder.claim(inputs(), fresh=False)
    assert [path.name for path in folder.path.rglob("*.partial")] == [".1.html.5.partial"]
    assert done(folder) == list(STAGES)


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(RunFolderError, match=r"another ddm works in .* right now"), locked(tmp_path):
            pass
        with locked(tmp_path / "another"):
            pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


def test_a_process_that_died_locks_nobody_out(tmp_path: Path) -> None:
    assert in_process(die_in, tmp_path) == -9
    assert (tmp_path / "was here").exists()
    with locked(tmp_path):
        pass


def die_in(path: Path) -> None:
    with locked(path):
        (path / "was here").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_environment_is_told() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert {"python", "ddm-framework", "torch", "numpy", "safetensors"} <= found["versions"].keys()
    assert found["versions"]["torch"].startswith(torch.__version__.partition("+")[0])


def test_what_is_done_apart_does_not_count(tmp_path: Path) -> None:
    folder, wanted = RunFolder.open(tmp_path / "run"), inputs()
    (tmp_path / "run").mkdir()
    with folder.stage("training", wanted["training"]) as clock:
        time.sleep(0.02)
        with clock.apart():
            time.sleep(0.5)
        clock.saved()
    assert 0.02 <= folder.seconds()["training"] < 0.4
