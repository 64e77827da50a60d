"""`ddm serve` as a process: its address on a line of its own, no server for whoever errs, a clean end."""

from __future__ import annotations

import builtins
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from run_fixtures import refused
from served import serving


def test_the_address_stands_alone_on_its_line_and_works_at_once(made: Path) -> None:
    with serving(made) as (process, address):
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{43})", address)
        assert found
        with urlopen(address) as page:
            assert b"<title>ddm</title>" in page.read()
            assert found[2] in page.headers["Set-Cookie"]
        with pytest.raises(HTTPError) as refusal:
            urlopen(address.replace("127.0.0.1", "localhost").partition("?")[0])
        assert refusal.value.code == 403
        assert "Server" not in refusal.value.headers
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "stopped; networks that were retrained are kept\n", "")


def test_two_servers_have_ports_and_tokens_of_their_own(made: Path) -> None:
    with serving(made) as (_, first), serving(made) as (_, second):
        assert not set(re.split(r"[:/=?]", first)[4:]) & set(re.split(r"[:/=?]", second)[4:]) - {"", "token"}
        with pytest.raises(HTTPError):
            urlopen(first.partition("token=")[0] + "token=" + second.partition("token=")[2])


def test_it_listens_where_it_was_told_to(made: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(made, "--port", str(port), "--host", "localhost") as (_, address):
        assert address.startswith(f"http://localhost:{port}/?token=")
        assert urlopen(address).status == 200


def test_a_port_that_is_taken_is_told(made: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused("serve", made, "--no-browser", "--port", port)
    assert told == f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose another --host or --port"


def test_a_host_that_does_not_exist_is_told(made: Path) -> None:
    assert refused("serve", made, "--no-browser", "--host", "no.such.host.invalid").startswith(
        "cannot listen on no.such"
    )


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    assert refused("serve", tmp_path, "--no-browser").startswith(f"{tmp_path} holds no run of ddm")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_what_to_install_is_told(made: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=missing)
        return original(name, *arguments, **named)

    for name in [each for each in sys.modules if each.startswith(("ddm_framework.app", missing))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    told = refused("serve", made)
    assert told == f"`ddm serve` needs {missing}; install it with: pip install 'ddm-framework[app]'"


@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep_unless_told_otherwise(given: dict[str, str], found: str) -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
from ddm_framework.cli import main
sys.argv = ["ddm", "serve", "nowhere"]
main()
"""
    environment = {name: each for name, each in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{found}\n", done.stderr
