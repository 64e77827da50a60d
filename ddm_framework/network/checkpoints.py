"""Read weights that were saved elsewhere, without running code from the file, and fit all of them to a network."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ddm_framework.errors import DDMError
from ddm_framework.files import FileError, check_file
from ddm_framework.network.constants import aliases, some
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters
from ddm_framework.resources import check_fits

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema"),
)
"""Keys under which training scripts store the state dict among other things, in the order in which they are looked
for: a moving average of the weights is taken only where the weights themselves are not there."""
AVERAGED = ("ema", "average", "swa", "teacher")
"""What the prefix of a second copy of the network is called, a moving average of it."""
COUNTERS = ("n_averaged",)
"""What `torch.optim.swa_utils.AveragedModel` adds to a state dict."""
EXTRA = "_extra_state"
"""What a module of PyTorch calls that which is no tensor in its state dict."""
STATISTICS = ("running_mean", "running_var")
_DEEPEST = 4


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; what wraps them, as in `{"state_dict": ...}`, is taken off.

    Its ending does not matter. Numbers, texts and NumPy values beside the weights are left out.

    Raises:
        DDMError: if the file is missing or damaged, or holds no state dict, or objects that could run code.
    """
    try:
        check_fits(check_file(path), f"checkpoint {path}", "name a smaller file")
    except FileError as error:
        raise DDMError(f"checkpoint {error}") from None
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{" and not start.startswith(b"PK"):  # a length of eight bytes, then JSON: safetensors
            return load_file(path)
        with torch.serialization.safe_globals(_plain_values()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise DDMError(
            f"checkpoint {path} is damaged, or holds Python objects, which could run code when read;"
            " save `model.state_dict()` as .safetensors"
        ) from error
    return state_in(content, f"checkpoint {path}")


def _plain_values() -> list[Any]:
    """Classes of values without code of their own, which stand beside weights: NumPy's, and a script's arguments."""
    scalar = np.float64(0).__reduce__()[0]
    rebuild = np.zeros(1).__reduce__()[0]
    kinds = {type(np.dtype(each)) for each in "?bhilqBHILQefdSU"}
    named = [
        (each, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for each, name in ((scalar, "scalar"), (rebuild, "_reconstruct"))
    ]
    return [*named, np.ndarray, np.dtype, *kinds, argparse.Namespace]


def state_in(content: Any, what: str) -> dict[str, Tensor]:
    """The state dict in what a training script saved, whatever wraps it.

    Args:
        content: a state dict, a mapping with one among other things, or a module.
        what: for messages.
    Raises:
        DDMError: if there is none, or more than one that could be meant.
    """
    for _ in range(_DEEPEST):
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            break
        inner = _wrapped(content, what)
        if inner is None:
            return _tensors(content, what)
        content = inner
    raise DDMError(f"{what} is not a state dict, a mapping from names to tensors, and does not hold one")


def _wrapped(content: Mapping[Any, Any], what: str) -> Any:
    """What a mapping wraps; None if it is a state dict itself."""
    for name in WRAPPERS:
        if isinstance(content.get(name), Mapping | nn.Module):
            return content[name]
    if any(isinstance(each, Tensor | np.ndarray) and np.ndim(each) for each in content.values()):
        return None
    found = [name for name, each in content.items() if isinstance(each, Mapping) and _is_state(each)]
    if len(found) > 1:
        raise DDMError(f"{what} holds several state dicts ({some(map(repr, found))}); save the one that is meant alone")
    return content[found[0]] if found else None


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in content.items())


def _tensors(content: Mapping[Any, Any], what: str) -> dict[str, Tensor]:
    """The tensors of a state dict; plain values beside them are left out."""
    found: dict[str, Tensor] = {}
    for name, each in content.items():
        if str(name).endswith(EXTRA):
            continue
        if isinstance(each, np.ndarray) and each.dtype.kind in "fiub":
            each = torch.as_tensor(each)
        if isinstance(each, Tensor) and isinstance(name, str):
            if each.is_meta:
                raise DDMError(f"{what}: {name!r} is on the device `meta`, without values; save what holds them")
            found[name] = each if each.layout == torch.strided else each.to_dense()
        elif not isinstance(each, int | float | str | bytes | np.generic | None):
            raise DDMError(
                f"{what} is not a state dict, a mapping from names to tensors: {name!r} is a {type(each).__name__}"
            )
    if not found:
        raise DDMError(f"{what} is not a state dict, a mapping from names to tensors: it holds no tensor")
    return found


def shape_of(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    """Shape of a tensor; None if the state does not hold it."""
    return state[name].shape if name in state else None


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How a state differs from the one that a network has, in words; empty if it fits."""
    problems = {
        "lacks": [name for name in own if name not in state],
        "has unknown": [name for name in state if name not in own],
        "has another shape of": [
            name for name in own if name in state and shape_of(own, name) != shape_of(state, name)
        ],
    }
    return "; ".join(f"it {what} {some(names)}" for what, names in problems.items() if names)


def fitted(
    network: Network, initial: Parameters, state: Mapping[str, Tensor], path: Path | str, *, whole: bool = False
) -> tuple[Parameters, dict[str, Tensor]]:
    """Parameters of the network from a state dict, float32, and the constants that it holds.

    Args:
        network: the architecture.
        initial: parameters that it was built with.
        state: of the checkpoint, under the network's names or with one prefix before all of them.
        path: of the checkpoint, or in words what it is, for messages.
        whole: whether weights that are not trained and statistics of batch norm must be there too.
    Returns:
        The parameters that are trained, and those buffers and frozen weights that the state holds.
    Raises:
        DDMError: if weights are missing, unknown, not finite or of another shape.
    """
    what = f"checkpoint {path}" if isinstance(path, Path) else path
    state = _own_names(network, initial, state, what)
    own = {**initial, **network.buffers}
    unknown = [name for name in state if name.endswith("running_var") and name not in own]
    if unknown:
        raise DDMError(
            f"{what} holds batch-norm statistics ({unknown[0]}), but the backbone has no batch norm there; build the"
            " network that was trained (of backbone timm with `norm: frozen`)"
        )
    weights = {name for name, _ in network.module.named_parameters()}
    statistics = {name for name in network.buffers if name.rpartition(".")[2] in STATISTICS}
    needed = statistics if whole or any(name in state for name in statistics) else set[str]()
    needed |= weights & set(network.buffers) if whole else set()
    given = {name: each for name, each in network.buffers.items() if name not in needed}
    if found := misfit(own, {**given, **state}):
        raise DDMError(f"{what} does not fit the backbone: {found}; check `backbone` and its options")
    if broken := [name for name in own if name in state and not torch.isfinite(state[name]).all()]:
        raise DDMError(f"{what}: {broken[0]} holds NaN or infinity")
    constants = {name: state[name].to(each) for name, each in network.buffers.items() if name in state}
    return {name: state[name].to(each) for name, each in initial.items()}, constants


def _own_names(network: Network, initial: Parameters, state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The state under the network's own names: without a prefix, a second copy, or second names of shared weights."""
    others = aliases(network.module)
    names: dict[str, list[str]] = {name: [name] for name in initial}
    for other, first in others.items():
        names.get(first, []).append(other)
    copies = _copies(names, state)
    if len(copies) > 1:
        copies = _plain_copies(copies)
    if len(copies) > 1:
        raise DDMError(f"{what} holds several copies of the network ({', '.join(copies)}); save the one that is meant")
    prefix = next(iter(copies), _common_prefix(state))
    known = {*initial, *network.buffers, *others}
    aside = [each for each in _copies(names, state) if each != prefix]
    found: dict[str, Tensor] = {}
    for name, each in state.items():
        if name.startswith(prefix) and (prefix or not any(name.startswith(copy) for copy in aside)):
            found[name.removeprefix(prefix)] = each
        elif not any(name.startswith(copy) and name.removeprefix(copy) in known for copy in aside):
            found[name] = each
    found = {name: each for name, each in found.items() if name not in COUNTERS or name in known}
    return _without_aliases(found, others, what)


def _copies(names: Mapping[str, list[str]], state: Mapping[str, Tensor]) -> list[str]:
    """Prefixes under which a state holds every parameter."""
    if not names:
        return []
    sought = next(iter(names.values()))
    prefixes = {
        name.removesuffix(each) for name in state for each in sought if name == each or name.endswith(f".{each}")
    }
    return sorted(
        prefix for prefix in prefixes if all(any(prefix + each in state for each in some) for some in names.values())
    )


def _plain_copies(prefixes: Iterable[str]) -> list[str]:
    """The copies that are no moving average; all of them if each is one."""
    listed = list(prefixes)
    if "" in listed:
        return [""]
    return [each for each in listed if not any(word in each.lower() for word in AVERAGED)] or listed


def _common_prefix(state: Mapping[str, Tensor]) -> str:
    """What wrappers such as DataParallel and compile add to every name, for a message about the rest."""
    prefix = ""
    while True:
        first = {name.removeprefix(prefix).partition(".")[0] for name in state}
        longer = f"{prefix}{next(iter(first))}." if len(first) == 1 else ""
        if not longer or longer.split(".")[-2] not in ("module", "model", "_orig_mod", "net", "network"):
            return prefix
        prefix = longer


def _without_aliases(state: dict[str, Tensor], others: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Shared weights under their first name alone."""
    for other, first in others.items():
        if other not in state:
            continue
        each = state.pop(other)
        if first in state and not torch.equal(state[first], each):
            raise DDMError(f"{what}: {other} and {first} are one shared weight of the backbone, but differ in the file")
        state[first] = each
    return state
