"""The types of options that several studies have; their bounds are checked when a recipe is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MANY = 1_000_000
"""More networks, queries or repetitions than anybody waits for."""
Count = Annotated[int, Field(ge=1, le=MANY)]
AtLeastTwo = Annotated[int, Field(ge=2, le=MANY)]
"""As many as an interval needs."""
AtLeastThree = Annotated[int, Field(ge=3, le=MANY)]
Resamples = Annotated[int, Field(ge=50, le=MANY)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Percentage = Annotated[float, Field(ge=0, lt=100)]
