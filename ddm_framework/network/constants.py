"""What of a module is trained and what is constant: frozen and shared weights, and batch norm in evaluation mode."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ddm_framework.errors import DDMError, suggestion

Constants = Mapping[str, Tensor]
"""Buffers and weights that are not trained, by name."""


def trained_names(module: nn.Module, patterns: Sequence[str] | None = None) -> list[str]:
    """Names of the parameters that are trained, in the module's order; a shared one stands under its first name.

    Args:
        module: whose parameters have `requires_grad` as its owner set it.
        patterns: such as `layer4.*`, which then decide alone; by default `requires_grad` does.
    Raises:
        DDMError: if a pattern matches no parameter, or nothing is left to train.
    """
    own = {name: each for name, each in module.named_parameters() if each.is_floating_point()}
    if patterns is None:
        chosen = {name for name, each in own.items() if each.requires_grad}
        if own and not chosen:
            raise DDMError(
                "every weight of the backbone is frozen (requires_grad is False), so there is nothing to match; name"
                ' those to train, as in `training.parameters: ["fc.*"]`'
            )
        return [name for name in own if name in chosen]
    known = {**{name: name for name in own}, **aliases(module)}
    chosen = set()
    for pattern in patterns:
        matched = {known[name] for name in known if fnmatch.fnmatchcase(name, pattern) and known[name] in own}
        if not matched:
            inside = [f"{pattern}.*"] if any(name.startswith(f"{pattern}.") for name in known) else []
            told = f"; did you mean {inside[0]!r}?" if inside else suggestion(pattern, list(known))
            raise DDMError(
                f"training.parameters: {pattern!r} matches no parameter of the backbone{told}"
                f" (parameters: {', '.join(list(own)[:3])}, ..., {list(own)[-1] if own else ''})"
            )
        chosen |= matched
    if not chosen:
        raise DDMError("training.parameters is empty, so nothing would be trained; name some, or leave the setting out")
    return [name for name in own if name in chosen]


def aliases(module: nn.Module) -> dict[str, str]:
    """Further names of parameters and buffers that are shared, each with the first name."""
    found: dict[str, str] = {}
    for kind in (module.named_parameters, module.named_buffers):
        first = {id(each): name for name, each in kind()}
        for name, each in kind(remove_duplicate=False):
            if first[id(each)] != name:
                found[name] = first[id(each)]
    return found


def batch_norms(module: nn.Module) -> list[str]:
    """Names of the layers that keep statistics of batches, whatever their class."""
    return [
        name
        for name, child in module.named_modules()
        if isinstance(child, _BatchNorm) or "running_var" in dict(child.named_buffers(recurse=False))
    ]


def refuse_mixing_norms(module: nn.Module, *, brought: bool) -> None:
    """Refuse batch norm that would mix the samples of a batch, or whose statistics nobody gathered.

    In evaluation mode batch norm is a constant scale and shift. That needs statistics: those of weights that were
    loaded, or of a checkpoint that is still to be read.

    Args:
        module: in evaluation mode.
        brought: whether its statistics come with a checkpoint.
    Raises:
        DDMError: naming the layer.
    """
    for name, child in module.named_modules():
        if not isinstance(child, _BatchNorm):
            continue
        told = f"the backbone has batch norm at {name!r}: it mixes the samples of a batch, and"
        if child.running_mean is None or child.running_var is None:
            raise DDMError(
                f"{told} keeps no statistics (track_running_stats=False) that could stand for it; use instance, group"
                " or layer norm"
            )
        if not brought and not child.running_mean.any() and bool((child.running_var == 1).all()):
            raise DDMError(
                f"{told} the statistics of one synthetic image mean nothing; use instance, group or layer norm, or"
                " start from weights that were trained with it, whose statistics are then kept as they are"
            )


def some(names: Sequence[str] | Iterable[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
