"""A small run that is served, and browsers that have its token or have none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from run_fixtures import copied, tiny
from served import BASE, EVERY_EPOCH, REPLAYED, TOKEN, opened
from starlette.applications import Starlette
from starlette.testclient import TestClient

import ddm_framework
from ddm_framework import Run
from ddm_framework.app import application


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that replays one of its four epochs."""
    folder = tmp_path_factory.mktemp("served")
    return ddm_framework.run(tiny(folder, training=EVERY_EPOCH, online=REPLAYED), out=folder / "run").path


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run whose amounts have intervals."""
    recipe = tiny(tmp_path_factory.mktemp("certified"), certificate="{retrainings: 6, singles: 3}")
    return ddm_framework.run(recipe, out=recipe.parent / "run")


@pytest.fixture(scope="session")
def shared(made: Path) -> Iterator[tuple[Run, Starlette]]:
    """A copy of it, and its page, for tests that only look."""
    run = ddm_framework.open_run(copied(made, made.parent.with_name("shared")))
    app = application(run, token=TOKEN, host="127.0.0.1", port=8080)
    with TestClient(app):
        yield run, app


@pytest.fixture
def run(shared: tuple[Run, Starlette]) -> Run:
    """The run whose page is looked at."""
    return shared[0]


@pytest.fixture
def client(shared: tuple[Run, Starlette]) -> TestClient:
    """A browser that opened the address with the token."""
    return opened(TestClient(shared[1], base_url=BASE))


@pytest.fixture
def stranger(shared: tuple[Run, Starlette]) -> TestClient:
    """A browser that has no token."""
    return TestClient(shared[1], base_url=BASE)


@pytest.fixture
def own_run(made: Path, tmp_path: Path) -> Run:
    """A copy of the run for one test."""
    return ddm_framework.open_run(copied(made, tmp_path / "copy"))


@pytest.fixture
def own_client(own_run: Run) -> Iterator[TestClient]:
    """A browser on the page of that copy."""
    with TestClient(application(own_run, token=TOKEN, host="127.0.0.1", port=8080), base_url=BASE) as client:
        yield opened(client)
