"""Killed at any moment, by any signal: no process stays, nothing is left behind, and the numbers are the same."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from run_fixtures import _PRELOADED, assert_same_run, ddm, tiny
from tries import TIMES

import ddm_framework
from ddm_framework.cli import commands
from ddm_framework.runs.safe_files import partial_name, remove_partials

KILLS = 25 * TIMES
SOFT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SIGNALS = (signal.SIGKILL, *SOFT)
CHANGES = ("training.epochs=12", "matching.steps=12", "threads=1")
WAIT = 60


def command(log: str, arguments: list[str]) -> None:
    """`ddm` in a process of its own; what it complains of goes to a file."""
    sys.argv = ["ddm", *arguments]
    sys.stderr = sys.stdout = Path(log).open("a")  # noqa: SIM115 - the process ends with it
    Path(f"{log}.begun").touch()
    commands.main()


def arguments(recipe: Path, out: Path) -> list[str]:
    return ["run", str(recipe), "--out", str(out), *(each for change in CHANGES for each in ("--set", change))]


def test_kills_at_random_moments(tmp_path: Path) -> None:
    recipe = tiny(tmp_path / "work")
    whole = ddm_framework.run(recipe, CHANGES, out=tmp_path / "whole").path
    begun = time.monotonic()
    ddm_framework.run(recipe, CHANGES, out=tmp_path / "again")  # nothing is imported any more
    lasts = time.monotonic() - begun
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(_PRELOADED)
    chance, out, hit = random.Random(0), tmp_path / "out" / "run", 0
    log = tmp_path / "log"
    log.touch()
    for number in range(4 * KILLS):
        if hit == KILLS:
            break
        child = processes.Process(target=command, args=(str(log), arguments(recipe, out)))
        (tmp_path / "log.begun").unlink(missing_ok=True)
        child.start()
        until = time.monotonic() + WAIT
        while not (tmp_path / "log.begun").exists() and child.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        child.join(chance.uniform(0, 0.7 * lasts))
        sent = SIGNALS[number % len(SIGNALS)]
        if child.is_alive():
            assert child.pid is not None
            os.kill(child.pid, sent)
        child.join(WAIT)
        assert child.exitcode is not None, "it hangs"
        # A signal may also meet Python before ddm begins, or after it is done: that is no kill of ddm.
        assert child.exitcode in (0, 1, 130, -sent), log.read_text()[-3000:]
        hit += child.exitcode in (130, -signal.SIGKILL)
        if child.exitcode == 130:
            assert not list(out.rglob("*.partial"))
        if child.exitcode == 0:
            assert_same_run(out, whole)
            out = tmp_path / "out" / f"run{number}"
    # Where a signal meets a callback of the garbage collector, Python prints that and goes on.
    told = re.sub(r"Exception ignored in.*?KeyboardInterrupt[^\n]*\n", "", log.read_text(), flags=re.DOTALL)
    assert "Traceback" not in told
    assert hit >= KILLS // 2
    status, _, told = ddm(*arguments(recipe, out))
    assert status == 0, told
    assert_same_run(out, whole)


INTERRUPTED = "ddm: interrupted; what was finished is kept, run the same command again to go on"


def left_in_the_system(process: int) -> list[Path]:
    """What a process's workers and their engine may have left where nobody looks; its number is in the names."""
    places = (
        (Path("/dev/shm"), "*"),
        (Path(tempfile.gettempdir()), "*joblib*"),
        (Path(tempfile.gettempdir()), "*loky*"),
    )
    found = (path for folder, pattern in places for path in folder.glob(pattern))
    return [path for path in found if str(process) in re.split(r"\D+", path.name)]


def busy(process: psutil.Process) -> bool:
    """Whether a process does more than to tidy up after others."""
    try:
        return process.cpu_times().user > 2
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_workers_end_with_their_parent_and_leave_nothing(
    sent: signal.Signals, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core retrains without workers")
    recipe = tiny(tmp_path / "work", certificate="{retrainings: 6}")
    told = ["run", str(recipe), "--out", str(tmp_path / "run"), "--set", "training.epochs=4000"]
    told += ["--set", "training.checkpoint_every=2000", "--set", "matching.step_length=2000"]
    child = subprocess.Popen([sys.executable, "-m", "ddm_framework", *told], stderr=subprocess.PIPE, text=True)
    request.addfinalizer(child.kill)
    parent, started = psutil.Process(child.pid), []
    until = time.monotonic() + 10 * WAIT
    while sum(busy(each) for each in started) < 2 and child.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
        started = parent.children(recursive=True)
    assert any("loky" in path.name for path in left_in_the_system(child.pid)) or not Path("/dev/shm").is_dir()
    assert child.poll() is None, child.communicate(timeout=WAIT)[1]
    child.send_signal(sent)
    child.wait(WAIT)
    _, alive = psutil.wait_procs(started, timeout=WAIT)
    assert not alive
    complaint = child.communicate(timeout=WAIT)[1]
    assert complaint.strip().splitlines()[-1:] == ([] if sent == signal.SIGKILL else [INTERRUPTED])
    assert not list((tmp_path / "bank").glob(".*"))
    assert not left_in_the_system(child.pid)


def test_only_what_nobody_works_on_is_removed(tmp_path: Path) -> None:
    own = partial_name(tmp_path / "net.safetensors")
    parts = own.name.split("-")
    dead = own.with_name(f"{'-'.join(parts[:-1])}-4194000.partial")
    elsewhere = own.with_name(".net.safetensors.abcdef-4194000.partial")
    old = own.with_name(".net.safetensors.4194000.partial")
    foreign = own.with_name(".notes.partial")
    for path in (own, dead, elsewhere, old, foreign):
        path.touch()
    remove_partials(tmp_path)
    assert {path for path in (own, dead, elsewhere, old, foreign) if path.exists()} == {own, elsewhere, foreign}
