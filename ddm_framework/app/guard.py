"""Who is let in: the right token, by the server's own name, from the server's own page; everybody else gets nothing."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "::1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
"""On every response. The address bar holds the token for a moment, so no referrer; nothing is left in a cache."""


class Guard:
    """Lets a request through to the application, or answers it with 403.

    The token comes in the address the first time and in a cookie from then on. The host is checked because a stranger's
    page may have its own name point here (DNS rebinding), the origin because it may send requests from afar.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self._app, self._token, self._host, self._port = app, token, host, port

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers keep one jar for all ports of a host."""
        return f"ddm_{self._port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no websocket here, so none is opened
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        given = self._given(scope, headers)
        refusal = self._refusal(headers, scope, given)

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._protect(MutableHeaders(scope=message), bring_cookie=not refusal and given == "address")
            await send(message)

        app = PlainTextResponse(f"{refusal}\n", 403) if refusal else self._app
        await app(scope, receive, protected)

    def _refusal(self, headers: Headers, scope: Scope, given: str) -> str:
        """Why a request is not let in; empty if it is."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not is_own_name(hosts[0], self._host, self._port):
            return "this server answers by its own address alone; open the address that `ddm serve` printed"
        for origin in headers.getlist("origin"):
            if urlsplit(origin).scheme not in ("http", "https") or urlsplit(origin).netloc != hosts[0]:
                return "this request comes from another page"
        opens = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not opens:
            return "this request comes from another page"
        if not given:
            return "the token is missing or wrong; open the address that `ddm serve` printed, with its token"
        return ""

    def _given(self, scope: Scope, headers: Headers) -> str:
        """Where the right token was found: in the `address`, in a `cookie`, or nowhere."""
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if any(self._is_token(each) for each in asked):
            return "address"
        return "cookie" if any(self._is_token(each) for each in self._in_cookies(headers)) else ""

    def _in_cookies(self, headers: Headers) -> list[str]:
        found = []
        for header in headers.getlist("cookie"):
            try:
                cookies: Mapping[str, object] = SimpleCookie(header)
            except CookieError:
                continue
            if self.cookie in cookies:
                found.append(str(getattr(cookies[self.cookie], "value", "")))
        return found

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "replace"), self._token.encode())

    def _protect(self, headers: MutableHeaders, *, bring_cookie: bool) -> None:
        headers.update(HEADERS)
        if "server" in headers:
            del headers["server"]
        if bring_cookie:
            headers.append("set-cookie", f"{self.cookie}={self._token}; HttpOnly; Path=/; SameSite=Strict")


def is_own_name(given: str, host: str, port: int) -> bool:
    """Whether a Host header names this server.

    A server for this machine alone has the loopback names. One that was opened to others (`--host`) also has the host
    that it was given, this machine's name, and any plain address: only a name can be made to point elsewhere.

    Args:
        given: such as `localhost:8000`.
        host: that the server listens on.
        port: of the server.
    """
    try:
        parts = urlsplit(f"//{given}")
        name, asked = (parts.hostname or "").lower(), parts.port or 80
    except ValueError:
        return False
    if asked != port or parts.netloc != given or parts.username is not None or parts.path or parts.query:
        return False
    if name in LOOPBACK:
        return True
    if is_loopback(host):
        return name == host.lower()
    return name in (host.lower(), socket.gethostname().lower()) or _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, for itself alone."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
