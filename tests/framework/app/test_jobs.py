"""Retrainings go on without the page, are done once, and end when they are asked to or the server ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from served import BASE, TOKEN, opened, waited
from starlette.testclient import TestClient

from ddm_framework import Run
from ddm_framework.app import application, jobs
from ddm_framework.app.requests import LeftOut
from ddm_framework.errors import DDMError, DivergenceError


class Held:
    """Holds every retraining after its first epoch until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def bar(self, original: Any) -> Callable[..., Any]:
        held = self

        class Progress(original):  # type: ignore[misc]
            def bar(self, *arguments: Any) -> Any:
                inner = super().bar(*arguments)

                class Both:
                    def __enter__(self) -> Callable[[], None]:
                        advance = inner.__enter__()

                        def wait() -> None:
                            held.begun.set()
                            assert held.go.wait(60)
                            advance()

                        return wait

                    def __exit__(self, *error: Any) -> Any:
                        return inner.__exit__(*error)

                return Both()

        return Progress


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    found = Held()
    monkeypatch.setattr(jobs, "_Progress", found.bar(jobs._Progress))
    return found


def start(client: TestClient, *clusters: int) -> dict[str, Any]:
    return dict(client.post("/api/retrainings", json={"clusters": clusters}).json())


def test_a_finished_job_survives_a_reload_and_is_seen_by_another_tab(own_client: TestClient, own_run: Run) -> None:
    job = waited(own_client, start(own_client, 1, 3)["number"])
    assert job["state"] == "done" and job["left_out"] == {"clusters": [1, 3], "classes": [], "samples": []}
    own_client.get("/")
    assert own_client.get("/api/retrainings").json() == [job]
    other = opened(TestClient(own_client.app, base_url=BASE))
    assert other.get("/api/retrainings").json() == [job]
    assert other.post("/api/without", json={"clusters": [3, 1]}).json()["truth"] is not None


def test_the_same_set_is_retrained_once(own_client: TestClient) -> None:
    first = start(own_client, 1, 3)
    assert start(own_client, 3, 1, 1)["number"] == first["number"]
    waited(own_client, first["number"])
    assert start(own_client, 1, 3)["state"] == "done"
    assert len(own_client.get("/api/retrainings").json()) == 1


def test_closing_the_tab_stops_nothing(own_client: TestClient, held: Held) -> None:
    number = start(own_client, 2)["number"]
    assert held.begun.wait(60)
    own_client.cookies.clear()
    held.go.set()
    assert waited(opened(own_client), number)["state"] == "done"


def test_the_page_answers_while_a_network_is_retrained(own_client: TestClient, held: Held) -> None:
    start(own_client, 2)
    assert held.begun.wait(60)
    assert own_client.post("/api/without", json={"clusters": [1]}).status_code == 200
    assert own_client.get("/api/retrainings").json()[0]["state"] == "running"
    held.go.set()


def test_a_job_can_be_stopped_and_asked_for_again(own_client: TestClient, held: Held) -> None:
    running, waiting = start(own_client, 2)["number"], start(own_client, 4)["number"]
    assert held.begun.wait(60)
    assert own_client.delete(f"/api/retrainings/{waiting}").json()["state"] == "stopped"
    own_client.delete(f"/api/retrainings/{running}")
    held.go.set()
    assert waited(own_client, running)["state"] == "stopped"
    assert waited(own_client, waiting)["state"] == "stopped"
    again = start(own_client, 2)["number"]
    assert again not in (running, waiting)
    assert waited(own_client, again)["state"] == "done"


def test_a_job_that_does_not_exist_cannot_be_stopped(client: TestClient) -> None:
    answered = client.delete("/api/retrainings/77")
    assert answered.status_code == 400 and answered.json()["error"] == "there is no retraining 77"


@pytest.mark.parametrize("error", [DivergenceError("weights became NaN; lower training.lr"), RuntimeError("broken")])
def test_why_a_job_failed_is_told_and_the_next_one_runs(own_client: TestClient, error: Exception) -> None:
    with mock.patch.object(Run, "retrained_without", side_effect=error):
        job = waited(own_client, start(own_client, 5)["number"])
    assert job["state"] == "failed" and str(error) in job["message"]
    assert waited(own_client, start(own_client, 5)["number"])["state"] == "done"


def test_the_end_of_the_server_ends_what_runs_and_drops_what_waits(own_run: Run, held: Held) -> None:
    app = application(own_run, token=TOKEN, host="127.0.0.1", port=8080)
    with TestClient(app, base_url=BASE) as client:
        opened(client)
        start(client, 2)
        start(client, 3)
        assert held.begun.wait(60)
        threading.Timer(0.3, held.go.set).start()
        begun = time.monotonic()
    assert time.monotonic() - begun < 20
    assert not [each for each in threading.enumerate() if each.name.startswith("retraining")]


def test_jobs_that_wait_are_limited_and_finished_ones_forgotten(own_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_JOBS", 3)
    listed = jobs.Jobs(own_run)
    monkeypatch.setattr(jobs.Jobs, "_work", lambda self, job: setattr(job, "state", "done"))
    for sample in range(5):
        listed.start(LeftOut(samples=(sample,)))
        while any(each.state == "waiting" for each in listed):
            time.sleep(0.01)
    assert [each.asked.samples for each in listed] == [(2,), (3,), (4,)]
    release = threading.Event()
    monkeypatch.setattr(jobs.Jobs, "_work", lambda self, job: release.wait(60))
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)
    for sample in (10, 11):
        listed.start(LeftOut(samples=(sample,)))
    with pytest.raises(DDMError, match="2 retrainings wait already"):
        listed.start(LeftOut(samples=(12,)))
    release.set()
    listed.close()
