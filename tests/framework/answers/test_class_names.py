"""A class is found by its name, whatever the name looks like, and by nothing that could mean another class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_fixtures import ddm, refused, save_data, tiny

import ddm_framework
from ddm_framework.answers.class_names import class_id, listed_names
from ddm_framework.errors import DDMError

NUMBERS = ("1", "2", "4", "5")
COMMAS = ("cat", "cat, big", "dog", "a,,b", " odd ")


@pytest.mark.parametrize(
    "names", [NUMBERS, ("1", "two", "x", "y"), ("0.5", "1.5", "a", "b"), ("-1", "a", "b", "c"), ("07", "a", "b", "c")]
)
def test_where_a_name_is_a_number_a_number_is_a_name_and_nothing_else(names: tuple[str, ...]) -> None:
    for label, name in enumerate(names):
        assert class_id(name, names) == label
    for named in {"0", "1", "2", "3", 0, 1, 2, 3, "7"} - {
        *names,
        *(int(each) for each in names if each.isdecimal() and str(int(each)) == each),
    }:
        with pytest.raises(DDMError, match=rf"there is no class '{named}'; class names are numbers here"):
            class_id(named, names)


def test_elsewhere_a_number_is_a_label() -> None:
    assert [class_id(each, COMMAS) for each in ("dog", "2", 2, 0)] == [2, 2, 2, 0]
    for named in ("5", -1, "-1", 5, "", "nan"):
        with pytest.raises(DDMError, match="there is no class"):
            class_id(named, COMMAS)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["cat"], ["cat"]),
        (["cat, big"], ["cat, big"]),
        (["cat,big"], ["cat", "big"]),
        (["cat, dog"], ["cat", "dog"]),
        (["dog, cat, big ,cat"], ["dog", "cat, big", "cat"]),
        (["a,,b,dog"], ["a,,b", "dog"]),
        (["cat", "dog"], ["cat", "dog"]),
        ([" odd ", "odd"], [" odd ", "odd"]),
        (["cat,,dog"], ["cat", "", "dog"]),
        ([], []),
    ],
)
def test_a_whole_name_is_taken_first(texts: list[str], found: list[str]) -> None:
    assert listed_names(texts, COMMAS) == found


def run_with(folder: Path, *names: str) -> ddm_framework.Run:
    """A run whose three classes have these names."""
    folder.mkdir(exist_ok=True)
    save_data(folder / "data.npz", class_names=np.array(names))
    return ddm_framework.run(tiny(folder), out=folder / "run")


def test_no_command_takes_a_number_for_another_class(tmp_path: Path) -> None:
    run = run_with(tmp_path, "1", "2", "4").path
    Image.new("L", (6, 6), 90).save(tmp_path / "x.png")
    for number in ("0", "3"):
        message = f"there is no class '{number}'; class names are numbers here, so a number is a name"
        assert refused("unlearn", run, "--classes", number, "--out", tmp_path / "w.safetensors").startswith(message)
        assert refused("attribute", run, "--images", tmp_path / "x.png", "--labels", number).startswith(message)
        with pytest.raises(DDMError, match=message):
            ddm_framework.open_run(run).without(classes=[int(number)])
    assert not (tmp_path / "w.safetensors").exists()
    opened = ddm_framework.open_run(run)
    wanted = opened.unlearn(classes=["4"], repair=0, step_size=0.1).state_dict()
    found = opened.unlearn(classes=[4], repair=0, step_size=0.1).state_dict()
    assert all(torch.equal(each, found[name]) for name, each in wanted.items())
    status, out, _ = ddm("unlearn", run, "--classes", "2", "--repair", 0, "--out", tmp_path / "w.safetensors", "--json")
    assert (status, json.loads(out)["without"]) == (0, "class 2")


def test_names_with_commas_and_repeated_options(tmp_path: Path) -> None:
    run = run_with(tmp_path, "cat", "cat, big", "dog").path
    Image.new("L", (6, 6), 90).save(tmp_path / "x.png")
    Image.new("L", (6, 6), 20).save(tmp_path / "y.png")
    pictures = ["--images", tmp_path / "x.png", "--images", tmp_path / "y.png"]
    for labels in (["--labels", "cat, big,dog"], ["--labels", "cat, big", "--labels", "dog"]):
        status, out, _ = ddm("attribute", run, *pictures, *labels, "--json")
        assert status == 0
        assert [each["label"] for each in json.loads(out)["queries"]] == ["cat, big", "dog"]
    forget = ["unlearn", run, "--repair", 0, "--out", tmp_path / "w.safetensors", "--json"]
    assert json.loads(ddm(*forget, "--classes", "cat, big")[1])["without"] == "class cat, big"
    both = json.loads(ddm(*forget, "--classes", "cat, big", "--classes", "dog")[1])["without"]
    assert both == json.loads(ddm(*forget, "--classes", "cat, big,dog")[1])["without"]
    assert refused("unlearn", run, "--classes", "cat,,dog", "--out", tmp_path / "v.safetensors").startswith(
        "there is no class ''"
    )
    clusters = [ddm(*forget, *chosen)[1] for chosen in (["--clusters", "1,3"], ["--clusters", "1", "--clusters", "3"])]
    assert json.loads(clusters[0])["without"] == json.loads(clusters[1])["without"]
    told = [
        ddm("attribute", run, *chosen, "--json")[1]
        for chosen in (["--without", "1,3"], ["--without", "1", "--without", "3"])
    ]
    assert told[0] == told[1]
