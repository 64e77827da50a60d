"""A recipe is checked as a whole: every mistake at once, each with its place, what was found and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from plugin_sites import RECIPE, REGISTRY, Site, hooks, line_of, swap

from ddm_framework.errors import RecipeError
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import find_recipe, load_recipe
from ddm_framework.recipe.recipe import Recipe
from ddm_framework.recipe.settings import TimmFeatures
from ddm_framework.runs.provenance import ABSENT, differences

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))
NO_OBJECTIVES = "`objectives` lists at least one, as in [{use: output_shift}]"
IN_LIST = "`objectives` is a list of 1, counted from 0; it has no"
KEYS = (
    "(keys: schema, seed, device, threads, memory_mb, matmul_precision, engine, ray_address, dataset, backbone, "
    "clusterer, distance, study, corruption, training, target, matching, online, certificate, objectives, extends)"
)
TRAINING = (
    "(settings: epochs, lr, batch_size, momentum, weight_decay, optimizer, betas, eps, warmup_epochs, label_smoothing,"
    " schedule, augmentation, checkpoint_every, parameters)"
)
CONVNET = "`ddm show backbone convnet` explains them"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recipes are written to, and named from, an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str = RECIPE, *changes: str, file: str = "r.yaml") -> Recipe:
    """The recipe of a text, with `--set` changes."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text, encoding="utf-8")
    return load_recipe(file, REGISTRY, changes)


def problems(text: str = RECIPE, *changes: str, file: str = "r.yaml") -> list[str]:
    """Everything that is wrong with a text."""
    with pytest.raises(RecipeError) as caught:
        load(text, *changes, file=file)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_that_comes_with_ddm_is_valid(name: str) -> None:
    recipe = load_recipe(str(ROOT / name), REGISTRY)
    assert recipe.name == Path(name).stem
    assert recipe.as_dict() == load(recipe.as_yaml(), file=Path(name).name).as_dict()


def test_a_wrong_member_of_a_list_is_found_on_its_own_line() -> None:
    text = """\
extends: base.yaml
backbone:
  use: resnet
  blocks:
    - 1
    - two
training:
  augmentation:
    - crop
    - spin
"""
    Path("base.yaml").write_text(RECIPE, encoding="utf-8")
    assert [each.split(": ")[0] for each in problems(text)] == ["r.yaml:6", "r.yaml:10"]


def test_options_and_settings_become_what_they_say() -> None:
    recipe = load()
    assert recipe.name == "r"
    assert (recipe.dataset.name, recipe.dataset.options["validation"]) == ("digits", 0.1)
    assert (recipe.backbone.options["width"], recipe.backbone.options["norm"]) == (8, "instance")
    assert (recipe.training.epochs, recipe.training.lr, recipe.training.batch_size) == (4, 0.05, 64)
    assert (recipe.matching.steps, recipe.matching.pairing) == (2, "offset")
    assert recipe.clustering.clusters_per_class == 2
    assert [objective.name for objective in recipe.objectives] == ["output_shift"]
    assert (recipe.general.seed, recipe.general.device) == (0, "auto")


def test_a_recipe_is_told_in_one_line() -> None:
    assert load().in_words() == (
        "digits, convnet, kmeans with 2 clusters per class, cosine matching, output_shift, study attribution"
    )


