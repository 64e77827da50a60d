"""The network without clusters, classes and samples: what it says, and that it is exact at the end of the dial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import ddm, refused, tiny

import ddm_framework
from ddm_framework import DDMError, Run
from ddm_framework.answers import without
from ddm_framework.offline import Partition
from ddm_framework.truth import retrained

EVERY_EPOCH = "{epochs: 4, lr: 0.1, batch_size: 16, momentum: 0.9, checkpoint_every: 1}"


def run_of(folder: Path, replay: int) -> Run:
    """A tiny run that replays so many of its four epochs."""
    online = f"{{perturbations: leave_one_out, replay: {replay}}}"
    return ddm_framework.run(tiny(folder, training=EVERY_EPOCH, online=online), out=folder / "run")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run whose dial stands at exact retraining."""
    return run_of(tmp_path_factory.mktemp("exact"), 4)


def test_clusters_classes_and_samples_are_left_out_together(exact: Run) -> None:
    workspace = exact.workspace
    partition = workspace.partition
    first = int(partition.of_class(0)[0])
    sample = int(partition.members(int(partition.of_class(2)[0]))[0])
    found = exact.without([first], classes=["1"], samples=[sample])
    gone = (partition.clusters == first) | (partition.classes[partition.clusters] == 1)
    gone[sample] = True
    singles = Partition(torch.arange(len(gone)), partition.classes[partition.clusters])
    bank = retrained(workspace, (~gone).float()[None], partition=singles)
    for name, each in bank.load(slice(0, 1)).items():
        assert torch.equal(found.parameters[name], each[0])
    share = [(~gone)[partition.clusters == cluster].double().mean() for cluster in range(partition.num_clusters)]
    torch.testing.assert_close(found.kept.double(), torch.stack(share), rtol=0, atol=1e-6)


def test_what_lacks_nothing_is_the_target(exact: Run) -> None:
    found = exact.without()
    assert len(found.changed) == 0
    assert found.accuracy == exact.metrics["target"]["test_accuracy"]


def test_what_it_says_is_what_its_module_says(exact: Run) -> None:
    found, test = exact.without([0, 3]), exact.workspace.data.test
    with torch.no_grad():
        logits = found.module(test.images)
    torch.testing.assert_close(found.predict(test.images), logits.softmax(1))
    assert found.accuracy == pytest.approx(float((logits.argmax(1) == test.labels).double().mean()))
    before = exact.workspace.target_logits(test.images).argmax(1)
    assert found.changed.tolist() == (logits.argmax(1) != before).nonzero()[:, 0].tolist()
    assert found.measure("output_shift").shape == (len(test), 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"clusters": [6]}, "there is no cluster 6; clusters are 0 to 5"),
        ({"samples": [-1]}, "there is no sample -1"),
        ({"classes": ["four"]}, "there is no class 'four'"),
        ({"classes": [0, 1, 2]}, "nothing would be left"),
    ],
)
def test_what_cannot_be_left_out(exact: Run, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(DDMError, match=message):
        without(exact.workspace, **asked)


def test_the_command_line_tells_accuracy_and_changes(exact: Run) -> None:
    status, out, err = ddm("attribute", exact.path, "--without", "0,3")
    assert (status, err) == (0, "")
    assert out.startswith("without clusters 0, 3, by this estimate: test accuracy ")
    told = json.loads(ddm("attribute", exact.path, "--without", "0,3", "--json")[1])
    assert told["without"] == [0, 3]
    assert told["changed"] == exact.without([0, 3]).changed.tolist()


def test_something_must_be_asked(exact: Run) -> None:
    status, _, err = ddm("attribute", exact.path)
    assert status == 2
    assert "--images" in err
    assert "--without" in err


@pytest.mark.parametrize(
    "unused",
    [["--labels", "1"], ["--objective", "output_shift"], ["--by", "koh"], ["--top", "3"], ["--out", "page.html"]],
)
def test_what_would_change_nothing_beside_without_is_refused(exact: Run, unused: list[str]) -> None:
    told = refused("attribute", exact.path, "--without", "0,3", *unused)
    assert told.startswith(f"{unused[0]} would change nothing: --without names no clusters")


def test_networks_are_kept_for_the_next_question(tmp_path: Path) -> None:
    run = run_of(tmp_path, 1)
    queries, objective = run.workspace.queries_of("test"), run.objective()
    answer, kept = run.ask(queries, objective), sorted((run.path / "networks").iterdir())
    assert kept
    (tmp_path / "data.npz").unlink()  # the networks answer without the training data
    again = ddm_framework.open_run(run.path)
    torch.testing.assert_close(again.ask(queries, objective).matrix, answer.matrix, rtol=0, atol=0)
    assert sorted((run.path / "networks").iterdir()) == kept


def test_damaged_networks_are_estimated_again_and_large_ones_are_not_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, 1)
    workspace, files = run.workspace, sorted((run.path / "networks").iterdir())
    answer = workspace.attribution(workspace.queries_of("test"), workspace.objectives[0]).matrix
    sizes = {file: file.stat().st_size for file in files}
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    workspace = ddm_framework.open_run(run.path).workspace
    again = workspace.attribution(workspace.queries_of("test"), workspace.objectives[0]).matrix
    torch.testing.assert_close(again, answer, rtol=0, atol=0)
    assert any(file.stat().st_size == sizes[file] for file in files)
    none = workspace.with_online(keep_mb=0, replay=2)
    none.attribution(workspace.queries_of("test"), workspace.objectives[0])
    assert sorted((run.path / "networks").iterdir()) == files


def test_retrained_exactly_is_the_end_of_the_dial(exact: Run) -> None:
    asked: dict[str, Any] = {"clusters": [1], "classes": [2], "samples": [0]}
    truth, end = exact.retrained_without(**asked), exact.without(**asked)
    assert torch.equal(truth.left_out, end.left_out) and torch.equal(truth.kept, end.kept)
    for name, each in truth.parameters.items():
        assert torch.equal(each, end.parameters[name])
    earlier = exact.with_online(replay=1).without(**asked)
    assert any(not torch.equal(each, truth.parameters[name]) for name, each in earlier.parameters.items())
    assert exact.workspace.recipe.online.replay == 4


def test_what_is_left_out_is_marked_sample_by_sample(exact: Run) -> None:
    partition = exact.workspace.partition
    found = exact.without([3], samples=[0, 5])
    wanted = partition.clusters == 3
    wanted[[0, 5]] = True
    assert torch.equal(found.left_out, wanted)


def test_accuracy_by_class_is_that_of_a_loop(exact: Run) -> None:
    found = exact.without([0, 3])
    said, labels = found.test_logits.argmax(1), exact.workspace.data.test.labels
    for label, told in enumerate(found.accuracy_by_class.tolist()):
        assert told == float((said[labels == label] == label).double().mean())


def test_what_cannot_be_left_out_cannot_be_retrained_without(exact: Run) -> None:
    with pytest.raises(DDMError, match="there is no cluster 6; clusters are 0 to 5"):
        exact.retrained_without([6])
    with pytest.raises(DDMError, match="nothing would be left to train on"):
        exact.retrained_without(classes=[0, 1, 2])
    with pytest.raises(DDMError, match="online settings: replay"):
        exact.with_online(replay=-1)
