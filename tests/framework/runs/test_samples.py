"""Samples keep their identity from the data set to the answer, and what the network believed of each is right."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_fixtures import asked_tiny, copied, ddm, finished_digits, finished_tiny, refused
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import ddm_framework
from ddm_framework import RunFolderError, Workspace
from ddm_framework.runs.samples import (
    COLUMNS,
    Belief,
    Sample,
    as_csv,
    belief,
    read_samples,
    samples_of,
    weighted_epochs,
)

OLD = Path(__file__).with_name("made_by_0_1_0")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "digits"
    folder.mkdir(exist_ok=True)
    return finished_digits(folder)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_digits_join_with_scikit_learn_s_own_order(digits: Path) -> None:
    found, known = rows(digits), load_digits().target
    assert sorted(int(each["sample"]) for each in found) == list(range(1797))
    assert all(int(each["class"]) == known[int(each["sample"])] for each in found)
    splits = [each["split"] for each in found]
    assert [splits.count(name) for name in ("train", "validation", "test")] == [1260, 140, 397]
    assert all((each["cluster"] != "") == (each["split"] == "train") for each in found)


def test_samples_are_the_very_images(digits: Path) -> None:
    data = ddm_framework.open_run(digits).workspace.data
    images = load_digits().images
    for split in (data.train, data.validation, data.test):
        assert split.origin is not None
        pixels = 16 * data.info.to_pixels(split.images[:])[:, 0]
        assert np.allclose(pixels, images[split.origin.positions.numpy()], atol=1e-3)


def save_folder(root: Path) -> dict[str, int]:
    """Eight grey images of each of two classes, and the level of grey of each file."""
    levels = {}
    for label, name in enumerate(("dark", "light")):
        for number in range(8):
            path = root / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            levels[str(path)] = 100 * label + 5 * number
            Image.new("L", (6, 6), levels[str(path)]).save(path)
    return levels


def test_files_are_kept_through_the_cuts_of_test_and_validation(tmp_path: Path) -> None:
    levels = save_folder(tmp_path / "photos")
    from ddm_datasets.imagefolder import load

    data = load(root=tmp_path / "photos", size=6, grayscale=True, validation=0.2)
    ordered, seen = sorted(levels), []
    for split in (data.train, data.validation, data.test):
        assert split.origin is not None
        pixels = (255 * data.info.to_pixels(split.images[:])[:, 0, 0, 0]).round().int().tolist()
        assert [levels[file] for file in split.origin.files] == pixels
        assert [ordered[place] for place in split.origin.positions.tolist()] == list(split.origin.files)
        seen += split.origin.files
    assert sorted(seen) == ordered


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).relu().mean((2, 3)))


def test_brought_folders_keep_their_files_also_in_part_and_after_the_validation_cut(tmp_path: Path) -> None:
    levels = save_folder(tmp_path / "photos")
    whole = ImageFolder(str(tmp_path / "photos"), ToTensor())
    part = Subset(Subset(whole, list(range(15, -1, -1))), list(range(12)))  # the last twelve, backwards
    torch.manual_seed(0)
    settings = ["clusterer.clusters_per_class=2", "matching.steps=2", "threads=1", "study.show=0"]
    run = ddm_framework.from_module(
        Net(), part, whole, validation=0.25, settings=settings, out=tmp_path / "run", class_names=whole.classes
    )
    trained = [each for each in run.samples if each.split == "train"]
    assert len(trained) == 9
    for each, image in zip(trained, run.workspace.data.train.images, strict=True):
        assert (each.file, each.label) == (whole.samples[each.sample][0], whole.classes[whole.samples[each.sample][1]])
        assert levels[each.file] == round(255 * float(image[0, 0, 0]))
    found = ddm("members", run.path, 1, "--json")
    assert found[0] == 0  # although only Python can make such a run again
    assert [each["file"] for each in json.loads(found[1])] == [each.file for each in run.members(1)]


def test_members_are_those_of_the_partition(digits: Path) -> None:
    run = ddm_framework.open_run(digits)
    origin = run.workspace.data.train.origin
    assert origin is not None
    for cluster in (0, 7, 19):
        found = run.members(cluster)
        wanted = origin.positions[run.workspace.partition.members(cluster)].tolist()
        assert [each.sample for each in found] == wanted
        assert {each.label for each in found} == {str(cluster // 2)}


def test_members_on_the_command_line(digits: Path) -> None:
    found = ddm_framework.open_run(digits).members(7)
    status, out, _ = ddm("members", digits, 7)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [str(each.sample) for each in found]
    table = list(csv.reader(io.StringIO(ddm("members", digits, 7, "--csv")[1])))
    assert tuple(table[0]) == COLUMNS
    assert [row[0] for row in table[1:]] == [str(each.sample) for each in found]
    told = json.loads(ddm("members", digits, 7, "--json")[1])
    assert [(each["sample"], each["class"], each["cluster"]) for each in told] == [(e.sample, "3", 7) for e in found]
    assert refused("members", digits, 20) == "there is no cluster 20; clusters are 0 to 19"
    assert "leave one of them out" in refused("members", digits, 7, "--csv", "--json")


def test_a_run_of_an_older_version_lists_its_members_too(tmp_path: Path) -> None:
    run = copied(finished_tiny_of(tmp_path), tmp_path / "copy")
    wanted = ddm("members", run, 2, "--csv")
    (run / "samples.csv").unlink()
    assert ddm("members", run, 2, "--csv") == wanted


def finished_tiny_of(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return finished_tiny(tmp_path / "made")


def test_loss_and_margin_are_those_of_a_loop(run: ddm_framework.Run) -> None:
    workspace = run.workspace
    found, data, network = belief(workspace), workspace.data.train, workspace.network
    wanted, weights = torch.zeros(len(data), dtype=torch.float64), {2: 2, 4: 2}
    for epoch, weight in weights.items():
        for index in range(len(data)):
            logits = network.logits_of(workspace.trajectory[epoch], data.images[index][None])[0].double()
            label = int(data.labels[index])
            others = [float(each) for place, each in enumerate(logits) if place != label]
            wanted[index] += weight * (float(logits[label]) - max(others))
    assert torch.allclose(found.margin, wanted / 4, atol=1e-5)
    loss = nn.functional.cross_entropy(
        network.logits_of(workspace.target, data.images).double(), data.labels, reduction="none"
    )
    assert torch.allclose(found.loss, loss, atol=1e-5)


@pytest.mark.parametrize(
    ("saved", "most", "wanted"),
    [
        ([0, 1, 2, 3], 10, [(1, 1), (2, 1), (3, 1)]),
        ([0, 2, 4, 7], 10, [(2, 2), (4, 2), (7, 3)]),
        (list(range(31)), 3, [(10, 10), (20, 10), (30, 10)]),
        ([0, 30], 10, [(30, 30)]),
        ([0], 10, [(0, 1)]),  # brought with its last state alone
    ],
)
def test_checkpoints_count_for_the_epochs_since_the_one_before(
    saved: list[int], most: int, wanted: list[tuple[int, int]]
) -> None:
    assert weighted_epochs(saved, most) == wanted


def test_suspicion_is_the_share_that_is_believed_more() -> None:
    found = Belief(torch.zeros(5), torch.tensor([3.0, -1.0, 0.5, 0.5, 9.0])).suspicion
    assert found.tolist() == [0.25, 1.0, 0.5, 0.5, 0.0]
    assert Belief(torch.zeros(1), torch.ones(1)).suspicion.tolist() == [0.0]


HOSTILE = ('a,"b"\nc.png', "<script>alert(1)</script>.png", "\x1b[2J.png", "=cmd|' /C calc'!A0.png", "umlaut ä.png")


def test_names_survive_the_file_whatever_they_hold(tmp_path: Path) -> None:
    wanted = [Sample(index, name, "train", f"class {name}", 0, 0.5, -1.25, 1.0) for index, name in enumerate(HOSTILE)]
    wanted.append(Sample(9, "", "test", "0"))
    from ddm_framework.runs.run_folder import RunFolder

    (tmp_path / "samples.csv").write_text(as_csv(wanted), newline="")
    assert read_samples(RunFolder(tmp_path)) == wanted


def test_a_hostile_name_does_not_steer_the_terminal(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = copied(asked_tiny(tmp_path_factory.getbasetemp() / "tiny"), tmp_path_factory.mktemp("hostile"))
    listed = [
        Sample(each.sample, HOSTILE[2], *(getattr(each, name) for name in each.__slots__[2:]))
        for each in samples_of(workspace)
    ]
    (run / "samples.csv").write_text(as_csv(listed))
    assert "\x1b" not in ddm("members", run, 0)[1]


@pytest.mark.parametrize("text", ["", "sample,file\n1,a\n", "\x00", ",".join(COLUMNS) + "\nx,a,train,b,0,1,1,1\n"])
def test_a_damaged_file_is_told(text: str, digits: Path, tmp_path: Path) -> None:
    run = copied(digits, tmp_path)
    (run / "samples.csv").write_text(text)
    assert "samples.csv" in refused("members", run, 0)
    with pytest.raises(RunFolderError, match="run with --fresh to make it again"):
        _ = ddm_framework.open_run(run).samples
