"""What a module returns, read as logits: a tensor, or one entry of a dict, tuple or data class; or probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from ddm_framework.errors import DDMError

PREFERRED = "logits"
"""Name of the entry that is taken where several would do."""
NEAR_ONE = 1e-3
"""How far the sum of a row of probabilities may be from one; half precision rounds to about this."""


@dataclass(frozen=True, slots=True)
class Output:
    """How logits (B, classes) are read from what a module returns.

    Attributes:
        entry: name or position of the entry that is taken; None if the module returns a tensor.
        probabilities: whether it returns probabilities, whose logarithms are the logits.
        single: whether it returns another precision than it is given, which becomes float32.
    """

    entry: str | int | None = None
    probabilities: bool = False
    single: bool = False

    def __call__(self, returned: Any) -> Tensor:
        """Logits (B, classes)."""
        found: Tensor = returned if self.entry is None else _entries(returned)[self.entry]
        found = found.float() if self.single else found
        return found.clamp_min(torch.finfo(found.dtype).tiny).log() if self.probabilities else found


PLAIN = Output()
"""A module that returns logits."""


def understood(returned: Any, rows: int, classes: int) -> tuple[Output, list[str]]:
    """How to read what a module returned for some random images, and what to tell of it, a sentence each.

    Args:
        returned: for `rows` images in float32.
        rows: number of images.
        classes: number of classes.
    Raises:
        DDMError: if it holds no logits (rows, classes), or several tensors that could be.
    """
    entry, notes = _entry(returned, (rows, classes))
    found = Output(entry)(returned)
    if found.is_complex():
        raise DDMError(f"the backbone returns {_name(found.dtype)} numbers; logits are real")
    single = found.is_floating_point() and found.dtype != torch.float32
    if single:
        notes.append(f"The module returns {_name(found.dtype)}, which is turned into float32.")
    probabilities, told = _meaning(found.float())
    return Output(entry, probabilities, single), [*notes, *told]


def _entry(returned: Any, wanted: tuple[int, int]) -> tuple[str | int | None, list[str]]:
    """The entry that holds the logits."""
    if isinstance(returned, Tensor):
        if tuple(returned.shape) != wanted:
            if returned.ndim and len(returned) == wanted[0]:
                raise DDMError(_refusal(f"shape {_one(returned.shape)}", wanted[1], _hint(returned, wanted[1])))
            raise DDMError(
                f"the backbone returns shape {tuple(returned.shape)} for {wanted[0]} images; it must return logits"
                f" {wanted}, one row an image"
            )
        return None, []
    entries = _entries(returned)
    fitting = [name for name, each in entries.items() if isinstance(each, Tensor) and tuple(each.shape) == wanted]
    kind = type(returned).__name__
    if not fitting:
        listed = ", ".join(
            f"{name}: {_one(each.shape) if isinstance(each, Tensor) else type(each).__name__}"
            for name, each in entries.items()
        )
        raise DDMError(_refusal(f"a {kind} ({listed or 'without entries'})", wanted[1]))
    if PREFERRED in fitting:
        return PREFERRED, [f"The module returns a {kind}; its entry `{PREFERRED}` is taken."]
    if len(fitting) > 1 and isinstance(fitting[0], str):
        listed = ", ".join(map(repr, fitting))
        raise DDMError(
            f"the backbone returns a {kind} in which {listed} could all be the logits; call the right one"
            f" `{PREFERRED}`, or return it alone"
        )
    chosen = fitting[0]
    return chosen, [f"The module returns a {kind}; its entry {chosen!r} is taken as the logits."]


def _entries(returned: Any) -> dict[str | int, Any]:
    """The entries of a dict, tuple, list, named tuple or data class; of another object, its `logits`."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if hasattr(returned, "_fields"):
        return {name: getattr(returned, name) for name in returned._fields}
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return dict(enumerate(returned))
    if is_dataclass(returned):
        return {each.name: getattr(returned, each.name) for each in fields(returned)}
    return {PREFERRED: returned.logits} if hasattr(returned, PREFERRED) else {}


def _meaning(values: Tensor) -> tuple[bool, list[str]]:
    """Whether rows are probabilities, and what to tell of rows that are no plain logits."""
    if values.shape[1] < 2 or not bool(torch.isfinite(values).all()):
        return False, []
    if bool((values >= 0).all()) and _is_one(values.sum(1)):
        return True, [
            "The module returns probabilities (no row is negative and each adds up to one), so it ends in a softmax;"
            " their logarithms are taken as logits."
        ]
    if bool((values <= 0).all()) and _is_one(values.exp().sum(1)):
        return False, ["The module returns logarithms of probabilities, a log-softmax; they are logits as they are."]
    if bool(((values > 0) & (values < 1)).all()):
        return False, [
            "All outputs of the module lie between 0 and 1 but do not add up to one. They are taken as logits; if the"
            " module ends in a sigmoid, bring what comes before it."
        ]
    return False, []


def _is_one(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() < NEAR_ONE).all())


def _refusal(found: str, classes: int, hint: str = "") -> str:
    return f"the backbone returns {found} for one image; it must return logits (1, {classes}){hint}"


def _hint(returned: Tensor, classes: int) -> str:
    if classes == 2 and returned.ndim <= 2 and returned.numel() == len(returned):
        return ": of two classes one logit each, such as `torch.stack([-z, z], 1) / 2` for one output z"
    if returned.ndim == 2 and returned.shape[1] > classes:
        return f"; the data have {classes} classes, so let it return the logits of these alone, as in `logits[:, ids]`"
    return ""


def _one(shape: torch.Size) -> tuple[int, ...]:
    """The shape as it would be for one image."""
    return (1, *shape[1:])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
