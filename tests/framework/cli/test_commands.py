"""The command: a user's mistake is one message and status 2, and asking what there is takes no time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from plugin_sites import BROKEN, GOOD, RECIPE, REGISTRY, Site, hooks

from ddm_framework.cli import commands
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.recipe.reading import load_recipe

ROOT = Path(__file__).resolve().parents[3]
KINDS_LISTED = f"(kinds: {', '.join(KINDS)})"

ENTROPY = '''\
import torch
from ddm_framework import Component, hookimpl, objective
@objective(more_influential="larger")
def entropy(logits, reference, /):
    """Entropy of the prediction, in nats."""
    return torch.distributions.Categorical(logits=logits).entropy()[:, None]
@hookimpl
def ddm_register_objectives():
    yield Component("entropy", f"{__name__}:entropy", "How unsure the network becomes")
'''

Told = tuple[int, str, str]
"""Exit status, standard output, standard error."""


def run(*arguments: str, site: Path | None = None) -> Told:
    """The command as a process of its own, away from the checkout's files."""
    environment = {**os.environ, "PYTHONPATH": str(site or ""), "COLUMNS": "80"}
    command = [sys.executable, "-m", "ddm_framework", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def imported_by(*arguments: str) -> set[str]:
    """Top-level modules that are there after the command has run."""
    code = (
        "import sys\nfrom ddm_framework.cli import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    assert not stop.code\nprint('\\n', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands are given in an empty folder with one recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def ddm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """The command in this process, which is quicker."""

    def call(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["ddm", *arguments])
        with pytest.raises(SystemExit) as stop:
            commands.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "objektive"), f"there is no kind 'objektive'; did you mean 'objective'? {KINDS_LISTED}"),
        (("show", "bakbone", "x"), f"there is no kind 'bakbone'; did you mean 'backbone'? {KINDS_LISTED}"),
        (
            ("show", "backbone", "convnt"),
            "unknown backbone 'convnt'; did you mean 'convnet'? (`ddm ls backbone` lists them all)",
        ),
        (("validate", "nowhere.yaml"), "there is no file 'nowhere.yaml', and no recipe of that name comes with ddm"),
        (("run", "nowhere.yaml"), "there is no file 'nowhere.yaml', and no recipe of that name comes with ddm"),
        (
            ("validate", "r.yaml", "--set", "seed=x", "--set", "training.lr=0"),
            "--set seed: seed: input should be a valid integer, found 'x'\n"
            "--set training.lr: lr: input should be greater than 0, found 0",
        ),
        (("validate", "r.yaml", "--plugin", "nowhere.py"), "plugin file nowhere.py: there is no such file"),
        (
            ("unlearn", "r", "--clusters", "3,x", "--out", "net.safetensors"),
            "--clusters takes ids separated by commas, as in 3,17, found '3,x'",
        ),
        (
            ("unlearn", "r", "--out", "net.safetensors"),
            "name what to forget: either --clusters, as in 3,17, or --classes, as in 3,cat",
        ),
        (
            ("unlearn", "r", "--clusters", "3", "--classes", "4", "--out", "net.safetensors"),
            "name what to forget: either --clusters, as in 3,17, or --classes, as in 3,cat",
        ),
    ],
)
def test_a_users_mistake_is_one_message_and_status_2(
    ddm: Callable[..., Told], arguments: tuple[str, ...], message: str
) -> None:
    assert ddm(*arguments) == (2, "", f"ddm: {message}\n")


def test_a_process_ends_the_same_way() -> None:
    status, out, err = run("validate", "r.yaml", "--set", "backbone.width=0")
    assert (status, out) == (2, "")
    assert err == (
        "ddm: --set backbone.width: width: input should be greater than or equal to 1, found 0; "
        "`ddm show backbone convnet` explains them\n"
    )


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_traceback_can_be_asked_for_anywhere(position: int) -> None:
    arguments = ["show", "backbone", "convnt"]
    arguments.insert(position, "--traceback")
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):")
    assert "DDMError: unknown backbone 'convnt'" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("lss",), "No such command 'lss'"),
        (("validate",), "Missing argument"),
        (("validate", "r.yaml", "--sett", "a=1"), "No such option: --sett"),
        (("attribute", "r", "--images", "x", "--top", "0"), "Invalid value for '--top'"),
    ],
)
def test_a_misspelt_command_is_status_2_with_help(
    ddm: Callable[..., Told], arguments: tuple[str, ...], text: str
) -> None:
    status, out, err = ddm(*arguments)
    assert (status, out) == (2, "")
    assert text in " ".join(err.replace("│", " ").split())


def test_help_tells_every_command_on_one_page(ddm: Callable[..., Told]) -> None:
    status, out, _ = ddm("--help")
    assert status == 0
    for command in ("run", "validate", "ls", "show", "plugins", "attribute", "unlearn"):
        assert f" {command} " in out
    assert "--traceback" in out


def test_an_interruption_is_told_with_what_to_do(ddm: Callable[..., Told]) -> None:
    Path("stop.py").write_text("raise KeyboardInterrupt\n")
    assert ddm("ls", "--plugin", "stop.py") == (
        130,
        "",
        "ddm: interrupted; what was finished is kept, run the same command again to go on\n",
    )


def test_a_valid_recipe_is_told_in_one_line(ddm: Callable[..., Told]) -> None:
    assert ddm("validate", "r.yaml", "--set", "objectives=[{use: margin}, {use: stability}]") == (
        0,
        "r.yaml is a valid recipe: digits, convnet, kmeans with 2 clusters per class, cosine matching, margin, "
        "stability, study attribution\n",
        "",
    )
    status, out, _ = ddm("validate", "digits_convnet")
    assert status == 0
    assert out.startswith(f"{ROOT / 'recipes/digits_convnet.yaml'} is a valid recipe: digits, ")


def test_components_are_listed_and_shown(ddm: Callable[..., Told]) -> None:
    status, out, err = ddm("ls")
    assert (status, err) == (0, "")
    assert [tuple(line.split()[:2]) for line in out.splitlines()[1:]] == [
        (kind, name) for kind in KINDS for name in REGISTRY.names(kind)
    ]
    status, out, _ = ddm("show", "clusterer", "kmeans")
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.split()[:1] == ["restarts"]]
    assert line.split()[1:4] == ["integer", "≥", "1"]
    assert line.split()[-1] == "4"


def test_broken_plugins_are_shown_with_their_reasons_and_nothing_else_suffers(folder: Path) -> None:
    site = Site(folder / "site")
    for module, (code, _) in BROKEN.items():
        site.add(module, code)
    for module in ("fake_good", "fake_other"):
        site.add(module, GOOD)
    status, out, err = run("plugins", site=site.path)
    assert (status, err) == (0, "")
    words = " ".join(out.split())
    for module, (_, reason) in BROKEN.items():
        assert f"{module.replace('_', '-')}:main 1.0 not loaded: {reason}" in words
    assert "fake-good:main 1.0 objective gauge" in words
    assert "ddm-framework:distances" in words
    collision = words.partition("objective 'gauge' is brought by ")[2]
    assert collision.endswith("; a recipe cannot use it")
    assert {*collision.partition(";")[0].split(" and ")} == {"fake-good:main", "fake-other:main"}

    status, out, err = run("ls", "objective", site=site.path)
    assert (status, err) == (0, "")
    names = sorted([*REGISTRY.names("objective"), "gauge", "gauge"])
    assert [line.split()[:2] for line in out.splitlines()[1 : len(names) + 1]] == [
        ["objective", name] for name in names
    ]
    assert " ".join(out.split()).endswith("; `ddm plugins` says why")

    assert run("--help", site=site.path)[0] == 0
    assert run("validate", "r.yaml", site=site.path)[0] == 0
    status, _, err = run("validate", "r.yaml", "--set", "objectives.0.use=gauge", site=site.path)
    assert status == 2
    assert "objective 'gauge' is brought by fake-" in err
    status, _, err = run("show", "objective", "gaug", site=site.path)
    assert status == 2
    assert err.startswith(
        "ddm: unknown objective 'gaug'; did you mean 'gauge'? (`ddm ls objective` lists them all; not "
    )


def test_an_objective_of_ten_lines_is_a_plugin(ddm: Callable[..., Told], folder: Path) -> None:
    assert len(ENTROPY.splitlines()) <= 10
    Path("mine.py").write_text(ENTROPY)
    chosen = ("--plugin", "mine.py", "--set", "objectives.0.use=entropy")
    status, out, err = ddm("validate", "r.yaml", *chosen)
    assert (status, err) == (0, "")
    assert out.startswith("r.yaml is a valid recipe: ")
    assert ", entropy, study attribution" in out
    assert ddm("show", "objective", "entropy", "--plugin", "mine.py")[1].splitlines()[-1] == (
        "Entropy of the prediction, in nats."
    )
    assert "mine.py" in ddm("plugins", "--plugin", "mine.py")[1]
    assert ddm("validate", "r.yaml", "--set", "objectives.0.use=entropy")[0] == 2

    import torch

    (choice,) = load_recipe("r.yaml", load_plugins([Path("mine.py")]), ["objectives.0.use=entropy"]).objectives
    measured = choice(torch.zeros(2, 4), None)
    assert torch.allclose(measured, torch.full((2, 1), 4.0).log())


@pytest.mark.parametrize("command", [("ls",), ("plugins",), ("validate", "r.yaml"), ("show", "study", "attribution")])
def test_a_broken_plugin_file_is_status_2(ddm: Callable[..., Told], command: tuple[str, ...]) -> None:
    Path("mine.py").write_text(hooks('yield Component("my objective", f"{__name__}:measure")'))
    assert ddm(*command, "--plugin", "mine.py") == (
        2,
        "",
        "ddm: plugin file mine.py: ValueError: component name 'my objective' is not a plain name like 'my_objective' "
        "(mine.py:4)\n",
    )


@pytest.mark.parametrize("arguments", [("ls",), ("ls", "objective"), ("plugins",), ("--help",)])
def test_asking_what_there_is_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    found = imported_by(*arguments)
    assert "ddm_framework" in found
    assert not found & {"torch", "torchvision", "timm", "numpy", "sklearn", "matplotlib", "yaml"}


def test_validating_imports_only_what_the_recipe_picks() -> None:
    found = imported_by("validate", str(ROOT / "recipes/digits_convnet.yaml"))
    assert "ddm_backbones" in found
    assert not found & {"timm", "torchvision", "matplotlib"}


def test_listing_is_instant() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert run("ls")[0] == 0
        seconds.append(time.perf_counter() - start)
    assert median(seconds) < 2