def test_a_choice_passes_the_options_on_to_its_target() -> None:
    choice = Choice("objective", "sum", {"b": 3}, lambda a, /, *, b: a + b)
    assert choice(4) == 7
    assert choice.as_dict() == {"use": "sum", "b": 3}
    assert choice.code()  # of this file, which defines the function


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("training:", "traning:", "traning", f"unknown key 'traning'; did you mean 'training'? {KEYS}"),
        ("seed: 0", "seed: 0\nzzz: 1", "zzz", f"unknown key 'zzz' {KEYS}"),
        ("schema: 1", "schema: 2", "schema", "schema: input should be 1, found 2"),
        ("seed: 0", "seed: -1", "seed", "seed: input should be greater than or equal to 0, found -1"),
        ("seed: 0", "seed: '0'", "seed", "seed: input should be a valid integer, found '0'"),
        ("seed: 0", "seed: true", "seed", "seed: input should be a valid integer, found True"),
        ("seed: 0", "seed:", "seed", "seed: input should be a valid integer, found None"),
        ("seed: 0", "device: gpu", "device", "device: input should be 'auto', 'cpu' or 'cuda', found 'gpu'"),
        (
            "seed: 0",
            "threads: many",
            "threads",
            "threads: input should be a valid integer or input should be 'auto', found 'many'",
        ),
        (
            "seed: 0",
            "memory_mb: 1",
            "memory_mb",
            "memory_mb: input should be greater than or equal to 16 or input should be 'auto', found 1",
        ),
        (
            "use: convnet",
            "use: convnt",
            "backbone",
            "unknown backbone 'convnt'; did you mean 'convnet'? (`ddm ls backbone` lists them all)",
        ),
        ("use: cosine", "use: zzz", "distance", "unknown distance 'zzz' (`ddm ls distance` lists them all)"),
        (
            "width: 8",
            "widht: 8",
            "backbone",
            "backbone 'convnet' has no option 'widht'; did you mean 'width'? "
            f"(options: width, depth, norm, groups, initialisation); {CONVNET}",
        ),
        ("width: 8", "width: wide", "backbone", f"width: input should be a valid integer, found 'wide'; {CONVNET}"),
        ("width: 8", "width: 8.5", "backbone", f"width: input should be a valid integer, found 8.5; {CONVNET}"),
        ("width: 8", "width: 0", "backbone", f"width: input should be greater than or equal to 1, found 0; {CONVNET}"),
        (
            "clusters_per_class: 2",
            "cluster_per_class: 2",
            "clusterer",
            "clusterer 'kmeans' has no option 'cluster_per_class'; did you mean 'clusters_per_class' or"
            " 'cluster_size'? (options: restarts, max_iterations, clusters_per_class, cluster_size, features); "
            "`ddm show clusterer kmeans` explains them",
        ),
        (
            "clusters_per_class: 2",
            "clusters_per_class: 0",
            "clusterer",
            "clusters_per_class: input should be greater than 0, found 0",
        ),
        (
            "features: target",
            "features: targets",
            "clusterer",
            "features: input should be 'target' or 'pixels' or input should be a mapping, found 'targets'",
        ),
        (
            "features: target",
            "features: {tim: a, checkpoint: r.yaml, timm: b}",
            "clusterer",
            "`features` has no setting 'tim'; did you mean 'timm'? (settings: timm, checkpoint, size)",
        ),
        ("features: target", "features: {timm: resnet18}", "clusterer", "checkpoint: field required"),
        (
            "features: target",
            "features: {timm: resnet18, checkpoint: r.yaml, size: 0}",
            "clusterer",
            "size: input should be greater than 0, found 0",
        ),
        (
            "epochs: 4",
            "epoch: 4",
            "training",
            f"`training` has no setting 'epoch'; did you mean 'epochs'? {TRAINING}",
        ),
        ("epochs: 4", "epochs: 4.0", "training", "epochs: input should be a valid integer, found 4.0"),
        ("epochs: 4", "epochs: 0", "training", "epochs: input should be greater than 0, found 0"),
        ("lr: 0.05", "lr: .inf", "training", "lr: input should be a finite number, found inf"),
        ("lr: 0.05", "lr: .nan", "training", "lr: input should be a finite number, found nan"),
        ("lr: 0.05", "lr: fast", "training", "lr: input should be a valid number, found 'fast'"),
        ("lr: 0.05", "momentum: 1", "training", "momentum: input should be less than 1, found 1"),
        ("lr: 0.05", "schedule: step", "training", "schedule: input should be 'constant' or 'cosine', found 'step'"),
        (
            "steps: 2",
            "pairing: offsets",
            "matching",
            "pairing: input should be 'offset', 'mirror' or 'final', found 'offsets'",
        ),
        (
            "{steps: 1}",
            "{num_perturbations: 0}",
            "online",
            "num_perturbations: input should be greater than 0, found 0",
        ),
        ("{steps: 1}", "[1]", "online", "`online` is a section of settings, found [1]"),
        ("{steps: 1}", "fast", "online", "`online` is a section of settings, found 'fast'"),
        ("{steps: 1}", "", "online", "`online` is a section of settings, found None"),
        ("{use: cosine}", "cosine", "distance", "distance: write {use: name, option: value}, found 'cosine'"),
        ("{use: cosine}", "", "distance", "distance: write {use: name, option: value}, found None"),
        ("{use: cosine}", "{use: 3}", "distance", "distance: write {use: name, option: value}, found {'use': 3}"),
        ("{use: cosine}", "{uses: a}", "distance", "distance: write {use: name, option: value}, found {'uses': 'a'}"),
        (
            "[{use: output_shift}]",
            "[output_shift]",
            "objectives",
            "objective: write {use: name, option: value}, found 'output_shift'",
        ),
        (
            "[{use: output_shift}]",
            "[{use: outputshift}]",
            "objectives",
            "unknown objective 'outputshift'; did you mean 'output_shift'? (`ddm ls objective` lists them all)",
        ),
        (
            "[{use: output_shift}]",
            "{use: output_shift}",
            "objectives",
            f"{NO_OBJECTIVES}, found {{'use': 'output_shift'}}",
        ),
        ("[{use: output_shift}]", "[]", "objectives", f"{NO_OBJECTIVES}, found []"),
        ("[{use: output_shift}]", "", "objectives", NO_OBJECTIVES),
        (
            "queries: all",
            "queries: some",
            "study",
            "queries: input should be 'all' or 'validation' or input should be a valid integer, found 'some'; "
            "`ddm show study attribution` explains them",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, key: str, message: str) -> None:
    text = swap(old, new)
    found = [problem for problem in problems(text) if " is missing; " not in problem]
    assert found == [f"r.yaml:{line_of(key, text)}: {message}"]


