"""Unlearning: what is forgotten is named, forgets by the synset alone, and takes no part in the repair."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_fixtures import copied, finished_digits, refused
from torch import Tensor, nn

import ddm_framework
from ddm_framework import DDMError, Workspace
from ddm_framework.answers import unlearning
from ddm_framework.answers.unlearning import Repair, class_step_size, judged_on, request, retained, unlearn, unlearn_to
from ddm_framework.api import Run
from ddm_framework.data.splits import ImageSet
from ddm_framework.network.stacks import norms


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "digits"
    folder.mkdir(exist_ok=True)
    return finished_digits(folder)


@pytest.fixture
def gone(run: Run, tmp_path: Path) -> Path:
    """A run whose data are no more."""
    done = copied(run.path, tmp_path)
    ddm_framework.run(done.parent / "tiny.yaml", out=done)  # so that the run knows the data beside it
    (done.parent / "data.npz").unlink()
    return done


def weights(module: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in module.parameters()])


@pytest.mark.parametrize(
    ("clusters", "classes", "message"),
    [
        ([], [], "name at least one cluster to unlearn, from 0 to 5, or at least one class"),
        ([0], [0], "name clusters to unlearn or whole classes, not both"),
        ([6], [], "there is no cluster 6; clusters are 0 to 5"),
        ([], ["3"], "there is no class '3'"),
        ([], [-1], "there is no class '-1'"),
        ([], [0, 1, 2], "every class was named; keep at least one"),
    ],
)
def test_what_cannot_be_forgotten_is_named(
    workspace: Workspace, clusters: list[int], classes: list[int | str], message: str
) -> None:
    with pytest.raises(DDMError) as found:
        request(workspace, clusters, classes)
    assert str(found.value).startswith(message)


def test_an_unknown_class_is_told_the_nearest_names(workspace: Workspace) -> None:
    workspace.__dict__["info"] = replace(workspace.info, class_names=("cat", "dog", "deer"))
    with pytest.raises(DDMError, match=r"there is no class 'cta'; did you mean 'cat'\?; classes are cat, dog, deer"):
        request(workspace, classes=["cta"])
    assert request(workspace, classes=["deer", "0"]).classes == (0, 2)


def test_a_class_is_all_of_its_clusters(workspace: Workspace) -> None:
    asked = request(workspace, classes=[1])
    assert asked.clusters == (2, 3)
    assert asked.classes == (1,)
    assert not (retained(workspace, asked).labels == 1).any()
    assert len(retained(workspace, asked)) == int((workspace.data.train.labels != 1).sum())


@pytest.mark.parametrize("asked", [{"clusters": [1, 4]}, {"classes": [2]}], ids=str)
def test_forgotten_images_take_no_part_in_the_repair(run: Run, asked: dict[str, list[int]]) -> None:
    """Whatever they hold, the repaired network is the same to the last bit."""
    found = []
    for spoiled in (False, True):
        workspace = ddm_framework.open_run(run.path).workspace
        wanted = request(workspace, asked.get("clusters", ()), asked.get("classes", ()))
        concerned = torch.isin(workspace.partition.clusters, torch.tensor(wanted.clusters))
        train, filler = workspace.data.train, torch.full((), torch.nan if spoiled else 0.0)
        images = torch.where(concerned[:, None, None, None], filler, train.images[torch.arange(len(train))])
        workspace.__dict__["data"] = replace(workspace.data, train=ImageSet(images, train.labels))
        found.append(unlearn(workspace, wanted, Repair(2)).parameters)
    assert all(torch.equal(each, found[1][name]) for name, each in found[0].items())


def test_images_that_stay_do_take_part(workspace: Workspace) -> None:
    asked = request(workspace, [0])
    done = unlearn(workspace, asked, Repair(2))
    assert any(not torch.equal(each, done.synset_alone[name]) for name, each in done.parameters.items())
    assert done.samples == 2 * len(retained(workspace, asked))


def test_a_share_of_the_data_is_drawn_for_the_repair(workspace: Workspace) -> None:
    asked = request(workspace, classes=[0])
    count = len(retained(workspace, asked))
    done = unlearn(workspace, asked, Repair(3, 0.5))
    assert done.samples == 3 * round(count / 2)
    assert unlearning.cost(workspace, done, asked)["epochs_share"] == pytest.approx(done.samples / (count * 4))


def test_the_draw_for_the_repair_is_the_same_each_time_and_holds_every_class(workspace: Workspace) -> None:
    kept = retained(workspace, request(workspace, classes=[0]))
    drawn, again = (unlearning.repair_images(workspace, kept, 0.5) for _ in range(2))
    assert torch.equal(drawn.labels, again.labels)
    everything = torch.arange(len(drawn))
    assert torch.equal(drawn.images[everything], again.images[everything])
    assert set(drawn.labels.tolist()) == set(kept.labels.tolist())
    assert unlearning.repair_images(workspace, kept, 1) is kept


def test_validation_images_are_those_of_the_classes_or_none(workspace: Workspace) -> None:
    held = unlearning.validation_images(workspace, [1])
    assert held is not None and set(held.labels.tolist()) == {1}
    rest = workspace.data.validation
    others = rest.take((rest.labels != 1).nonzero()[:, 0])
    workspace.__dict__["data"] = replace(workspace.data, validation=others)
    assert unlearning.validation_images(workspace, [1]) is None


def test_the_class_step_is_the_smallest_that_forgets_on_validation_images(workspace: Workspace) -> None:
    asked = request(workspace, classes=[0])
    size = class_step_size(workspace, asked)
    held = workspace.data.validation
    own = held.take((held.labels == 0).nonzero()[:, 0])
    reached = {
        each: workspace.accuracy_of(unlearning.stepped(workspace, asked, each), own) for each in unlearning.STEP_SIZES
    }
    if reached[size] <= unlearning.FORGOTTEN:
        assert all(reached[each] > unlearning.FORGOTTEN for each in unlearning.STEP_SIZES if each < size)
    else:
        assert reached[size] == min(reached.values())


def test_the_step_of_classes_has_the_length_that_it_says(workspace: Workspace) -> None:
    moved = unlearning.stepped(workspace, request(workspace, classes=[1]), 0.02)
    difference = {name: (moved[name] - each)[None] for name, each in workspace.target.items()}
    target = {name: each[None] for name, each in workspace.target.items()}
    assert float(norms(difference) / norms(target)) == pytest.approx(0.02, rel=1e-3)


def test_a_repair_follows_a_longer_step_and_the_synset_alone_is_kept(workspace: Workspace) -> None:
    asked = request(workspace, classes=[1])
    alone, done = unlearn(workspace, asked), unlearn(workspace, asked, Repair(1))
    assert alone.parameters is alone.synset_alone
    assert alone.step_size == done.step_size
    assert all(torch.equal(each, done.synset_alone[name]) for name, each in alone.parameters.items())
    assert (alone.samples, alone.repair_seconds) == (0, 0)


def test_clusters_are_not_repaired_by_default_and_classes_are(run: Run) -> None:
    assert torch.equal(weights(run.unlearn([3])), weights(run.unlearn([3], repair=0)))
    assert torch.equal(weights(run.unlearn(classes=[1])), weights(run.unlearn(classes=["1"], repair=3)))
    assert not torch.equal(weights(run.unlearn(classes=[1])), weights(run.unlearn(classes=[1], repair=0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repair": -1}, "a repair lasts 0 epochs or more, not -1"),
        (
            {"repair": 1, "repair_share": 0.0},
            "the share of the data for the repair must be above 0 and at most 1, not 0",
        ),
        ({"step_size": 0.0}, "the step size must be above 0, not 0"),
    ],
)
def test_settings_that_make_no_sense_are_named(run: Run, options: dict[str, float], message: str) -> None:
    with pytest.raises(DDMError, match=message):
        run.unlearn([0], **options)  # type: ignore[arg-type]


def test_without_data_the_synset_alone_still_works(gone: Path) -> None:
    run = ddm_framework.open_run(gone)
    assert class_step_size(run.workspace, request(run.workspace, classes=[1])) == unlearning.STEP_WITHOUT_DATA
    for options in ({"clusters": [2]}, {"classes": [1], "repair": 0}):
        assert not torch.equal(weights(run.unlearn(**options)), weights(run.workspace.module(run.workspace.target)))


def test_without_data_a_repair_is_refused_with_the_way_out(gone: Path, tmp_path: Path) -> None:
    for options in ({"clusters": [2], "repair": 1}, {"classes": [1]}):
        with pytest.raises(
            DDMError, match=r"a repair needs the training data: .*`--repair 0` takes the synset's step alone"
        ):
            ddm_framework.open_run(gone).unlearn(**options)
    message = refused("unlearn", gone, "--classes", "1", "--out", tmp_path / "net.safetensors")
    assert message.startswith("a repair needs the training data: ")


def test_all_clusters_leave_nothing_to_repair_on(run: Run) -> None:
    with pytest.raises(DDMError, match="no training data stay to repair on"):
        run.unlearn(list(range(6)), repair=1)


def test_all_clusters_are_told_as_such(run: Run, tmp_path: Path) -> None:
    told = unlearn_to(tmp_path / "net.safetensors", run.workspace, range(6))
    assert [*told["accuracy"]["synset alone"]] == ["forgotten (training)", "test"]


def test_a_class_of_digits_is_forgotten_and_the_others_stay(digits: Path) -> None:
    workspace = ddm_framework.open_run(digits).workspace
    asked = request(workspace, classes=[3])
    done, sets = unlearn(workspace, asked, Repair(2)), judged_on(workspace, asked)
    before = {name: workspace.accuracy_of(workspace.target, each) for name, each in sets.items()}
    after = {name: workspace.accuracy_of(done.parameters, each) for name, each in sets.items()}
    alone = {name: workspace.accuracy_of(done.synset_alone, each) for name, each in sets.items()}
    assert before["forgotten (test)"] > 0.8
    assert after["forgotten (test)"] <= 0.05
    assert after["others (test)"] > before["others (test)"] - 0.03
    assert alone["forgotten (test)"] <= 0.2


def test_a_target_from_elsewhere_has_no_cost_in_seconds(workspace: Workspace, tmp_path: Path) -> None:
    asked = request(workspace, [0])
    done = unlearn(workspace, asked)
    assert unlearning.cost(workspace, done, asked).keys() == {"seconds", "epochs_share", "seconds_share"}
    target = workspace.recipe.target.model_copy(update={"checkpoint": tmp_path / "elsewhere.pt"})
    other = replace(workspace, recipe=replace(workspace.recipe, target=target))
    assert unlearning.cost(other, done, asked).keys() == {"seconds", "epochs_share"}


def test_a_run_is_not_written_to(run: Run, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    opened = ddm_framework.open_run(run.path)
    told = unlearning.unlearn_to(tmp_path / "net.safetensors", opened.workspace, classes=["1"], repair=1)
    assert list(told["accuracy"]) == ["before", "synset alone", "after the repair"]
    assert told["without"] == "class 1"
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
    shutil.rmtree(tmp_path)
