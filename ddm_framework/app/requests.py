"""What the page may send, checked before anything else looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from ddm_framework.errors import DDMError

MOST_BODY = 2 * 2**20
"""Bytes of a body of JSON; a hundred thousand ticked samples fit."""
MOST_ON_A_PAGE = 200

Order = Literal["position", "wrong_first", "least_sure", "most_sure"]
_Message = TypeVar("_Message", bound="Message")


class TooLargeError(DDMError):
    """More was sent than is allowed."""


class Message(BaseModel):
    """What the page sends; a key that nobody knows, or a value of another type, is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls: type[_Message], body: bytes) -> _Message:
        """From JSON.

        Raises:
            DDMError: naming what does not fit.
        """
        try:
            return cls.model_validate_json(body, strict=True)
        except ValidationError as error:
            raise DDMError(_told(error)) from None

    @classmethod
    def parse(cls: type[_Message], values: Any) -> _Message:
        """From the part of an address after the question mark.

        Raises:
            DDMError: naming what does not fit.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise DDMError(_told(error)) from None


def _told(error: ValidationError) -> str:
    places = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False)[:3]]
    return "; ".join(f"{place}: {message}" if place else message for place, message in places)


class Listing(Message):
    """Which test images to list."""

    text: Annotated[str, Field(max_length=200)] = ""
    wrong: bool = False
    predicted: NonNegativeInt | None = None
    labelled: NonNegativeInt | None = None
    least: Annotated[float, Field(ge=0, le=1)] = 0.0
    most: Annotated[float, Field(ge=0, le=1)] = 1.0
    order: Order = "wrong_first"
    offset: NonNegativeInt = 0
    limit: Annotated[int, Field(ge=1, le=MOST_ON_A_PAGE)] = 48


class Members(Message):
    """Which members of a cluster to list, and the query of whose effect they share."""

    query: Annotated[str, Field(max_length=64)] | None = None
    offset: NonNegativeInt = 0
    limit: Annotated[int, Field(ge=1, le=MOST_ON_A_PAGE)] = 96


Ids = tuple[NonNegativeInt, ...]


class LeftOut(Message):
    """What is ticked, and how much replay may be spent; `replay` None is what the recipe says."""

    clusters: Ids = ()
    classes: Ids = ()
    samples: Ids = ()
    replay: NonNegativeInt | None = None

    @property
    def ids(self) -> tuple[Ids, Ids, Ids]:
        """Clusters, classes and samples, each once and in order: the arguments of `run.without`."""
        clusters, classes, samples = (tuple(sorted(set(each))) for each in (self.clusters, self.classes, self.samples))
        return clusters, classes, samples


class WhatIf(LeftOut):
    """What is ticked, and the query whose prediction is looked at."""

    query: Annotated[str, Field(max_length=64)] | None = None


class Export(LeftOut):
    """What is ticked, and whether the exactly retrained network is wanted instead of the estimate."""

    retrained: bool = False


async def body_of(stream: AsyncIterable[bytes], most: int) -> bytes:
    """The body of a request, read no further than allowed.

    Raises:
        TooLargeError: if it is longer, whatever its headers say.
    """
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > most:
            raise TooLargeError(f"more than {most / 2**20:g} MiB were sent; nothing was read beyond that")
        parts.append(part)
    return b"".join(parts)
