"""Questions: queries, the objective that measures a behaviour on them, and the reference for the measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddm_framework.data.images import content_digest
from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.online.behaviours import checked_behaviours
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.declarations import Declaration, Direction, objective


@dataclass(frozen=True, slots=True)
class Queries:
    """Images that are asked about.

    Attributes:
        images: network inputs, float32 (N, C, H, W).
        labels: int64 (N,), or None if they are unknown.
        ids: a name for each, such as `test 17` or a file name.
    """

    images: Tensor
    labels: Tensor | None
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Queries:
        """Some of the queries, by position."""
        labels = None if self.labels is None else self.labels[index.to(self.labels.device)]
        return Queries(self.images[index.to(self.images.device)], labels, tuple(self.ids[i] for i in index.tolist()))

    def digest(self, *, with_labels: bool = False) -> str:
        """Of the images: the same digest means the same logits; with the labels, the same behaviours."""
        labels = [self.labels] if with_labels and self.labels is not None else []
        return content_digest("", [self.images, *labels])

    def to(self, device: torch.device) -> Queries:
        """The same queries on another device."""
        return Queries(self.images.to(device), None if self.labels is None else self.labels.to(device), self.ids)


def checked_queries(images: Tensor, labels: Tensor | None, ids: Sequence[str], info: DataInfo) -> Queries:
    """Queries from given images and labels, after checking them.

    Args:
        images: network inputs, floating point (N, C, H, W), normalised.
        labels: class ids, integers (N,), or None if they are unknown.
        ids: a name for each; `query 0`, `query 1` ... if empty.
        info: of the run's data.
    Returns:
        Queries with float32 images and int64 labels, on the devices of the inputs.
    Raises:
        DDMError: if they do not fit the data, or hold NaN or infinity.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != info.shape or len(images) == 0:
        raise DDMError(f"images must be (N, {', '.join(map(str, info.shape))}) with N ≥ 1, found {tuple(images.shape)}")
    if not images.is_floating_point():
        raise DDMError(f"images must be float32 and normalised, found {images.dtype}; see info.normalise")
    if not torch.isfinite(images).all():
        raise DDMError("the images hold NaN or infinity")
    if labels is not None and (labels.shape != (len(images),) or not _in_range(labels, info.num_classes)):
        raise DDMError(f"labels must be {len(images)} class ids from 0 to {info.num_classes - 1}")
    named = tuple(ids) or tuple(f"query {index}" for index in range(len(images)))
    return Queries(images.float(), None if labels is None else labels.long(), named)


def _in_range(labels: Tensor, num_classes: int) -> bool:
    return not labels.is_floating_point() and bool(((labels >= 0) & (labels < num_classes)).all())


@dataclass(frozen=True, slots=True)
class Reference:
    """What an objective measures a network against.

    Attributes:
        images: the queries, float32 (N, C, H, W), normalised.
        labels: int64 (N,), or None if they are unknown.
        target_logits: the target network's logits on them, float32 (N, classes).
        data: shape, classes and normalisation of the data set.
    """

    images: Tensor
    labels: Tensor | None
    target_logits: Tensor
    data: DataInfo