def test_a_mistake_on_a_line_of_its_own_is_told_with_that_line() -> None:
    text = swap("{epochs: 4, lr: 0.05}", "\n  epochs: 4\n  lr: -1\n") + "\n"
    text = swap("[{use: output_shift}]", "\n  - use: output_shift\n  - use: performance\n    metric: f2\n", text)
    lines = text.splitlines()
    rate, metric = lines.index("  lr: -1") + 1, lines.index("    metric: f2") + 1
    assert problems(text) == [
        f"r.yaml:{rate}: lr: input should be greater than 0, found -1",
        f"r.yaml:{metric}: metric: input should be 'loss', 'accuracy', 'precision', 'recall', 'f1' or "
        "'false_positives', found 'f2'; `ddm show objective performance` explains them",
    ]


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    text = swap("seed: 0", "sed: 0")
    for old, new in [
        ("use: digits", "use: digts"),
        ("width: 8, depth: 1", "width: 0, dept: 1"),
        ("clusters_per_class: 2", "clusters_per_class: two"),
        ("lr: 0.05", "lr: -1"),
        ("[{use: output_shift}]", "[{use: margn}, 3]"),
        ("study: {use: attribution, queries: all}\n", ""),
    ]:
        text = swap(old, new, text)
    assert [problem.split(": ")[0] for problem in problems(text)] == [
        "r.yaml:1",
        "r.yaml:2",
        "r.yaml:3",
        "r.yaml:4",
        "r.yaml:4",
        "r.yaml:5",
        "r.yaml:7",
        "r.yaml:10",
        "r.yaml:10",
    ]
    assert problems(text)[0] == (
        "r.yaml:1: `study` is missing; write `study: {use: ...}`; `ddm ls study` lists what there is"
    )


@pytest.mark.parametrize("text", ["", "# to be written\n"])
def test_an_empty_recipe_lacks_everything(text: str) -> None:
    found = problems(text)
    assert [problem.split(" is missing")[0] for problem in found[:-1]] == [
        f"r.yaml:1: `{kind}`" for kind in ("dataset", "backbone", "clusterer", "distance", "study")
    ]
    assert found[-1] == f"r.yaml:1: {NO_OBJECTIVES}"


