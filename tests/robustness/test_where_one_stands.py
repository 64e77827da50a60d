"""The current folder, and the folder that data and results lie in, may be a stranger's: nothing in them is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from run_fixtures import copied, refused, tiny

from ddm_framework.runs.provenance import git_revision

HARMLESS = ("'uname'", "/sbin/ldconfig", "['lscpu', '--parse=core']")
"""What Python itself asks the system for, and the processor's cores, which joblib counts by PATH."""

MODULES = (
    *("torch", "numpy", "yaml", "json", "typing_extensions", "sitecustomize", "usercustomize", "conftest", "sklearn"),
    *("scipy", "matplotlib", "PIL", "rich", "pydantic", "filelock", "safetensors", "timm", "ddm_backbones", "evil"),
    "ddm_local_evil",
)
SCRIPT = """\
import json, sys, os

def heard(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn"):
        print(json.dumps([event, str(arguments[:2])]), file=log, flush=True)

log = open(sys.argv[1], "w")
sys.addaudithook(heard)
from ddm_framework.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["ddm", *json.loads(line)]
    try:
        main()
    except SystemExit as stop:
        print(json.dumps([stop.code]), flush=True)
from ddm_framework.report import Chart
from ddm_framework.report.pictures import chart_svg
print(len(chart_svg(Chart("line", {"a": [1.0, 2.0]}, "x", "y"))) > 100)
"""


def hostile(folder: Path, marker: Path) -> Path:
    """A folder full of files that some program or other runs where it finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    evil = f"open({str(marker)!r}, 'a').write(__name__ + ' ')\n"
    for name in MODULES:
        (folder / f"{name}.py").write_text(evil)
    package = folder / "evil-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[ddm]\nevil = evil\n")
    script = folder / "evil.sh"
    script.write_text(f"#!/bin/sh\necho git >> {marker}\n")
    script.chmod(0o755)
    git = folder / ".git"
    git.mkdir()
    (git / "config").write_text(f"[core]\n\tfsmonitor = {script}\n\tpager = {script}\n\tsshCommand = {script}\n")
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").symlink_to("/dev/zero")
    (folder / "matplotlibrc").write_text("backend: module://evil\ntext.usetex: True\nsavefig.directory: evil\n")
    (folder / ".pth").write_text("import evil\n")
    (folder / "evil.pth").write_text("import evil\n")
    return folder


def ddm(folder: Path, script: Path, *commands: list[object]) -> tuple[list[int], str, list[str]]:
    """The installed command called several times, standing in a folder, and then a chart.

    Returns:
        The exit statuses, what it complained of, and the programs that it started.
    """
    script.parent.mkdir(exist_ok=True)
    script.write_text(SCRIPT)
    told = "\n".join(json.dumps([str(each) for each in command]) for command in commands)
    log = script.with_suffix(".log")
    done = subprocess.run(
        [sys.executable, str(script), str(log)], cwd=folder, input=told, capture_output=True, text=True, timeout=100
    )
    lines = done.stdout.splitlines()
    assert lines[-1:] == ["True"], done.stderr
    started = [line for line in log.read_text().splitlines() if not any(each in line for each in HARMLESS)]
    return [json.loads(line)[0] or 0 for line in lines if line.startswith("[")], done.stderr, started


def test_nothing_of_the_folder_one_stands_in_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = hostile(tmp_path / "stranger", marker)
    recipe = tiny(folder, certificate="{retrainings: 3}", training="{epochs: 2, lr: 0.1, checkpoint_every: 2}")
    run = ["run", recipe.name, "--out", "run"]
    unlearn = ["unlearn", "run", "--clusters", "1", "--out", "net.safetensors"]
    ended, complaint, started = ddm(folder, tmp_path / "bin" / "ddm", run, unlearn)
    assert ended == [0, 0], complaint
    assert not marker.exists(), marker.read_text()
    assert not started


def test_python_m_leaves_the_folder_out_too(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = hostile(tmp_path / "stranger", marker)
    done = subprocess.run(
        [sys.executable, "-m", "ddm_framework", "plugins"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "evil" not in done.stdout
    assert not marker.exists(), marker.read_text()


def test_pipes_in_the_place_of_files_that_others_read_do_not_hang(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    (folder / ".git").mkdir(parents=True)
    for name in ("matplotlibrc", ".git/HEAD", ".git/packed-refs", "pyproject.toml", "setup.cfg"):
        os.mkfifo(folder / name)
    assert git_revision(folder) is None
    assert ddm(folder, tmp_path / "bin" / "ddm", ["plugins"])[0] == [0]


@pytest.mark.parametrize("head", ["ref: refs/heads/endless\n", "ref: refs/heads/large\n", "ref: refs/../../secret\n"])
def test_the_revision_is_read_from_small_regular_files_alone(head: str, tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "endless").symlink_to("/dev/zero")
    with (git / "refs" / "heads" / "large").open("wb") as file:
        file.truncate(2**40)  # sparse
    (tmp_path / "secret").write_text("a" * 40)
    (git / "HEAD").write_text(head)
    (git / "packed-refs").symlink_to("/dev/urandom")
    assert git_revision(tmp_path) is None


@pytest.mark.parametrize("named", ["evil", "evil.py", "evil:target", "ddm_local_evil", "os:system", "../evil.py"])
def test_a_strangers_run_imports_no_file_that_is_not_named_on_the_command_line(
    named: str, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    run = copied(finished, tmp_path / "sent")
    hostile(run, marker)
    monkeypatch.chdir(run)
    before = set(sys.modules)
    for kind in ("dataset", "backbone", "clusterer", "distance", "study"):
        tree = yaml.safe_load((finished / "recipe.yaml").read_text())
        tree[kind] = {"use": named}
        (run / "recipe.yaml").write_text(yaml.safe_dump(tree))
        told = refused("unlearn", run, "--clusters", "1", "--out", "net.safetensors")
        assert f"unknown {kind} {named!r}" in told
    assert not marker.exists(), marker.read_text()
    assert not {name for name in set(sys.modules) - before if "evil" in name}
