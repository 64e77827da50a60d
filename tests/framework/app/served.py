"""How the small run is served."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

TOKEN = "the-token"
BASE = "http://127.0.0.1:8080"
EVERY_EPOCH = "{epochs: 4, lr: 0.1, batch_size: 16, momentum: 0.9, checkpoint_every: 1}"
REPLAYED = "{perturbations: leave_one_out, replay: 1}"


def opened(client: TestClient) -> TestClient:
    """A browser after it opened the address with the token."""
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


def waited(client: TestClient, number: int, *ends: str) -> dict[str, Any]:
    """A retraining once it has come to an end."""
    for _ in range(600):
        (job,) = [each for each in client.get("/api/retrainings").json() if each["number"] == number]
        if job["state"] in (ends or ("done", "failed", "stopped")):
            return dict(job)
        time.sleep(0.1)
    raise AssertionError(f"it did not end: {job}")


@contextmanager
def serving(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it printed."""
    command = [sys.executable, "-m", "ddm_framework", "serve", str(run), "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    try:
        lines = []
        while not (lines and lines[-1].startswith("http")):
            line = process.stdout.readline()
            assert line, process.communicate()
            lines.append(line.rstrip("\n"))
        yield process, lines[-1]
    finally:
        process.kill()
        process.communicate()
