"""Worker processes do what one process does, say why they fail, and end when nobody waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from ddm_framework.engine import ALONE, Engine, Processes, end_all
from ddm_framework.engine.tasks import Common, execute, packed, result_of
from ddm_framework.errors import DDMError, DivergenceError, Mark, Problem, RecipeError
from ddm_framework.files import FileError
from ddm_framework.plugin import load_plugins

DRIVER = """\
import os, time
from ddm_framework.engine import Processes

def work(common, task, advance):
    os.open(f"{common}/{os.getpid()}", os.O_CREAT)
    time.sleep(600)

for _ in Processes(2, 1).results(work, os.environ["MARKS"], iter(range(4)), 4):
    pass
"""


class UnusualError(DDMError):
    """Cannot be made again from its message."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} beside {other}")


def squared(common: list[int], task: int, advance: Callable[[], None]) -> tuple[int, int, int]:
    for _ in range(3):
        advance()
    return task * task + common[0], id(common), os.getpid()


def raising(common: None, task: str, advance: Callable[[], None]) -> None:
    raise ERRORS[task]()


class Unreadable:
    """Can be sent, and not be read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def killed(common: None, task: int, advance: Callable[[], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waiting(common: str, task: int, advance: Callable[[], None]) -> int:
    if task:
        Path(common, str(os.getpid())).touch()
        time.sleep(600)
    return os.getpid()


@pytest.mark.parametrize("engine", [ALONE, Processes(1, 1), Processes(2, 1)], ids=["alone", "one", "two"])
def test_every_task_is_done_once(engine: Engine) -> None:
    seen: list[int] = []
    found = dict(engine.results(squared, [5], iter(range(7)), 7, units=3, advance=lambda: seen.append(1)))
    assert {number: each[0] for number, each in found.items()} == {each: each * each + 5 for each in range(7)}
    assert len(seen) == 21
    processes = {each[2] for each in found.values()}
    assert len({each[1:] for each in found.values()}) == len(processes)  # what is common is unpacked once
    assert (os.getpid() in processes) == (engine.workers == 1)


def test_workers_are_kept_for_the_next_tasks() -> None:
    with closing(Processes(2, 1).results(squared, [0], iter(range(8)), 8)) as results:
        for _ in range(8):  # and not asked for more
            next(results)
    known = {each.pid for each in psutil.Process().children()}
    assert {each[2] for _, each in Processes(2, 1).results(squared, [1], iter(range(8)), 8)} <= known


ERRORS: dict[str, Callable[[], Exception]] = {
    "ours": lambda: DivergenceError("it diverged"),
    "file": lambda: FileError(Path("x"), "it is a pipe"),
    "recipe": lambda: RecipeError([Problem("wrong", Mark("a.yaml", 3))]),
    "unusual": lambda: UnusualError(1, 2),
    "theirs": lambda: ValueError("theirs"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_arrive_as_what_they_are(name: str) -> None:
    error = ERRORS[name]()
    with pytest.raises(DDMError if isinstance(error, DDMError) else ValueError) as caught:
        result_of(execute(Common.of(raising, None, 1), packed(name)))
    assert str(caught.value) == str(error)
    assert isinstance(caught.value, DivergenceError) == (name == "ours")


def test_what_a_worker_cannot_read_is_one_sentence() -> None:
    with pytest.raises(DDMError, match=r"^a worker cannot read .* \(ValueError: .*\); set `threads`"):
        result_of(execute(Common.of(squared, Unreadable(), 1), packed(1)))


def test_a_worker_that_the_system_ends_is_one_sentence() -> None:
    with pytest.raises(DDMError, match=r"^the system ended a worker, .* lower memory_mb, or raise `threads`"):
        list(Processes(2, 1).results(killed, None, iter(range(3)), 3))


def test_whoever_stops_asking_ends_the_workers(tmp_path: Path) -> None:
    with closing(Processes(2, 1).results(waiting, str(tmp_path), iter(range(4)), 4)) as results:
        next(results)
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
    assert not any(psutil.pid_exists(int(each.name)) for each in tmp_path.iterdir())


def test_an_iterator_left_open_is_ended_with_the_rest(tmp_path: Path) -> None:
    results = Processes(2, 1).results(waiting, str(tmp_path), iter(range(4)), 4)
    next(results)
    while not list(tmp_path.iterdir()):
        time.sleep(0.05)
    end_all()
    assert not any(psutil.pid_exists(int(each.name)) for each in tmp_path.iterdir())
    with pytest.raises(Exception, match="shutdown"):
        list(results)


def test_what_cannot_leave_this_process_is_done_in_it() -> None:
    lock = threading.Lock()

    def locked(common: threading.Lock, task: int, advance: Callable[[], None]) -> int:
        with common:
            return os.getpid()

    assert dict(Processes(2, 1).results(locked, lock, iter(range(3)), 3)) == dict.fromkeys(range(3), os.getpid())


def test_code_of_a_plugin_file_and_of_a_closure_goes_along(tmp_path: Path) -> None:
    file = tmp_path / "local.py"
    file.write_text("""\
from ddm_framework import Component, hookimpl
FACTOR = 3

class Own:
    def times(self, value):
        return FACTOR * value

@hookimpl
def ddm_register_objectives():
    yield Component("own_thing", f"{__name__}:Own")
""")
    own = load_plugins([file]).get("objective", "own_thing").load()()
    found = dict(Processes(2, 1).results(lambda common, task, advance: common.times(task), own, iter(range(3)), 3))
    assert found == {0: 0, 1: 3, 2: 6}


def test_workers_end_when_their_process_is_killed(tmp_path: Path) -> None:
    script, marks = tmp_path / "driver.py", tmp_path / "marks"
    script.write_text(DRIVER)
    marks.mkdir()
    driver = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "MARKS": str(marks)})
    until = time.monotonic() + 60
    while len(list(marks.iterdir())) < 2 and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    workers = [psutil.Process(int(each.name)) for each in marks.iterdir()]
    assert len(workers) == 2
    driver.kill()
    driver.wait()
    assert not psutil.wait_procs(workers, timeout=5)[1]
