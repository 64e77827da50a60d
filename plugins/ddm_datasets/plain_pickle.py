"""Read a pickle of plain data and uint8 arrays; anything else in it could run code and is refused."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddm_framework import DataError


class _Array:
    """Stands in for numpy's array and records its state, so that numpy itself builds nothing from a pickle."""

    def __init__(self, *_: object) -> None:
        self.state: Any = ()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def read(self) -> NDArray[np.uint8]:
        _, shape, dtype, is_fortran, content = self.state
        if dtype.name not in ("u1", "|u1"):
            raise ValueError(f"an array of {dtype.name}, not of uint8")
        content = content.encode("latin1") if isinstance(content, str) else content  # Python 2 had no bytes type
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _DType:
    """Stands in for numpy's dtype; its state, the byte order, is irrelevant for single bytes."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None


class _ForbiddenError(Exception):
    """The name of a function or class that a pickle asked for."""


def read_plain_pickle(content: bytes, where: str) -> dict[str, Any]:
    """A pickled dictionary of numbers, strings, lists and uint8 arrays, also one written by Python 2.

    Args:
        content: the pickle.
        where: what errors start with.
    Raises:
        DataError: if it asks for any function or class, or is not such a dictionary.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        return {str(key): each.read() if isinstance(each, _Array) else each for key, each in found.items()}
    except _ForbiddenError as error:
        raise DataError(
            f"{where} is a pickle that asks for {error}, which could run code; it was not read any further."
            " Remove it and fetch it anew"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"{where} is not a pickle of arrays, or damaged: {error}; remove it and fetch it anew"
        ) from error
