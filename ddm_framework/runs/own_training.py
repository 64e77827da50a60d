"""The user's own training: a function that trains the network again without some samples."""

from __future__ import annotations

import copy
import hashlib
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ddm_framework.errors import DDMError
from ddm_framework.network import Network, Parameters, Target, state_in
from ddm_framework.network.checkpoints import fitted
from ddm_framework.plugin.source_code import code_digest

TrainFunction = Callable[..., nn.Module | Mapping[str, Any]]
"""(weights, start, from_epoch) -> the trained network, or its state dict; or (weights) alone."""
_WHAT = "what train_function returned"
_WANTED = "train_function is called as f(weights, start, from_epoch), or f(weights) if it always trains from the start"


@dataclass(frozen=True, eq=False)
class OwnTraining:
    """A training of the user's, which repeats that of the target.

    Attributes:
        function: `f(weights, start, from_epoch)`, deterministic. `weights` are float32 (N,), 1 for each sample that is
            kept and 0 for the others, in the order in which the training data were given. `start` is a copy of the
            module with the weights of checkpoint number `from_epoch`, from which it goes on; None with 0 to begin.
        module: of the user, which is never changed.
        positions: of the training split among the samples that were given, int64; those held out are always kept.
        num_samples: N.
        takes_start: whether it can go on from a checkpoint.
        digest: of its code.
    """

    function: TrainFunction = field(repr=False)
    module: nn.Module = field(repr=False)
    positions: Tensor
    num_samples: int
    takes_start: bool
    digest: str

    @classmethod
    def of(cls, function: Any, module: nn.Module, positions: Tensor, num_samples: int) -> OwnTraining:
        """Look at a function, without calling it.

        Raises:
            DDMError: if it cannot be called with weights.
        """
        if not callable(function) or isinstance(function, nn.Module):
            raise DDMError(f"{_WANTED}; found a {type(function).__name__}")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # written in C
            raise DDMError(f"{_WANTED}; its arguments cannot be told") from None
        if not (_takes(signature, 3) or _takes(signature, 1)):
            raise DDMError(f"{_WANTED}; found {signature}")
        return cls(function, module, positions, num_samples, _takes(signature, 3), _digest(function))

    def trained(
        self,
        network: Network,
        kept: Tensor,
        target: Target | None = None,
        epoch: int = 0,
        start: Parameters | None = None,
    ) -> Parameters:
        """A network trained without some samples, with those constants that are its own (statistics of batch norm).

        Args:
            network: the architecture, with the constants of θ_τ.
            kept: of the training split, 0 or 1, (N,).
            target: with the constants of earlier checkpoints; needed with a start.
            epoch: t of the checkpoint that it starts from.
            start: its weights there; by default it is trained from the beginning.
        Raises:
            DDMError: if the function fails, or returns something else than such a network.
        """
        weights = torch.ones(self.num_samples)
        weights[self.positions] = kept.detach().float().cpu()
        module = None if start is None or target is None else self._started(target.at(epoch), start)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            try:
                found = self.function(weights, module, epoch) if self.takes_start else self.function(weights)
            except DDMError:
                raise
            except Exception as error:  # a training of the user's can raise anything
                told = " ".join(str(error).split())[:200]
                raise DDMError(
                    f"train_function fails with {type(error).__name__}: {told}; it was called with weights of shape"
                    f" ({self.num_samples},), {int((weights == 0).sum())} of them 0"
                ) from error
        parameters, constants = fitted(network, self._like(network), state_in(found, _WHAT), _WHAT, whole=True)
        own = {
            name: each
            for name, each in constants.items()
            if each.is_floating_point() and not torch.equal(each, network.buffers[name])
        }
        return {**parameters, **own}

    def _started(self, network: Network, start: Parameters) -> nn.Module:
        module = copy.deepcopy(self.module)
        module.load_state_dict({**network.buffers, **start}, strict=False)
        return module.train()

    @staticmethod
    def _like(network: Network) -> Parameters:
        own = dict(network.module.named_parameters())
        return {name: own[name].detach() for name in network.trained}


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _digest(function: Any) -> str:
    """A digest of a function: its own text, the files of its module, and the plain values that it closes over."""
    inner = inspect.unwrap(getattr(function, "func", function))
    try:
        text = inspect.getsource(inner if inspect.isroutine(inner) else type(inner))
    except (OSError, TypeError):
        code = getattr(inner, "__code__", None)
        text = repr((code.co_code, code.co_names)) if isinstance(code, types.CodeType) else type(inner).__qualname__
    cells = [each.cell_contents for each in getattr(inner, "__closure__", None) or () if _filled(each)]
    values = [*cells, *getattr(function, "args", ()), *getattr(function, "keywords", {}).values()]
    values += getattr(inner, "__defaults__", None) or ()
    plain = [repr(each) for each in values if isinstance(each, bool | int | float | str | None)]
    try:
        files = code_digest(inner)
    except Exception:  # what a library makes of itself when it is imported can be anything
        files = ""
    told = "\n".join([text, files, *plain])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
