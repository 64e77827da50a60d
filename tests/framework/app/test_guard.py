"""Without a token, by a foreign name or from a foreign page nothing is served, and no address leads to the disk."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from served import TOKEN
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ddm_framework import Run
from ddm_framework.app.guard import is_own_name
from ddm_framework.app.requests import MOST_BODY
from ddm_framework.app.uploads import MOST_BYTES

ADDRESSES = [
    ("GET", "/"),
    ("GET", "/index.html"),
    ("GET", "/app.js"),
    ("GET", "/style.css"),
    ("GET", "/api/run"),
    ("GET", "/api/queries"),
    ("GET", "/api/queries/test:0"),
    ("GET", "/api/clusters/0"),
    ("GET", "/api/retrainings"),
    ("POST", "/api/images"),
    ("POST", "/api/without"),
    ("POST", "/api/retrainings"),
    ("POST", "/api/exports"),
    ("DELETE", "/api/retrainings/1"),
    ("GET", "/nowhere"),
]
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def png(height: int = 6, width: int = 6) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width)).save(file, "PNG")
    return file.getvalue()


def test_the_list_of_addresses_is_complete(client: TestClient) -> None:
    routes = {(method, re.sub(r"\{.*?\}", "*", each.path)) for each in client.app.routes for method in each.methods}
    listed = {(method, re.sub(r"test:0|(?<=/)\d+", "*", path)) for method, path in ADDRESSES}
    assert {each for each in routes if each[0] != "HEAD"} <= listed


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
@pytest.mark.parametrize("given", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?Token={TOKEN}"])
def test_nothing_without_the_token(stranger: TestClient, method: str, path: str, given: str) -> None:
    answered = stranger.request(method, path + given, content=b"{}" if method == "POST" else None)
    assert answered.status_code == 403
    assert "set-cookie" not in answered.headers
    assert TOKEN not in answered.text


@pytest.mark.parametrize("cookie", ["ddm_8080=wrong", "ddm_8081=the-token", "ddm_8080=", "=;;\x01", "ddm_8080"])
def test_a_wrong_cookie_is_no_token(stranger: TestClient, cookie: str) -> None:
    assert stranger.get("/api/run", headers={"cookie": cookie}).status_code == 403


def test_the_token_becomes_a_cookie_that_scripts_and_strangers_do_not_get(stranger: TestClient) -> None:
    opened = stranger.get("/", params={"token": TOKEN})
    assert opened.headers["set-cookie"] == f"ddm_8080={TOKEN}; HttpOnly; Path=/; SameSite=Strict"
    assert stranger.get("/api/run").status_code == 200
    assert "set-cookie" not in stranger.get("/api/run").headers


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:8081",
        "127.0.0.1:8080@evil.example",
        "user@127.0.0.1:8080",
        "127.0.0.1.evil.example:8080",
        "localhost.:8080",
        "10.0.0.1:8080",
        "",
        "127.0.0.1:x",
        "[::1",
    ],
)
def test_nothing_by_a_foreign_name(client: TestClient, method: str, path: str, host: str) -> None:
    answered = client.request(method, f"{path}?token={TOKEN}", headers={"host": host})
    assert answered.status_code == 403
    assert "set-cookie" not in answered.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080"])
def test_the_loopback_has_three_names(client: TestClient, host: str) -> None:
    assert client.get("/api/run", params={"token": TOKEN}, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("given", "host", "own"),
    [
        ("192.168.0.7:80", "0.0.0.0", True),
        ("localhost:80", "0.0.0.0", True),
        ("evil.example:80", "0.0.0.0", False),
        ("box.lan:80", "box.lan", True),
        ("evil.example:80", "box.lan", False),
        ("192.168.0.7:80", "127.0.0.1", False),
        ("192.168.0.7", "192.168.0.7", True),
        ("127.0.0.2:80", "127.0.0.2", True),
    ],
)
def test_a_server_that_is_open_to_others_has_its_own_names_and_addresses(given: str, host: str, own: bool) -> None:
    assert is_own_name(given, host, 80) == own


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:8080"},
        {"origin": "file://"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
def test_nothing_for_a_foreign_page(client: TestClient, method: str, path: str, headers: dict[str, str]) -> None:
    assert client.request(method, path, headers=headers).status_code == 403


def test_a_link_elsewhere_may_open_the_page_and_nothing_else(client: TestClient) -> None:
    follows = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", params={"token": TOKEN}, headers=follows).status_code == 200
    assert client.get("/api/run", params={"token": TOKEN}, headers=follows).status_code == 403


def test_the_servers_own_page_may_ask(client: TestClient) -> None:
    headers = {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}
    assert client.post("/api/without", json={"clusters": [0]}, headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"origin": "http://127.0.0.1:8080"}, {"origin": "http://evil.example"}])
def test_no_websocket_is_opened(client: TestClient, headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"/?token={TOKEN}", headers=headers):
        pass


@pytest.mark.parametrize(("method", "path"), [*ADDRESSES, ("GET", "/?token=wrong")])
def test_every_response_is_protected(client: TestClient, method: str, path: str) -> None:
    headers = client.request(method, path).headers
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/app.js",
        "/static/../routes.py",
        "/app.js/../../routes.py",
        "/routes.py",
        "//etc/passwd",
        "/app.js%00.html",
        "/..%5croutes.py",
        "/api/queries/..%2f..%2fmetrics.json",
        "/api/queries/test:0%2f..%2f1",
        "/api/clusters/..%2f0",
    ],
)
def test_no_address_leads_to_the_disk(client: TestClient, path: str) -> None:
    answered = client.get(path)
    assert answered.status_code in (400, 404)
    assert "root:" not in answered.text and "import" not in answered.text


@pytest.mark.parametrize(
    "key", ["test:-1", "test:12", "test:1e0", "test:²", "own:1", "test:", "0", "test:0 ", "x" * 5000]
)
def test_a_key_that_names_no_query_is_told(client: TestClient, key: str) -> None:
    answered = client.get(f"/api/queries/{quote(key)}")
    assert answered.status_code == 400
    assert answered.json()["error"].startswith("there is no such image")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"clusters": ["0"]}',
        b'{"clusters": [0.5]}',
        b'{"clusters": [true]}',
        b'{"clusters": [-1]}',
        b'{"clusters": [6]}',
        b'{"classes": [3]}',
        b'{"samples": [36]}',
        b'{"samples": [99999999999999999999999]}',
        b'{"classes": ["../0"]}',
        b'{"clusters": [0], "replay": -1}',
        b'{"clusters": [0], "path": "/etc/passwd"}',
        b'{"classes": [0, 1, 2]}',
        b'{"clusters": [0], "query": "../x"}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("path", ["/api/without", "/api/exports", "/api/retrainings"])
def test_what_does_not_fit_is_one_message(client: TestClient, run: Run, path: str, body: bytes) -> None:
    answered = client.post(path, content=body)
    assert answered.status_code == 400, answered.text
    assert answered.json()["error"]
    assert "Traceback" not in answered.text
    assert not run.path.joinpath("exports").exists()


@pytest.mark.parametrize("path", ["/api/without", "/api/exports"])
def test_a_replay_that_cannot_start_is_told(client: TestClient, path: str) -> None:
    answered = client.post(path, json={"clusters": [0], "replay": 77})
    assert answered.status_code == 400
    assert "online.replay: 77" in answered.json()["error"]


def test_a_body_is_read_no_further_than_allowed(client: TestClient) -> None:
    for path, most in (("/api/without", MOST_BODY), ("/api/exports", MOST_BODY), ("/api/images", MOST_BYTES)):
        answered = client.post(path, content=iter([b" " * 2**16] * (most // 2**16 + 1)))
        assert answered.status_code == 413, path
        assert "MiB" in answered.json()["error"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read as an image"),
        (b"GIF89a", "cannot be read as an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read as an image"),
        (png()[:40], "cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_told_by_the_name_that_it_was_given(client: TestClient, content: bytes, told: str) -> None:
    answered = client.post("/api/images", params={"name": "mine.png"}, content=content)
    assert answered.status_code == 400
    assert answered.json()["error"].startswith("mine.png")
    assert told in answered.json()["error"]
    assert "/tmp" not in answered.text


@pytest.mark.parametrize("side", [8_000, 30_000])
def test_a_small_file_may_not_hold_a_picture_that_fills_the_memory(client: TestClient, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * side)) + chunk(b"IEND", b"")
    answered = client.post("/api/images", params={"name": "bomb.png"}, content=bomb)
    assert answered.status_code == 400
    assert "pixels" in answered.json()["error"]


def test_the_name_of_an_upload_is_text_and_never_a_path(own_client: TestClient, tmp_path: Path) -> None:
    client = own_client
    before = sorted(map(str, tmp_path.rglob("*")))
    for name in ("../../escaped.png", "/etc/passwd", HOSTILE, "a\x00b\n\u202ec", "", "x" * 500):
        answered = client.post("/api/images", params={"name": name}, content=png())
        assert answered.status_code == 200, answered.text
        found = client.get(f"/api/queries/{answered.json()['key']}").json()
        assert len(found["name"]) <= 100 and found["name"].isprintable()
        assert found["label"] is None
    after = [each for each in sorted(map(str, tmp_path.rglob("*"))) if "/networks" not in each]
    assert after == [each for each in before if "/networks" not in each]


def test_an_upload_is_read_as_any_image_file_is(client: TestClient, run: Run, tmp_path: Path) -> None:
    from ddm_framework.answers import read_images

    (tmp_path / "mine.png").write_bytes(png(9, 14))
    _, pixels = read_images([tmp_path / "mine.png"], run.workspace.info)
    wanted = run.without().predict(run.workspace.info.normalise(pixels))[0]
    key = client.post("/api/images", params={"name": "mine.png"}, content=png(9, 14)).json()["key"]
    assert client.get(f"/api/queries/{key}").json()["probabilities"] == wanted.tolist()


def test_the_page_reaches_for_nothing_outside_and_writes_no_markup(client: TestClient) -> None:
    for path in ("/", "/app.js", "/style.css"):
        text = client.get(path).text
        assert not re.search(r"https?:|//[a-z]+\.|@import|javascript:", text), path
    script = client.get("/app.js").text
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert word not in script
    assert not re.search(r"<script(?! src=\"/app\.js\" defer></script>)|\son\w+=|style=", client.get("/").text)


def test_names_travel_as_data(client: TestClient) -> None:
    answered = client.get("/api/run")
    assert answered.headers["content-type"] == "application/json"
    assert json.loads(answered.text)["classes"] == ["0", "1", "2"]
