"""The addresses of the page: three files, and questions that are ordinary calls of the Python API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ddm_framework.api import Run
from ddm_framework.app import exports, queries_pane, query_pane, uploads, what_if
from ddm_framework.app.facts import facts
from ddm_framework.app.guard import Guard
from ddm_framework.app.jobs import Jobs
from ddm_framework.app.requests import MOST_BODY, Export, LeftOut, Listing, Members, TooLargeError, WhatIf, body_of
from ddm_framework.app.served_run import ServedRun
from ddm_framework.errors import DDMError
from ddm_framework.runs import json_text

PAGE = {"index.html": "text/html", "app.js": "text/javascript", "style.css": "text/css"}
"""The files of the page, all that there are, and their media types."""
logger = logging.getLogger(__name__)


def application(run: Run, *, token: str, host: str = "127.0.0.1", port: int = 80) -> Starlette:
    """The page of a run as an ASGI application.

    Args:
        run: that is asked.
        token: without which nothing is served.
        host: that the server listens on.
        port: of the server.
    """
    desk = _Desk(run)
    guard = Middleware(Guard, token=token, host=host, port=port)
    return Starlette(routes=desk.routes(), middleware=[guard], lifespan=desk.lifespan)


class _Desk:
    """Answers requests; all that computes is done by one thread, so that nothing is loaded or changed twice at once."""

    def __init__(self, run: Run) -> None:
        self._served, self._jobs = ServedRun(run), Jobs(run)
        threads = torch.get_num_threads()
        self._thread = ThreadPoolExecutor(1, "answers", initializer=torch.set_num_threads, initargs=(threads,))

    def routes(self) -> list[Route]:
        """Addresses and what answers them."""
        return [
            Route("/", partial(_file, "index.html")),
            *(Route(f"/{name}", partial(_file, name)) for name in PAGE),
            Route("/api/run", self._facts),
            Route("/api/queries", self._listing),
            Route("/api/queries/{key}", self._query),
            Route("/api/clusters/{cluster:int}", self._members),
            Route("/api/images", self._image, methods=["POST"]),
            Route("/api/without", self._without, methods=["POST"]),
            Route("/api/retrainings", self._retrainings, methods=["GET"]),
            Route("/api/retrainings", self._retrain, methods=["POST"]),
            Route("/api/retrainings/{number:int}", self._stop, methods=["DELETE"]),
            Route("/api/exports", self._export, methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """End what runs when the server ends."""
        yield
        self._thread.shutdown(wait=False, cancel_futures=True)
        await asyncio.get_running_loop().run_in_executor(None, self._jobs.close)

    async def _facts(self, _: Request) -> Response:
        return await self._answer(facts, self._served)

    async def _listing(self, request: Request) -> Response:
        return await self._answer(lambda: queries_pane.listed(self._served, Listing.parse(request.query_params)))

    async def _query(self, request: Request) -> Response:
        return await self._answer(query_pane.answered, self._served, str(request.path_params["key"]))

    async def _members(self, request: Request) -> Response:
        cluster = int(request.path_params["cluster"])
        return await self._answer(
            lambda: query_pane.members(self._served, cluster, Members.parse(request.query_params))
        )

    async def _image(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        return await self._with_body(
            request, uploads.MOST_BYTES, lambda body: {"key": uploads.received(self._served, name, body)}
        )

    async def _without(self, request: Request) -> Response:
        return await self._with_body(
            request, MOST_BODY, lambda body: what_if.told(self._served, self._jobs, WhatIf.read(body))
        )

    async def _export(self, request: Request) -> Response:
        return await self._with_body(
            request, MOST_BODY, lambda body: exports.written(self._served, self._jobs, Export.read(body))
        )

    async def _retrainings(self, _: Request) -> Response:
        return _json([job.told() for job in self._jobs])

    async def _retrain(self, request: Request) -> Response:
        return await self._with_body(
            request, MOST_BODY, lambda body: self._jobs.start(LeftOut.read(body)).told(), computes=False
        )

    async def _stop(self, request: Request) -> Response:
        number = int(request.path_params["number"])
        return await self._answer(lambda: self._jobs.stop(number).told(), computes=False)

    async def _with_body(
        self, request: Request, most: int, work: Callable[[bytes], Any], *, computes: bool = True
    ) -> Response:
        """The answer to a request with a body of at most so many bytes."""
        try:
            body = await body_of(request.stream(), most)
        except TooLargeError as error:
            return _json({"error": str(error)}, 413)
        return await self._answer(work, body, computes=computes)

    async def _answer(self, work: Callable[..., Any], *arguments: Any, computes: bool = True) -> Response:
        """What the work gives, or the one message of the mistake that was made."""
        thread = self._thread if computes else None
        try:
            value = await asyncio.get_running_loop().run_in_executor(thread, partial(work, *arguments))
        except DDMError as error:
            return _json({"error": str(error)}, 400)
        except Exception as error:  # the page shows one message; whoever started the server sees where it comes from
            logger.exception("a request could not be answered")
            return _json({"error": f"{type(error).__name__}: {error}"}, 500)
        return _json(value)


async def _file(name: str, _: Request) -> Response:
    """One of the files of the page; no part of an address becomes a path."""
    content = resources.files("ddm_framework.app").joinpath("static", name).read_bytes()
    return Response(content, media_type=PAGE[name])


def _json(value: Any, status: int = 200) -> Response:
    return Response(json_text(value), status, media_type="application/json")
