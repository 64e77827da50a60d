"""Images from files are asked about on the command line; nothing is trained or matched for it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from html_page import Page
from PIL import Image
from run_fixtures import copied, ddm, finished_digits, refused, stamps
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import ddm_framework
from ddm_framework.answers.image_questions import left_out, read_images
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.stacks import norms


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "digits"
    folder.mkdir(exist_ok=True)
    return finished_digits(folder)


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A finished run that this test may write to."""
    return copied(original, tmp_path)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of each of the first ten digits, named by what it shows."""
    folder = tmp_path_factory.mktemp("pictures")
    digits = load_digits()
    for image, label in zip(digits.images[:10], digits.target[:10], strict=True):
        save(folder / f"a {label}.png", image / 16)
    return folder


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(path)


def asked(*arguments: object) -> dict:
    status, out, err = ddm("attribute", *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_digits_are_recognised_and_put_down_to_clusters_of_their_class(run: Path, pictures: Path) -> None:
    answer = asked(run, "--images", pictures)
    queries = answer["queries"]
    assert [query["id"] for query in queries] == [f"a {label}.png" for label in range(10)]
    right = [query for query in queries if query["id"] == f"a {query['predicted']}.png"]
    assert len(right) >= 7
    assert sum(query["clusters"][0]["class"] == query["predicted"] for query in right) >= len(right) - 1
    for query in queries:
        assert query["label"] is None
        assert 0.1 <= query["probability"] <= 1
        effects = [cluster["effect"] for cluster in query["clusters"]]
        assert len(effects) == 5
        assert effects == sorted(effects, reverse=True)


def test_a_question_does_no_offline_work(run: Path, pictures: Path) -> None:
    before = stamps(run)
    answer = asked(run, "--images", pictures / "a 3.png", "--images", pictures / "a 4.png", "--labels", "3,4")
    after = stamps(run)
    assert answer["page"] == str(run / "questions" / "1.html")
    assert after.keys() - before.keys() == {"questions/1.html"}
    assert all(after[name] == stamp for name, stamp in before.items())
    assert [query["label"] for query in answer["queries"]] == ["3", "4"]


def test_labels_do_not_change_what_a_label_free_objective_is_answered_by_a_linear_method(
    run: Path, pictures: Path
) -> None:
    """Also where every label is wrong, so that the margin of the label would rank other clusters first."""
    pytest.importorskip("dattri", reason="the extra `compare` is not installed")
    wrong = ",".join(str((int(path.stem[-1]) + 1) % 10) for path in sorted(pictures.iterdir()))
    without = asked(run, "--images", pictures, "--by", "koh")
    labelled = asked(run, "--images", pictures, "--by", "koh", "--labels", wrong)
    assert without["objective"] == labelled["objective"] == "output_shift"
    assert [each["clusters"] for each in without["queries"]] == [each["clusters"] for each in labelled["queries"]]
    page = Path(labelled["page"]).read_text(encoding="utf-8")
    assert "answered by koh" in page
    assert "would give" not in page


def test_a_method_that_cannot_answer_here_says_why(run: Path, pictures: Path) -> None:
    assert "has clusters of its own" in refused("attribute", run, "--images", pictures, "--by", "ddm_sequential")
    assert "did you mean 'koh'?" in refused("attribute", run, "--images", pictures, "--by", "kho")


def test_every_question_has_a_page_of_its_own(run: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = (run, "--images", pictures / "a 3.png")
    assert [Path(asked(*arguments)["page"]).name for _ in range(3)] == ["1.html", "2.html", "3.html"]
    assert asked(*arguments, "--out", tmp_path / "new" / "page.html")["page"] == str(tmp_path / "new" / "page.html")
    for page in (run / "questions" / "2.html", tmp_path / "new" / "page.html"):
        assert "a 3.png: predicted 3" in Page(page.read_text()).text


def test_the_answer_is_printed_for_people(run: Path, pictures: Path) -> None:
    status, out, err = ddm("attribute", run, "--images", pictures / "a 3.png", "--labels", "7", "--top", "2")
    assert (status, err) == (0, "")
    first, *rows, last = out.splitlines()
    assert re.fullmatch(r"a 3\.png: predicted 3 \(\d+\.\d%\), labelled 7", first)
    made, against = rows[:3], rows[3:]
    assert made[0].split() == ["made", "it", "say", "3", "class", "output_shift", "without", "it"]
    assert against[0].split() == ["spoke", "against", "it", "class", "output_shift", "without", "it"]
    assert all(re.match(r"cluster \d+ +\d +\+\d", row) for row in [*made[1:], *against[1:]])
    assert len(made) == len(against) == 3
    assert last == f"page: {run}/questions/1.html"


def test_labels_are_names_or_ids_one_or_one_an_image(run: Path, pictures: Path) -> None:
    several = (run, "--images", pictures, "--objective", "correctness")
    assert {query["label"] for query in asked(*several, "--labels", "7")["queries"]} == {"7"}
    one_each = asked(*several, "--labels", ", ".join(map(str, range(10))))
    assert [query["label"] for query in one_each["queries"]] == list(map(str, range(10)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("3,4", "--labels names 2 classes for 1 images; give one, or one for each image"),
        ("10", "there is no class '10'"),
        ("three", "there is no class 'three'; classes are 0, 1, "),
        ("3,,4", "--labels names 3 classes for 1 images"),
        ("", "there is no class ''"),
        ("-1", "there is no class '-1'"),
    ],
)
def test_wrong_labels_are_named(run: Path, pictures: Path, labels: str, message: str) -> None:
    assert refused("attribute", run, "--images", pictures / "a 3.png", "--labels", labels).startswith(message)
    assert not (run / "questions").exists()


def test_an_objective_of_sets_is_refused_with_advice(run: Path, pictures: Path) -> None:
    message = refused("attribute", run, "--images", pictures, "--labels", "3", "--objective", "performance")
    assert message == "objective 'performance' measures whole sets; choose one of single images, such as output_shift"


def test_objectives_that_cannot_answer_say_why(run: Path, pictures: Path) -> None:
    arguments = ("attribute", run, "--images", pictures, "--objective")
    assert "did you mean 'margin'?" in refused(*arguments, "margn")
    assert "needs the queries' labels" in refused(*arguments, "correctness")
    assert "clusters have no rank" in refused(*arguments, "predictions")


def test_images_that_are_none_are_named(run: Path, pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no picture")
    half = tmp_path / "half.png"
    half.write_bytes((pictures / "a 3.png").read_bytes()[:60])
    for path, message in {
        tmp_path / "nowhere.png": "there is no image ",
        empty: "{} holds no image (.png, ",
        empty / "notes.txt": "{} cannot be read as an image: ",
        half: "{} cannot be read as an image: ",
    }.items():
        found = refused("attribute", run, "--images", pictures / "a 3.png", "--images", path)
        assert found.startswith(message.format(path))
        assert str(path) in found
    assert not (run / "questions").exists()


def test_a_folder_is_searched_in_order_and_in_depth(run: Path, pictures: Path, tmp_path: Path) -> None:
    for name in ("b.png", "deep/er/c.PNG", "a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes((pictures / "a 3.png").read_bytes())
    (tmp_path / "in" / "folder.png").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    answer = asked(run, "--images", tmp_path / "in", "--images", pictures / "a 0.png")
    assert [query["id"] for query in answer["queries"]] == ["a.png", "b.png", "c.PNG", "a 0.png"]


def test_files_of_one_name_are_told_apart_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    for name in ("in/a/1.png", "in/b/1.png", "in/2.png", "in/.hidden/3.png", "elsewhere/4.png"):
        save(tmp_path / name, np.zeros((8, 8)))
    folder = tmp_path / "in"
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "b" / "round").symlink_to(folder, target_is_directory=True)
    for name in ("a/5.heic", "6.avif", "notes"):
        (folder / name).touch()
    names, _ = read_images([folder], info(1, 8, 8))
    assert names == ["2.png", str(folder / "a" / "1.png"), str(folder / "b" / "1.png"), "4.png"]
    assert left_out([folder]).startswith("3 files are left out, of another format (")
    assert left_out([folder / "2.png", folder / "b"]).startswith("3 files are")  # by the link that leads back
    assert left_out([tmp_path / "elsewhere"]) == ""


def info(*shape: int) -> DataInfo:
    return DataInfo((shape[0], shape[1], shape[2]), 2, (0.5,) * shape[0], (0.2,) * shape[0], ("a", "b"))


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey, colour = random.uniform(size=(8, 8)).round(1), random.uniform(size=(8, 8, 3)).round(1)
    save(tmp_path / "grey.png", grey)
    save(tmp_path / "colour.png", colour)
    _, pixels = read_images([tmp_path / "grey.png"], info(1, 8, 8))
    assert torch.allclose(pixels[0, 0], torch.from_numpy(grey).float(), atol=2e-3)
    _, pixels = read_images([tmp_path / "colour.png"], info(3, 8, 8))
    assert torch.allclose(pixels[0], torch.from_numpy(colour).permute(2, 0, 1).float(), atol=2e-3)
    _, pixels = read_images([tmp_path / "colour.png", tmp_path / "grey.png"], info(4, 8, 8))
    assert torch.equal(pixels[:, 3], torch.ones(2, 8, 8))


@pytest.mark.parametrize("size", [(8, 8), (31, 17), (200, 300), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_another_size_is_resized(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    Image.new("RGB", size, (51, 51, 51)).save(tmp_path / "x.png")
    names, pixels = read_images([tmp_path / "x.png"], info(channels, 5, 7))
    assert names == ["x.png"]
    assert pixels.shape == (1, channels, 5, 7)
    assert torch.allclose(pixels, torch.tensor(0.2))


def test_a_picture_taken_sideways_stands_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8).repeat(8, 0).repeat(4, 1))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "x.jpg", exif=exif)
    _, pixels = read_images([tmp_path / "x.jpg"], info(1, 8, 8))
    assert pixels[0, 0, 0].mean() < 0.1
    assert pixels[0, 0, -1].mean() > 0.9


def test_deep_colour_is_refused_instead_of_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 30000, dtype=np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(DDMError, match=r"x\.png has more than 8 bits per channel"):
        read_images([tmp_path / "x.png"], info(1, 8, 8))


def test_data_that_no_image_file_can_hold_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "x.png", np.zeros((8, 8)))
    with pytest.raises(DDMError, match="no image file has 2 channels; ask from Python"):
        read_images([tmp_path / "x.png"], info(2, 8, 8))


@pytest.mark.parametrize(
    "name", [b"<script>alert(1)<|script>.png", b"[red]x[|red].png", b"\xff\xfe.png", b"\xc3\xbc.png"]
)
def test_a_file_name_is_harmless_whatever_it_is(run: Path, pictures: Path, tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes((pictures / "a 3.png").read_bytes())
    answer = asked(run, "--images", path)
    shown = answer["queries"][0]["id"]
    assert shown == name.decode(errors="replace")
    found = Page(Path(answer["page"]).read_text())
    assert f"{shown}: predicted 3" in found.text
    assert [tag for tag, _ in found.tags if tag in {"script", "red"}] == ["script"]  # the page's own
    status, out, _ = ddm("attribute", run, "--images", path)
    assert status == 0
    assert out.startswith(f"{shown}: predicted 3")


def test_where_no_page_can_be_written_there_is_advice(run: Path, pictures: Path) -> None:
    (run / "questions").write_text("in the way")
    message = refused("attribute", run, "--images", pictures / "a 3.png")
    assert message.startswith(f"cannot write {run}/questions/1.html: ")
    assert message.endswith("--out writes the page elsewhere")


def test_a_question_to_no_run_says_how_to_make_one(tmp_path: Path, pictures: Path) -> None:
    message = refused("attribute", tmp_path, "--images", pictures)
    assert message.endswith(f"holds no run of ddm (no manifest.json); make one with `ddm run RECIPE --out {tmp_path}`")


def test_unlearning_writes_weights_that_the_backbone_takes(run: Path, tmp_path: Path) -> None:
    before, out = stamps(run), tmp_path / "new" / "net.safetensors"
    status, told, err = ddm("unlearn", run, "--clusters", "3, 17", "--out", out)
    assert (status, err) == (0, "")
    assert told.endswith(f"\n{out}: the network without 2 clusters\n")
    assert re.search(r"before +9\d\.\d%.*\nsynset alone +\d+\.\d%.*\nsynset's step 0\.0005, no repair; ", told)
    assert stamps(run) == before
    opened = ddm_framework.open_run(run)
    module, written = opened.unlearn([0]), load_file(out)
    module.load_state_dict(written)
    expected = opened.unlearn([3, 17]).state_dict()
    assert all(torch.equal(written[name], each) for name, each in expected.items())
    target = {name: each[None] for name, each in opened.workspace.target.items()}
    moved = {name: written[name][None] - each for name, each in target.items()}
    assert float(norms(moved) / norms(target)) == pytest.approx(5e-4 * 2**0.5, rel=0.4)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ("20", "there is no cluster 20; clusters are 0 to 19"),
        ("3,99", "there is no cluster 99"),
        ("3,-1", "--clusters takes ids separated by commas, as in 3,17, found '3,-1'"),
        ("", "--clusters takes ids separated by commas"),
        ("3,,4", "--clusters takes ids separated by commas"),
        ("three", "--clusters takes ids separated by commas"),
        ("1.5", "--clusters takes ids separated by commas"),
    ],
)
def test_wrong_clusters_are_named(run: Path, tmp_path: Path, clusters: str, message: str) -> None:
    found = refused("unlearn", run, f"--clusters={clusters}", "--out", tmp_path / "net.safetensors")
    assert found.startswith(message)
    assert not (tmp_path / "net.safetensors").exists()


def test_a_class_is_unlearned_and_repaired_and_the_command_says_what_it_did(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    status, told, err = ddm("unlearn", run, "--classes", "3", "--repair", 2, "--repair-share", 0.5, "--out", out)
    assert (status, err) == (0, "")
    assert re.search(r"after the repair +\d\.\d% +9\d\.\d%", told)
    assert re.search(r"2 epochs of repair \(1[23]% of a retraining's\)", told)
    assert told.endswith(f"\n{out}: the network without class 3\n")
    values = json.loads(ddm("unlearn", run, "--classes", "3", "--repair", 0, "--out", out, "--json")[1])
    assert list(values["accuracy"]) == ["before", "synset alone"]
    assert (values["repair_epochs"], values["cost"]["epochs_share"]) == (0, 0)


def test_one_cluster_is_one_cluster_and_a_folder_is_no_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    told = f"{out}: the network without 1 cluster\n"
    assert ddm("unlearn", run, "--clusters", "3", "--out", out)[1].endswith("\n" + told)
    assert refused("unlearn", run, "--clusters", "3", "--out", tmp_path).startswith(f"cannot write {tmp_path}: ")


def test_a_run_prints_its_numbers_as_json_and_nothing_else(run: Path) -> None:
    status, out, err = ddm("run", run.parent / "digits.yaml", "--out", run, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((run / "metrics.json").read_text())


def test_a_run_prints_its_figures_and_nothing_to_standard_error(run: Path) -> None:
    status, out, err = ddm("run", run.parent / "digits.yaml", "--out", run)
    assert (status, err) == (0, "")
    assert re.search(r"test accuracy +9\d\.\d%", out)
    assert out.endswith(f"report: {run}/report.html\n")
