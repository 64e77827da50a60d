"""Numbers that no machine can hold: a recipe is refused in a sentence, by its bounds or by an estimate."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from run_fixtures import TINY, ddm, refused, tiny
from tries import tried

from ddm_framework.data import DataInfo
from ddm_framework.errors import DDMError, Mark, RecipeError, shown
from ddm_framework.network import build_network
from ddm_framework.plugin import choose, load_plugins
from ddm_framework.recipe import Recipe, load_recipe
from ddm_framework.recipe.checking import check_source
from ddm_framework.recipe.yaml_source import Source
from ddm_framework.resources import MemoryShortageError, check_fits, free_memory, in_words, memory_told
from ddm_framework.stages.fitting import needs

INFO = DataInfo((1, 6, 6), 3, (0.5,), (0.25,), ("a", "b", "c"))
CPU = torch.device("cpu")
REGISTRY = load_plugins()
ODD: list[Any] = [
    *(10**power for power in (6, 9, 12, 15, 18, 19, 20, 30, 100, 4000)),
    *(2**power + off for power in (31, 32, 53, 63, 64) for off in (-1, 0, 1)),
    *(0, -1, -(10**18), -(2**63), 1e-320, 1e-40, 1e30, 1e300, -1e300, math.inf, -math.inf, math.nan, 0.1 + 1e-17),
    *(True, None, "", "x" * 10_000, "\x00", "9" * 5000, "1e999", ".inf", [], {}, [[]], [1e18], {"use": "convnet"}),
]
ODD_TEXT = (
    *("0x" + "f" * 5000, "9" * 5000, "1e9999", "1_000_000_000_000_000", "0o" + "7" * 3000, ".inf", "-.INF"),
    "190:20:30",
)
BACKBONES = ("convnet", "resnet", "alexnet", "vit")


@pytest.fixture(scope="module")
def recipe_text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tiny recipe, every default spelled out."""
    path = tiny(tmp_path_factory.mktemp("settings"))
    return load_recipe(str(path), REGISTRY).as_dict()


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a tree that holds a value."""
    if place:
        yield place
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from places(tree[key], (*place, key))


def put(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    around = tree
    for key in place[:-1]:
        around = around[key]
    around[place[-1]] = value
    return tree


def weighed(recipe: Recipe) -> None:
    """What happens between reading a recipe and training: the network is built, and every part estimated."""
    network, _ = build_network(recipe.backbone, INFO, recipe.general.seed, CPU)
    for need in needs(recipe, INFO, 48, network):
        check_fits(4 * need.values, need.what, need.lower)


@tried(1500)
@given(data=st.data())
def test_mutated_recipes_are_refused_or_sound(
    data: st.DataObject, recipe_text: dict[str, Any], tmp_path_factory: Any
) -> None:
    tree = copy.deepcopy(recipe_text)
    if data.draw(st.integers(0, 9)) == 0:
        name = data.draw(st.sampled_from(BACKBONES))
        tree["backbone"] = choose(REGISTRY, "backbone", name).as_dict()
    number = data.draw(st.integers(1, 2))
    for _ in range(number):
        place = data.draw(st.sampled_from(list(places(tree))))
        put(tree, place, data.draw(st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=5)))
    begun = time.monotonic()
    try:
        weighed(check_source(Source(tree, {(): Mark("mutated.yaml", 1)}, {(): Path.cwd()}), "mutated", REGISTRY))
    except DDMError as error:
        assert "Traceback" not in str(error)
        assert len(str(error)) < 20_000
    assert time.monotonic() - begun < 20


@tried(500)
@given(data=st.data())
def test_mutated_text_is_refused_or_sound(data: st.DataObject, recipe_text: dict[str, Any]) -> None:
    lines = yaml.safe_dump(recipe_text).splitlines()
    row = data.draw(st.integers(0, len(lines) - 1))
    key, colon, _ = lines[row].partition(":")
    kind = data.draw(st.sampled_from(["value", "bytes", "cut", "twice", "noise"]))
    if kind == "value" and colon:
        lines[row] = f"{key}: {data.draw(st.sampled_from(ODD_TEXT))}"
    elif kind == "twice":
        lines.insert(row, lines[data.draw(st.integers(0, len(lines) - 1))])
    text = "\n".join(lines)
    content = text.encode()
    if kind == "cut":
        content = content[: data.draw(st.integers(0, len(content)))]
    elif kind == "bytes":
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + data.draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :]
    elif kind == "noise":
        content = data.draw(st.binary(max_size=200))
    Path("mutated.yaml").write_bytes(content)
    try:
        weighed(load_recipe("mutated.yaml", REGISTRY))
    except DDMError as error:
        assert "Traceback" not in str(error)


@pytest.fixture(autouse=True)
def _stands_in_a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


REFUSED = {
    "seed=" + "9" * 5000: "cannot be read as a plain value",
    "seed=0x" + "f" * 5000: "less than or equal to 9223372036854775807",
    "seed=100000000000000000000": "less than or equal to 9223372036854775807",
    "threads=1000000": "less than or equal to 1024",
    "threads=1000": "wait for one another",
    "training.batch_size=1e18": "valid integer",
    "training.batch_size=100000000000000000000": "less than or equal to 9223372036854775807",
    "matching.steps=1000000000000000000": "less than or equal to 10000000",
    "online.steps=1000000000000000000": "less than or equal to 1000000",
    "online.anchor=1e18": "less than or equal to 1000",
    "matching.images_per_cluster=1000000000000000000": "less than or equal to 1000000",
    "matching.images_per_cluster=1000000": "matching one cluster would need about",
    "backbone.width=1000000000000000000": "the backbone would need more than",
    "backbone.width=60000": "the backbone would need more than",
    "training.epochs=1000000000000000000": "less than or equal to 1000000",
    "training.lr=1e300": "at most 1e+30",
    "training.lr=1e-300": "at least 1e-30",
    "training.lr=.inf": "finite",
    "clusterer.restarts=1000000000000000000000000000000": "less than or equal to 10000",
    "online.ridge=.nan": "finite",
    "memory_mb=100000000000000000000": "less than or equal to 9223372036854775807",
}


@pytest.mark.parametrize("setting", REFUSED, ids=lambda each: each[:40])
def test_what_was_let_through_once(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting == "matching.images_per_cluster=1000000":  # a large machine could hold it, and would take an hour
        monkeypatch.setattr("ddm_framework.resources.free_memory", lambda: 2**33)
    changes = ["--set", setting]
    if setting == "backbone.width=60000":
        changes += ["--set", "backbone.depth=2"]
    told = refused("run", tiny(tmp_path / "work"), "--out", tmp_path / "run", *changes)
    assert REFUSED[setting] in told
    assert len(told) < 1000


def test_infinity_in_a_component_is_refused_as_in_the_core(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, backbone="{use: vit, mlp_ratio: .inf}")
    assert "mlp_ratio: input should be a finite number, found inf" in refused("validate", recipe)
    arguments = "{use: timm, model: resnet10t, arguments: {img_size: [1.0e+400, 3]}}"
    assert "finite" in refused("validate", tiny(tmp_path, backbone=arguments))


def test_numbers_too_long_to_be_written_are_shown_all_the_same() -> None:
    assert shown(10**5000) == "a int too long to write"


def test_a_design_beyond_the_memory_is_refused(tmp_path: Path) -> None:
    changes = ("--set", "online.perturbations=random", "--set", "online.num_perturbations=1000000")
    many = ("--set", "clusterer.clusters_per_class=1000000")
    told = refused("run", tiny(tmp_path / "work"), "--out", tmp_path / "run", *changes, *many)
    assert "would need about" in told
    assert "lower" in told


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4e12 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("Storage size calculation overflowed with sizes=[1000000000000000000]"),
        ValueError("array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size."),
    ],
    ids=str,
)
def test_where_memory_ends_one_sentence_says_what_to_lower(raised: Exception) -> None:
    wanted = r"^matching ran out of memory \(.* are free\); lower memory_mb$"
    with pytest.raises(MemoryShortageError, match=wanted), memory_told("matching", "lower memory_mb"):
        raise raised


def test_real_allocators_are_told() -> None:
    import numpy as np

    for allocate in (
        lambda: torch.empty(10**15),
        lambda: torch.empty(2**62, 2**3),
        lambda: np.empty((10**15,)),
        lambda: bytearray(10**15),
        lambda: torch.zeros(10**14).clone(),
    ):
        with pytest.raises(MemoryShortageError), memory_told("it", "lower it"):
            allocate()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="other"), memory_told("it", "lower it"):
        raise ValueError("other")
    with pytest.raises(RecipeError), memory_told("it", "lower it"):
        raise RecipeError([])


def test_sizes_in_words() -> None:
    assert [in_words(each) for each in (0, 999, 36e9, 1.5e12, 1e300)] == [
        "0 bytes",
        "999 bytes",
        "36 GB",
        "1.5 TB",
        "1e+279 EB",
    ]
    free = free_memory()
    assert free is not None
    check_fits(free / 2, "it", "lower it")
    with pytest.raises(MemoryShortageError, match=r"it would need about .*; .* are free; lower it"):
        check_fits(free * 2 + 1e9, "it", "lower it")
    with pytest.raises(MemoryShortageError, match="would need about 36 GB; 20 GB are free"):
        check_fits(36e9, "it", "lower it", 20 * 10**9)


def test_estimates_are_those_of_the_costs() -> None:
    """For the tiny recipe by hand: 48 images, 3 classes, 6 clusters, a network of W weights and A activations."""
    recipe = load_recipe(str(_written(TINY)), REGISTRY)
    network, _ = build_network(recipe.backbone, INFO, 0, CPU)
    weights, values = network.num_weights, network.activation_values
    found = {need.what: need.values for need in needs(recipe, INFO, 48, network)}
    assert found["training the target"] == pytest.approx(0.6 * (4 * weights + 4 * 16 * values))
    assert found["matching one cluster"] == pytest.approx(6 * weights + 16 * values)
    assert found["the synset"] == 9 * (36 + 3)
    assert found["the design of perturbations"] == 3 * 7 * 6


def _written(text: str) -> Path:
    from run_fixtures import save_data

    save_data(Path("data.npz"))
    Path("estimated.yaml").write_text(text)
    return Path("estimated.yaml")


def test_a_run_that_fits_is_not_refused(tmp_path: Path) -> None:
    status, _, told = ddm("run", tiny(tmp_path), "--out", tmp_path / "run", "--set", f"seed={2**63 - 1}")
    assert status == 0, told