@pytest.mark.parametrize("text", ["- seed: 0\n", "seed\n", "3\n", "null\n", "---\n"])
def test_a_recipe_is_a_mapping(text: str) -> None:
    (found,) = problems(text)
    assert found.endswith(": a recipe is a mapping of keys such as `dataset:`")
    assert found.startswith("r.yaml:")


def test_yaml_that_cannot_be_read_is_told_with_its_line() -> None:
    assert problems(RECIPE + "online: {steps: 2}\nseed: 1\n") == [
        "r.yaml:12: key 'online' occurs twice (first at line 9)",
        "r.yaml:13: key 'seed' occurs twice (first at line 2)",
    ]
    assert problems(RECIPE + "x: [1\n")[0].startswith("r.yaml:13: not valid YAML: ")
    assert problems("a: &a {use: digits}\ndataset: *a\n" + RECIPE) == [
        "r.yaml:2: aliases (*name) are not allowed in a recipe; use `extends:` to share"
    ]


def test_what_was_found_is_not_repeated_at_length() -> None:
    (found,) = problems(swap("seed: 0", f"seed: {'x' * 50_000}"))
    assert found == f"r.yaml:2: seed: input should be a valid integer, found '{'x' * 76}..."


@pytest.mark.parametrize(
    ("matching", "training", "problem"),
    [
        ("step_length: 5", "epochs: 4", "step_length (5) is larger than training.epochs (4); no pair fits"),
        (
            "step_length: 3",
            "epochs: 4, checkpoint_every: 2",
            "step_length (3) must be a multiple of training.checkpoint_every (2), because both ends of a pair must be "
            "saved checkpoints",
        ),
        ("step_length: 4", "epochs: 4, checkpoint_every: 4", None),
        ("step_length: 0", "epochs: 4, checkpoint_every: 3", None),
        ("step_length: 5, pairing: mirror", "epochs: 4", None),
        ("step_length: 5, pairing: final", "epochs: 4, checkpoint_every: 2", None),
    ],
)
def test_the_step_length_must_fit_the_checkpoints(matching: str, training: str, problem: str | None) -> None:
    text = swap("steps: 2, step_length: 2", matching, swap("epochs: 4, lr: 0.05", training))
    if problem is None:
        load(text)
    else:
        assert problems(text) == [f"r.yaml:{line_of('matching')}: {problem}"]


def test_a_base_is_laid_under_the_recipe_that_extends_it() -> None:
    Path("bases").mkdir()
    Path("bases/first.yaml").write_text(RECIPE)
    Path("bases/second.yaml").write_text("extends: first.yaml\nseed: 5\ntraining: {lr: 0.1}\n")
    recipe = load("extends: ../bases/second.yaml\ntraining: {epochs: 9}\nbackbone: {use: timm}\n", file="mine/r.yaml")
    assert (recipe.general.seed, recipe.training.epochs, recipe.training.lr) == (5, 9, 0.1)
    assert (recipe.backbone.name, recipe.backbone.options["model"]) == ("timm", "resnet18")
    assert recipe.matching.steps == 2
    assert "extends" not in recipe.as_dict()


def test_mistakes_in_a_base_are_told_in_its_file(folder: Path) -> None:
    Path("base.yaml").write_text(swap("width: 8", "width: 0"))
    assert problems("seeed: 1\nextends: base.yaml\n") == [
        f"{folder}/base.yaml:4: width: input should be greater than or equal to 1, found 0; {CONVNET}",
        f"r.yaml:1: unknown key 'seeed'; did you mean 'seed'? {KEYS}",
    ]


@pytest.mark.parametrize(
    ("extends", "problem"),
    [
        ("nowhere.yaml", "`extends` names 'nowhere.yaml', but there is no file {folder}/nowhere.yaml"),
        ("'.'", "`extends` names '.', but there is no file {folder}"),
        ("[a.yaml]", "`extends` names one file, found ['a.yaml']"),
        ("", "`extends` names one file, found None"),
        ("r.yaml", "`extends` runs in a circle through r.yaml"),
        ("./x/../r.yaml", "`extends` runs in a circle through r.yaml"),
    ],
)
def test_a_base_must_be_another_file(extends: str, problem: str, folder: Path) -> None:
    Path("x").mkdir()
    assert problems(f"seed: 1\nextends: {extends}\n") == [f"r.yaml:2: {problem.format(folder=folder)}"]


