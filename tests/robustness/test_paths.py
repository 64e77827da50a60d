"""Whatever stands in the place of a file is refused in a sentence: nothing hangs, nothing is written elsewhere."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_fixtures import copied, ddm, tiny

from ddm_framework.data.image_files import open_image
from ddm_framework.errors import DDMError
from ddm_framework.network.checkpoints import read_state
from ddm_framework.plugin import load_plugins
from ddm_framework.plugin.source_code import file_digest
from ddm_framework.recipe.yaml_source import read_source
from ddm_framework.runs import RunFolder, load_json, load_tensors, save_text

TOO_LONG = "n" * 300


def missing(path: Path) -> Path:
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def endless(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def plug(path: Path) -> Path:
    """A socket, whose own name may be at most a hundred bytes long."""
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)
    return path


def long_name(path: Path) -> Path:
    return path.with_name(TOO_LONG + path.suffix)


def noise(path: Path) -> Path:
    path.write_bytes(random.Random(0).randbytes(5000))
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def huge(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no space
    return path


WRONG = (missing, folder, loop, pipe, endless, plug, long_name, noise, empty, huge)
Put = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Whoever opens a pipe waits for ever."""
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("it hangs")))
    signal.alarm(120)
    yield
    signal.alarm(0)


DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "recipe": (".yaml", read_source),
    "json": (".json", load_json),
    "tensors": (".safetensors", load_tensors),
    "checkpoint": (".safetensors", read_state),
    "pickled checkpoint": (".pt", read_state),
    "plugin": (".py", lambda path: load_plugins([path])),
    "image": (".png", lambda path: open_image(path, "RGB")),
    "run folder": ("", lambda path: RunFolder.existing(path)),
    "digest": (".bin", file_digest),
}


@pytest.mark.parametrize("put", WRONG, ids=lambda each: each.__name__)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_answers_in_a_sentence(door: str, put: Put, tmp_path: Path) -> None:
    suffix, enter = DOORS[door]
    if door == "digest" and put in (noise, empty, huge):
        pytest.skip("any content has a digest")
    if door == "recipe" and put is empty:
        pytest.skip("an empty page lacks everything, which the check tells")
    if door == "plugin" and put is empty:
        pytest.skip("an empty module is a plugin that brings nothing")
    path = put(tmp_path / f"given{suffix}")
    with pytest.raises(DDMError) as caught:
        enter(path)
    assert len(str(caught.value).splitlines()) <= 2
    assert path.name[:50] in str(caught.value)


OPTIONS = {
    "dataset": "{{use: npz, path: {path}}}",
    "backbone": "{{use: timm, model: resnet10t, checkpoint: {path}}}",
    "target": "{{checkpoint: {path}}}",
    "clusterer": "{{use: kmeans, features: {{timm: resnet10t, checkpoint: {path}}}}}",
}


@pytest.mark.parametrize("put", WRONG, ids=lambda each: each.__name__)
@pytest.mark.parametrize("section", ["dataset", "target"])
def test_a_recipe_that_names_something_else_than_a_file(section: str, put: Put, tmp_path: Path) -> None:
    path = put(tmp_path / f"named{'.npz' if section == 'dataset' else '.safetensors'}")
    recipe = tiny(tmp_path / "work", **{section: OPTIONS[section].format(path=path)})
    status, _, told = ddm("run", recipe, "--out", tmp_path / "run")
    assert status == 2, told
    assert "Traceback" not in told


@pytest.mark.parametrize("put", WRONG, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "command",
    [
        ["run", "WRONG"],
        ["run", "RECIPE", "--out", "WRONG"],
        ["run", "RECIPE", "--plugin", "WRONG"],
        ["validate", "WRONG"],
        ["check", "WRONG.py"],
        ["attribute", "WRONG", "--images", "x.png"],
        ["attribute", "RUN", "--images", "WRONG"],
        ["unlearn", "WRONG", "--clusters", "1", "--out", "x.safetensors"],
        ["new-plugin", "objective", "surprise", "--out", "WRONG"],
    ],
    ids=" ".join,
)
def test_commands(command: list[str], put: Put, tmp_path: Path, finished: Path) -> None:
    if (put is missing and "--out" in command) or (put is folder and command[:3] == ["run", "RECIPE", "--out"]):
        pytest.skip("that is where it writes")
    path = put(tmp_path / ("wrong.py" if {"--plugin", "WRONG.py"} & set(command) else "wrong"))
    if put is empty and path.suffix == ".py" and command[0] == "run":
        pytest.skip("an empty module is a plugin that brings nothing")
    meant = {"WRONG": path, "WRONG.py": path, "RUN": finished, "RECIPE": finished.parent / "tiny.yaml"}
    status, _, told = ddm(*(meant.get(each, each) for each in command))
    assert status == 2, told
    assert "Traceback" not in told