SMALL_RISE = 1e-3
"""Rise of a logit by which the slope of an objective is measured."""


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective with its options and its declaration; `sought` replaces the declared direction of its effect."""

    choice: Choice
    declaration: Declaration
    sought: Direction | None = None

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.choice.name

    @property
    def more_influential(self) -> Direction:
        """Which effect makes a cluster more influential."""
        if self.sought is not None:
            return self.sought
        declared = self.declaration.more_influential
        return declared(self.choice.options) if callable(declared) else declared

    def measure(self, logits: Tensor, reference: Reference) -> Tensor:
        """Behaviours (N, m), or (1, m) of a set-level objective, of one network.

        Raises:
            DDMError: if it needs labels and there are none.
            PluginError: if it returns anything else.
        """
        if self.declaration.needs_labels and reference.labels is None:
            raise DDMError(f"objective {self.name!r} needs the queries' labels, and there are none")
        given = (logits, reference.target_logits)
        versions = [each._version for each in given]
        behaviours = self.choice(logits, reference)
        if versions != [each._version for each in given]:
            raise PluginError(f"{self.choice.who} changes in place the logits that it is given; work on a copy")
        rows = 1 if self.declaration.set_level else len(logits)
        return checked_behaviours(self.choice.who, behaviours, rows, logits)

    def has_gradient(self, reference: Reference) -> bool:
        """Whether its behaviours have a derivative other than 0 at the logits of the target.

        Without one, as for a distance from the target or an accuracy, a first-order estimate of it says nothing.
        """
        leaf = reference.target_logits.detach().clone().requires_grad_()
        with torch.enable_grad():
            try:
                behaviours = self.measure(leaf, reference)
            except RuntimeError:  # such as `.numpy()` of a tensor that requires a gradient
                return False
            if not behaviours.requires_grad:
                return False
            totals = behaviours.sum(0)
            found = [torch.autograd.grad(each, leaf, retain_graph=True, allow_unused=True)[0] for each in totals]
        return any(each is not None and bool(each.any()) for each in found)

    def slope(self, reference: Reference) -> Tensor:
        """Change of the first behaviour as the logit of the predicted class rises a little, float64 (N,).

        Its sign says whether a larger behaviour speaks for the prediction; it is 0 at the minimum of a distance.
        """
        logits = reference.target_logits.double()
        exact = replace(reference, target_logits=logits)
        step = torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), SMALL_RISE)
        own = self.measure(logits, exact)
        rise, fall = (self.measure(each, exact)[:, 0] - own[:, 0] for each in (logits + step, logits - step))
        # Both changes of a distance have one sign; what they differ by is its curvature.
        sloping = (rise - fall).abs() > 0.1 * (rise.abs() + fall.abs())
        return ((rise - fall) / (2 * SMALL_RISE) * sloping).double().cpu()

    def effect_on(self, logits: Tensor, reference: Reference) -> Tensor:
        """Behaviours of K networks minus that of the target, float64 (N, K, m); (1, K, m) of a set-level objective.

        Args:
            logits: (K, N, classes).
            reference: of the N queries.
        """
        own = self.measure(reference.target_logits, reference)
        # A loop, not a vmap: objectives may use `.item()` or scikit-learn, and no network runs here.
        return torch.stack([self.measure(each, reference) - own for each in logits], 1).double().cpu()

    def ranking(self, effect: Tensor) -> Tensor:
        """Clusters from the most to the least influential, int64 (N, K), by effects (N, K, 1).

        Raises:
            DDMError: if the objective has several behaviours (m > 1), which have no order.
        """
        if effect.shape[2] != 1:
            raise DDMError(
                f"objective {self.name!r} measures {effect.shape[2]} behaviours at once; clusters have no rank"
            )
        values = effect[:, :, 0].abs() if self.more_influential == "nearest_zero" else effect[:, :, 0]
        return values.argsort(dim=1, descending=self.more_influential == "larger", stable=True)


def declared(choice: Choice) -> Objective:
    """An objective with its declaration.

    Raises:
        PluginError: if the function is not decorated.
    """
    declaration = getattr(choice.target, "ddm_declaration", None)
    if not isinstance(declaration, Declaration):
        raise PluginError(
            f"objective {choice.name!r} does not say which effect is more influential; decorate its function with "
            "@objective(more_influential=...) from ddm_framework"
        )
    return Objective(choice, declaration)


@objective(more_influential="larger")
def _logits(logits: Tensor, reference: Reference, /) -> Tensor:  # noqa: ARG001 - as every objective
    """The logits themselves, (N, classes)."""
    return logits


EVERY_LOGIT = declared(Choice("objective", "logits", {}, _logits))
"""The logit of every class, (N, classes): what a linear method estimates to answer any other objective."""