def test_a_name_too_long_for_the_system_names_no_file() -> None:
    assert "but there is no file" in problems(f"extends: {'a' * 300}\n")[0]
    with pytest.raises(RecipeError, match=r"there is no file .a+., and no recipe of that name comes with ddm$"):
        find_recipe("a" * 300)


def test_a_circle_of_three_is_told_where_it_closes(folder: Path) -> None:
    Path("a.yaml").write_text("seed: 1\nextends: b.yaml\n")
    Path("b.yaml").write_text("extends: r.yaml\n")
    assert problems("extends: a.yaml\n") == [f"{folder}/b.yaml:1: `extends` runs in a circle through r.yaml"]


def test_a_base_that_cannot_be_read_is_told_by_its_own_name(folder: Path) -> None:
    Path("base.yaml").write_text("- 1\n")
    assert problems("extends: base.yaml\n") == [
        f"{folder}/base.yaml:1: a recipe is a mapping of keys such as `dataset:`"
    ]


def test_paths_are_relative_to_the_file_that_they_stand_in_and_on_the_command_line_to_here(folder: Path) -> None:
    Path("bases").mkdir()
    Path("bases/base.yaml").write_text(swap("use: digits", "use: imagefolder, root: photos"))
    child = "extends: ../bases/base.yaml\n"
    assert load(child, file="mine/r.yaml").dataset.options["root"] == folder / "bases/photos"
    moved = load(f"{child}dataset: {{root: ../other}}\n", file="mine/r.yaml")
    assert moved.dataset.options["root"] == folder / "other"
    again = load(child, "dataset.root=photos", file="mine/r.yaml")
    assert again.dataset.options["root"] == folder / "photos"
    whole = load(child, "dataset={use: imagefolder, root: photos}", file="mine/r.yaml")
    assert whole.dataset.options["root"] == folder / "photos"


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    recipe = load(swap("use: digits", "use: imagefolder, root: ~/photos"))
    assert recipe.dataset.options["root"] == folder / "home/photos"


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        ("~nobody-of-this-name/x", "'~nobody-of-this-name/x' is not a valid path: Could not determine home directory."),
        ('"a\\0b"', "'a\\x00b' is not a valid path: embedded null byte"),
    ],
)
def test_what_cannot_be_a_path_is_told(root: str, problem: str) -> None:
    found = problems(swap("use: digits", f"use: imagefolder, root: {root}"))
    assert found == [f"r.yaml:{line_of('dataset')}: {problem}"]


def test_the_checkpoint_of_a_feature_extractor_must_be_there(folder: Path) -> None:
    text = swap("features: target", "features: {timm: resnet18, checkpoint: ../weights.safetensors}")
    assert problems(text, file="mine/r.yaml") == [
        f"mine/r.yaml:{line_of('clusterer')}: checkpoint: there is no file {folder}/weights.safetensors"
    ]
    (folder / "weights.safetensors").touch()
    expected = TimmFeatures(timm="resnet18", checkpoint=folder / "weights.safetensors")
    assert load(text, file="mine/r.yaml").clustering.features == expected
    here = load(RECIPE, "clusterer.features={timm: vit, checkpoint: weights.safetensors}", file="mine/r.yaml")
    assert here.clustering.features == TimmFeatures(timm="vit", checkpoint=folder / "weights.safetensors")
    assert problems(swap("features: target", "features: {timm: a, checkpoint: 3}")) == [
        f"r.yaml:{line_of('clusterer')}: checkpoint: input should be an instance of Path, found 3"
    ]


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        ("seed=7", ("seed",), 7),
        ("training.lr=1e-3", ("training", "lr"), 0.001),
        ("training.lr=5E-4", ("training", "lr"), 0.0005),
        ("training.lr=2", ("training", "lr"), 2.0),
        ("matching={steps: 9, step_length: 1}", ("matching", "steps"), 9),
        ("study.queries=3", ("study", "queries"), 3),
        ("objectives.0.use=margin", ("objectives", 0, "use"), "margin"),
        ("objectives.0={use: performance, metric: f1}", ("objectives", 0, "metric"), "f1"),
        ("objectives=[{use: margin}, {use: stability}]", ("objectives", 1, "use"), "stability"),
        ("online.num_perturbations=12", ("online", "num_perturbations"), 12),
        ("backbone.use=timm", ("backbone", "use"), "timm"),
        ("dataset={use: npz, path: a=b.npz}", ("dataset", "use"), "npz"),
    ],
)
def test_a_value_can_be_set_from_the_command_line(change: str, place: tuple[Any, ...], value: Any) -> None:
    found: Any = load(RECIPE, change).as_dict()
    for key in place:
        found = found[key]
    assert found == value
    assert type(found) is type(value)


