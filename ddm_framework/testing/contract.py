"""What a check says: nothing where the contract is kept, else what is wrong and what to do, or why it cannot tell."""

from __future__ import annotations

import random
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ddm_framework.errors import DDMError, PluginError

if TYPE_CHECKING:
    from ddm_framework.testing.subject import Subject


class ContractError(AssertionError):
    """A component breaks the contract of its kind; the message says what to do about it."""


class NotChecked(unittest.SkipTest):
    """A check cannot be made, for the reason given; pytest reports it as skipped."""


@dataclass(frozen=True, slots=True)
class Check:
    """One clause of a contract.

    Attributes:
        function: of a subject; raises where the clause is broken.
        calls: whether it calls the component, which must be importable and have a valid signature for that.
    """

    function: Callable[[Subject], None]
    calls: bool = True

    @property
    def name(self) -> str:
        """Of the function, such as `check_samples_do_not_mix`."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """The contract in one line."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def __call__(self, subject: Subject) -> None:
        """Check one component.

        Raises:
            ContractError: if it breaks the contract.
            NotChecked: if that cannot be told, for instance because a file or a library is missing.
        """
        if self.calls and subject.broken:
            raise NotChecked(f"it cannot be called: {subject.broken}")
        with undisturbed():
            try:
                self.function(subject)
            except PluginError as error:
                raise ContractError(str(error)) from error
            except DDMError as error:
                advice = f"what it can work with may be given as options, as in --set {subject.id}.OPTION=VALUE"
                raise NotChecked(f"it refuses to work here: {error}\n({advice})") from error


def expect(holds: bool | Tensor, message: str) -> None:
    """Go on if the contract is kept.

    Raises:
        ContractError: if it is not.
    """
    if not holds:
        raise ContractError(message)


@contextmanager
def advice(text: str) -> Iterator[None]:
    """Turn what a component raises by accident into a broken contract, with advice; its own refusals pass."""
    try:
        yield
    except (DDMError, ContractError, NotChecked):
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or "no message"
        raise ContractError(f"it raised {type(error).__name__}: {message}\n{text}") from error


@contextmanager
def undisturbed() -> Iterator[None]:
    """One thread, and torch's random state as it was afterwards: a check must not change the next one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def untouched_randomness() -> Iterator[list[str]]:
    """Yields a list that afterwards names the global random states that changed, which are then put back."""
    touched: list[str] = []
    before = _random_states()
    yield touched
    after = _random_states()
    touched += [name for name in before if before[name] != after[name]]
    random.setstate(before["random"])
    np.random.set_state(before["numpy.random"])
    torch.set_rng_state(torch.tensor(before["torch"], dtype=torch.uint8))


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy.random": (kind, tuple(map(int, np.asarray(keys))), *rest),
        "torch": torch.get_rng_state().tolist(),
    }


def same(first: Tensor, second: Tensor, rtol: float = 1e-4, atol: float = 1e-6) -> bool:
    """Whether two tensors hold the same numbers but for rounding, NaN beside NaN."""
    return first.shape == second.shape and torch.allclose(first, second, rtol=rtol, atol=atol, equal_nan=True)
