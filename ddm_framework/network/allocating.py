"""Watch a backbone being built and tried out: what it allocates, and whether it keeps state between calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ddm_framework.errors import DDMError, PluginError
from ddm_framework.resources import MemoryShortageError, free_memory, in_words, is_shortage, memory_told

_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)
_MOST = 20_000
"""Tensors that are allocated for one network; with the module around it each takes time and some kilobytes besides."""
NAMELESS = "the backbone"
_LOWER = "lower the size of the backbone (`ddm show backbone NAME` lists its options)"


class Watched(TorchFunctionMode):
    """Refuses, before it is allocated, a tensor with which a module would no longer fit into the memory.

    Raises:
        MemoryShortageError: with both sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._free, self._taken, self._count = free_memory(), 0.0, 0

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _FACTORIES and str(given.get("device")) != "meta":
            size = args[0] if args and not isinstance(args[0], int) else args or given.get("size", ())
            width = (given.get("dtype") or torch.get_default_dtype()).itemsize
            values = math.prod(size)
            self._taken += float(values) * width
            self._count += 1
            if self._count > _MOST:
                raise MemoryShortageError(f"the backbone has more than {_MOST:,} tensors; {_LOWER}")
            if self._free is not None and self._taken > self._free:
                needed, free = in_words(self._taken), in_words(self._free)
                raise MemoryShortageError(f"the backbone would need more than {needed}; {free} are free; {_LOWER}")
        return func(*args, **(kwargs or {}))


@contextmanager
def naming(build: Any) -> Iterator[None]:
    """Name the backbone, and the plugin that brings it, in whatever goes wrong while it is built or tried out.

    Raises:
        MemoryShortageError: where memory ends.
        PluginError: for anything but a user's mistake.
    """
    who = named(build)
    with memory_told(f"building {who}", _LOWER):
        try:
            yield
        except (MemoryShortageError, MemoryError):
            raise
        except DDMError as error:
            told = str(error)
            if told.startswith(NAMELESS) and who != NAMELESS:
                raise PluginError(who + told.removeprefix(NAMELESS)) from error
            raise
        except Exception as error:
            if is_shortage(error):
                raise
            text = " ".join(str(error).split())[:300]
            raise PluginError(f"{who} fails on these data: {type(error).__name__}: {text}") from error


def named(build: Any) -> str:
    """How a backbone is named in a message."""
    return getattr(build, "who", NAMELESS)


def check_stateless(module: nn.Module, images: Tensor, output: Callable[[Any], Tensor], who: str) -> None:
    """Refuse a module in evaluation mode whose answer depends on what it was asked before.

    Args:
        module: of the backbone.
        images: (B, C, H, W), to ask about twice.
        output: the logits in what the module returns.
        who: for messages.
    Raises:
        PluginError: if a second call answers otherwise, or a call changes what the module keeps.
    """
    kept = {name: each.clone() for name, each in _held(module).items()}
    with torch.no_grad():
        first, second = output(module(images)), output(module(images))
    changed = [name for name, each in _held(module).items() if not _same(each, kept[name])]
    if changed:
        told = "and a network must be a function of its weights and of the image"
        raise PluginError(f"{who}: a call changes {changed[0]!r}, {told}")
    if not _same(first, second):
        told = "it draws at random or keeps state"
        raise PluginError(f"{who}: the same images give other logits at a second call; {told}")


def _held(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