def test_the_last_of_several_settings_of_one_value_counts() -> None:
    assert load(RECIPE, "seed=1", "training.epochs=3", "seed=2").general.seed == 2


def test_another_component_starts_without_the_old_options() -> None:
    recipe = load(RECIPE, "backbone.use=timm", "backbone.model=resnet10t")
    assert recipe.backbone.options["model"] == "resnet10t"
    assert "width" not in recipe.backbone.options
    assert load(RECIPE, "backbone.use=convnet").backbone.options["width"] == 8


def test_a_section_that_the_recipe_lacks_can_be_set() -> None:
    assert load(swap("online: {steps: 1}\n", ""), "online.steps=3").online.steps == 3
    text = swap("distance: {use: cosine}\n", "")
    assert load(text, "distance.use=mse").distance.name == "mse"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("matching.steps", "--set takes key=value as in --set matching.steps=50, found 'matching.steps'"),
        ("=3", "--set takes key=value as in --set matching.steps=50, found '=3'"),
        ("matching..steps=3", "--set takes key=value as in --set matching.steps=50, found 'matching..steps=3'"),
        ("", "--set takes key=value as in --set matching.steps=50, found ''"),
        ("matching.steps=many", "--set matching.steps: steps: input should be a valid integer, found 'many'"),
        ("matching.steps=", "--set matching.steps: steps: input should be a valid integer, found None"),
        ("matching={steps: 0}", "--set matching: steps: input should be greater than 0, found 0"),
        ("sede=3", f"--set sede: unknown key 'sede'; did you mean 'seed'? {KEYS}"),
        ("foo.bar=3", f"--set foo.bar: unknown key 'foo' {KEYS}"),
        ("use=3", f"--set use: unknown key 'use' {KEYS}"),
        (
            "training.epoch=3",
            f"--set training.epoch: `training` has no setting 'epoch'; did you mean 'epochs'? {TRAINING}",
        ),
        ("training.epochs.x=3", "--set training.epochs.x: `training.epochs` is not a section; it has no 'x'"),
        ("seed.x=3", "--set seed.x: `seed` is not a section; it has no 'x'"),
        ("objectives.1.use=margin", f"--set objectives.1.use: {IN_LIST} '1'"),
        ("objectives.-1=3", f"--set objectives.-1: {IN_LIST} '-1'"),
        ("objectives.use=margin", f"--set objectives.use: {IN_LIST} 'use'"),
        ("objectives.0=3", "--set objectives.0: objective: write {use: name, option: value}, found 3"),
        ("extends=base.yaml", "--set extends: `extends` is allowed only in a file"),
        (
            "seed=[1",
            "--set seed: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        ("seed={a: 1, a: 2}", "--set seed: key 'a' occurs twice"),
        ("seed=*a", "--set seed: aliases (*name) are not allowed in a recipe; use `extends:` to share"),
        (
            "backbone.use=convnt",
            "--set backbone.use: unknown backbone 'convnt'; did you mean 'convnet'? (`ddm ls backbone` lists them all)",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_told_by_its_key(change: str, problem: str) -> None:
    assert problems(RECIPE, change) == [problem]


def test_mistakes_of_file_and_command_line_are_told_together() -> None:
    found = problems(swap("lr: 0.05", "lr: 0"), "seed=x", "online.stesp=1")
    assert [problem.split(": ")[0] for problem in found] == ["--set online.stesp", "--set seed", "r.yaml:7"]


def test_a_recipe_is_found_by_path_or_by_the_name_of_one_that_comes_with_ddm() -> None:
    built_in = ROOT / "recipes/digits_convnet.yaml"
    for name in ("digits_convnet", "digits_convnet.yaml", "recipes/digits_convnet.yaml", str(built_in)):
        assert find_recipe(name) == built_in
    Path("digits_convnet").write_text(RECIPE)
    assert find_recipe("digits_convnet") == Path("digits_convnet")


def test_a_recipe_that_is_nowhere_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe("digits_convnt.yaml")
    told, _, near = str(caught.value).partition("; ")
    assert told == "there is no file 'digits_convnt.yaml', and no recipe of that name comes with ddm"
    assert near.startswith("did you mean 'digits_convnet'")


def test_the_resolved_recipe_spells_out_every_default_and_loads_again(folder: Path) -> None:
    (folder / "w.pt").touch()
    recipe = load(RECIPE, "training.lr=1e-7", "clusterer.features={timm: '1e-3', checkpoint: w.pt}", "online.ridge=0.5")
    written = yaml.safe_load(recipe.as_yaml())
    assert list(written) == [
        *("schema", "seed", "device", "threads", "memory_mb", "matmul_precision", "engine", "ray_address"),
        *("dataset", "corruption", "backbone", "clusterer"),
        *("distance", "training", "target", "matching", "online", "objectives", "study", "certificate"),
    ]
    assert written["backbone"] == {
        **{"use": "convnet", "width": 8, "depth": 1, "norm": "instance", "groups": 8},
        "initialisation": "default",
    }
    assert written["clusterer"]["features"] == {"timm": "1e-3", "checkpoint": f"{folder}/w.pt", "size": None}
    assert written["online"]["step_size"] == 5e-4
    again = load(recipe.as_yaml(), file="elsewhere/r.yaml")
    assert again == recipe
    assert again.as_yaml() == recipe.as_yaml()
    assert list(differences(recipe.as_dict(), again.as_dict())) == []


def test_a_default_path_means_the_same_wherever_the_resolved_recipe_lies(folder: Path) -> None:
    recipe = load(swap("use: digits", "use: mnist"))
    assert recipe.dataset.options["root"] == folder / "data"
    assert load(recipe.as_yaml(), file="runs/r/recipe.yaml").dataset == recipe.dataset


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.fixed_dictionaries(
        {
            "training": st.fixed_dictionaries(
                {"lr": st.floats(1e-30, 1e9), "momentum": st.floats(0, 1, exclude_max=True)}
            ),
            "seed": st.integers(0, 2**63 - 1),
            "backbone": st.fixed_dictionaries({"use": st.just("timm"), "model": st.text()}),
        }
    )
)
def test_any_valid_values_survive_being_written_and_read(values: dict[str, Any]) -> None:
    recipe = load(yaml.safe_dump({**yaml.safe_load(RECIPE), **values}))
    assert recipe.backbone.options["model"] == values["backbone"]["model"]
    assert math.isclose(recipe.training.lr, values["training"]["lr"], rel_tol=0)
    assert load(recipe.as_yaml()) == recipe


words = st.sampled_from([*KEYS.strip("()").replace("keys: ", "").split(", "), "use", "digits", "0", "x"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | words,
    lambda children: st.lists(children, max_size=2) | st.dictionaries(words, children, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tree=st.dictionaries(words, trees, max_size=8), change=st.text("seduobjctiv.=0[{", max_size=12))
def test_data_that_are_no_recipe_are_a_list_of_problems_each_with_its_place(tree: dict[str, Any], change: str) -> None:
    Path("r.yaml").write_text(yaml.safe_dump(tree))
    for changes in ([], [change]):
        with pytest.raises(RecipeError) as caught:
            load_recipe("r.yaml", REGISTRY, changes)
        assert all(str(problem).startswith(("r.yaml:", "--set ")) for problem in caught.value.problems)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


def test_options_of_a_plugin_take_lists_of_paths_and_tuples_and_survive_being_written(site: Site, folder: Path) -> None:
    code = "from pathlib import Path\n" + hooks('yield Component("rich", "fake_rich:measure")')
    site.add(
        "fake_rich",
        code
        + "def measure(a, b, /, *, files: list[Path] = [], shape: tuple[int, ...] = (1, 2), text: str = '1e5'): ...\n",
    )
    registry = load_plugins()
    Path("r.yaml").write_text(swap("use: output_shift", "use: rich, files: [a, ../b], shape: [3]"))
    (choice,) = load_recipe("r.yaml", registry).objectives
    assert choice.options == {"files": [folder / "a", folder.parent / "b"], "shape": (3,), "text": "1e5"}
    Path("deep").mkdir()
    for change in ([], ["objectives.0={use: rich}"]):
        recipe = load_recipe("r.yaml", registry, change)
        Path("deep/r.yaml").write_text(recipe.as_yaml())
        assert load_recipe("deep/r.yaml", registry) == recipe


def test_a_component_that_is_broken_is_told_where_the_recipe_picks_it(site: Site) -> None:
    site.add(
        "fake_bad", hooks('yield Component("bad", "fake_nowhere:measure")\n    yield Component("worse", "os:listdir")')
    )
    Path("r.yaml").write_text(swap("[{use: output_shift}]", "\n- {use: bad}\n- {use: worse}\n"))
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", load_plugins())
    assert str(caught.value).splitlines() == [
        "r.yaml:11: objective 'bad' of plugin fake-bad:main cannot be imported: ModuleNotFoundError: No module named "
        "'fake_nowhere'",
        "r.yaml:12: objective 'worse' of plugin fake-bad:main: argument 'path' must stand before '/' (from the core) "
        "or after '*' (an option of the recipe)",
    ]


def test_the_code_of_a_local_plugin_belongs_to_the_choice(folder: Path) -> None:
    code = hooks('yield Component("mine", f"{__name__}:measure")') + "def measure(a, b, /): ...\n"
    digests = []
    for text in (code, code, code + "# edited\n"):
        (folder / "mine.py").write_text(text)
        load(RECIPE)
        (choice,) = load_recipe("r.yaml", load_plugins([folder / "mine.py"]), ["objectives.0.use=mine"]).objectives
        digests.append(choice.code())
    assert digests[0] == digests[1] != digests[2]


def test_differences_are_named_by_their_place() -> None:
    old = {"a": {"b": 1, "c": [1]}, "d": 2}
    new = {"a": {"b": 1, "c": [2]}, "e": 3}
    assert list(differences(old, new)) == [(("a", "c", "0"), 1, 2), (("d",), 2, ABSENT), (("e",), ABSENT, 3)]


def test_another_clusterer_keeps_what_the_core_asks_of_any(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text((ROOT / "recipes" / "digits_convnet.yaml").read_text().replace(": 10,", ": 7,"))
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nclusterer: {use: sequential}\n")
    registry = load_plugins()
    extended = load_recipe(str(tmp_path / "mine.yaml"), registry)
    overridden = load_recipe(str(tmp_path / "base.yaml"), registry, ["clusterer.use=sequential"])
    assert extended.clusterer.name == overridden.clusterer.name == "sequential"
    assert extended.clustering.clusters_per_class == overridden.clustering.clusters_per_class == 7


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{use: ddmm}", "unknown attributor 'ddmm'; did you mean 'ddm'"),
        ("{use: ddm, stp_size: 1e-3}", "attributor 'ddm' has no option 'stp_size'; did you mean 'step_size'?"),
        ("{use: ddm, step_size: [1e-3, -1.0]}", "step_size: input should be greater than 0, found -1.0"),
        ("ddm", "attributor: write {use: name, option: value}, found 'ddm'"),
    ],
)
def test_components_that_a_study_lists_are_checked_like_any_other(entry: str, words: str) -> None:
    lines = [line for line in RECIPE.splitlines() if not line.startswith("study:")]
    number = len(lines) + 3
    text = "\n".join([*lines, "study:", "  use: fidelity", f"  methods: [{{use: exact}}, {entry}]"])
    with pytest.raises(RecipeError) as caught:
        load(text)
    assert any(f"r.yaml:{number}: " in str(each) and words in str(each) for each in caught.value.problems)