@pytest.mark.parametrize("put", WRONG, ids=lambda each: each.__name__)
def test_every_file_of_a_run_folder(put: Put, tmp_path: Path, finished: Path) -> None:
    images = tmp_path / "five.png"
    from PIL import Image

    Image.new("L", (6, 6), 100).save(images)
    names = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    refusals = 0
    for name in names:
        run = copied(finished, tmp_path / "_".join(name.parts))
        (run / name).unlink()
        put(run / name)
        asked = ["attribute", run, "--images", images]
        command = (
            asked if put in (pipe, noise, loop) else ["unlearn", run, "--clusters", "1", "--out", tmp_path / "net"]
        )
        status, _, told = ddm(*command)
        assert status in (0, 2), told
        assert "Traceback" not in told
        refusals += status == 2
    assert refusals >= 6


@pytest.mark.parametrize("put", [folder, loop, pipe, endless, noise], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["recipe.yaml", "manifest.json", "offline/synset.safetensors", ".lock"])
def test_running_again_into_a_broken_folder(name: str, put: Put, tmp_path: Path, finished: Path) -> None:
    run = copied(finished, tmp_path / "sent")
    (run / name).unlink(missing_ok=True)
    put(run / name)
    status, _, told = ddm("run", run.parent / "tiny.yaml", "--out", run)
    assert status in (0, 2), told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "name", ["offline", "offline/trajectory", "online", "networks", "questions", "variants/other", ".lock"]
)
def test_a_link_in_a_run_folder_leads_nowhere(name: str, tmp_path: Path, finished: Path) -> None:
    """Otherwise a stranger's folder could have ddm overwrite or remove files of yours."""
    run, elsewhere = copied(finished, tmp_path / "sent"), tmp_path / "elsewhere"
    if (run / name).is_dir():
        (run / name).rename(elsewhere)
    else:
        (run / name).unlink(missing_ok=True)
        elsewhere.mkdir()
        save_text(elsewhere / "mine.safetensors", "mine")
    if name == ".lock":
        elsewhere = elsewhere / "mine.safetensors"
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.glob("elsewhere/**/*"))}
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(elsewhere)
    for command in (
        ["run", run.parent / "tiny.yaml", "--out", run, "--fresh", "--set", "seed=5"],
        ["unlearn", run, "--clusters", "1", "--out", tmp_path / "net.safetensors"],
    ):
        status, _, told = ddm(*command)
        assert status == 2
        assert "is a link" in told
    assert before == {path: path.stat().st_mtime_ns for path in sorted(tmp_path.glob("elsewhere/**/*"))}


def test_what_is_written_does_not_follow_a_link_that_lies_in_wait(tmp_path: Path) -> None:
    from ddm_framework.runs.safe_files import partial_name

    mine = tmp_path / "mine"
    mine.write_text("mine")
    partial_name(tmp_path / "page.html").symlink_to(mine)
    save_text(tmp_path / "page.html", "page")
    assert mine.read_text() == "mine"
    assert (tmp_path / "page.html").read_text() == "page"


def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path: Path, finished: Path) -> None:
    run = copied(finished, tmp_path / "sent")
    text = (run / "manifest.json").read_text()
    for other in ("../tiny.yaml", "/etc/passwd", "offline/../../data.npz"):
        (run / "manifest.json").write_text(text.replace("offline/partition.safetensors", other))
        status, _, told = ddm("unlearn", run, "--clusters", "1", "--out", tmp_path / "net.safetensors")
        assert status == 2, told
        assert "manifest" in told
