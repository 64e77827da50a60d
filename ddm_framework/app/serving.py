"""`ddm serve`: a server on this machine, its address on a line of its own, and a clean end."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from ddm_framework.api import Run
from ddm_framework.app.guard import is_loopback
from ddm_framework.app.routes import application
from ddm_framework.errors import DDMError

GRACE = 3
"""Seconds that open requests have to end after Ctrl-C."""


def serve(
    run: Run,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    browser: bool = True,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> None:
    """Serve the page of a run until Ctrl-C.

    Args:
        run: that is asked.
        host: to listen on; anything but the loopback lets others on the network in, as far as they have the token.
        port: 0 = one that is free.
        browser: open the page.
        say: prints a line at once.
    Raises:
        DDMError: if the address cannot be used.
    """
    with _listening(host, port) as listener:
        bound = int(listener.getsockname()[1])
        token = secrets.token_urlsafe(32)
        app = application(run, token=token, host=host, port=bound)
        address = _address(host, bound, token)
        say(f"{run.path} is served on this page until Ctrl-C:")
        say(address)
        if not is_loopback(host):
            say("Others on the network can open it too, if they know this address. It is not encrypted.")
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE, server_header=False, ws="none"
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands it on after it has ended
            uvicorn.Server(settings).run(sockets=[listener])
        say("stopped; networks that were retrained are kept")


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens already, so that the address works as soon as it is printed."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DDMError(f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port") from None
    return listener


def _address(host: str, port: int, token: str) -> str:
    """What is opened in a browser."""
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}"
