"""The settings that the core itself reads from a recipe; everything else belongs to a component."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ddm_framework.errors import DDMError
from ddm_framework.plugin.signatures import LARGEST_INT, bearable


def above_nothing(value: float) -> float:
    """A number above 0, if it is above 0 in 32 bits too.

    Raises:
        ValueError: for one that becomes 0 there.
    """
    if value < SMALLEST_FLOAT:
        raise ValueError(f"input should be at least {SMALLEST_FLOAT:g}, for networks compute in 32 bits")
    return value


SMALLEST_FLOAT = 1e-30
"""Networks compute in 32 bits, where what is much smaller becomes 0."""
Number = Annotated[float, AfterValidator(bearable)]
"""Numbers that networks compute with, in 32 bits."""
Positive = Annotated[Number, Field(gt=0), AfterValidator(above_nothing)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
MANY = 1_000_000
"""More epochs, steps or retrainings than anybody waits for."""
Count = Annotated[int, Field(gt=0, le=MANY)]
CountOrNone = Annotated[int, Field(ge=0, le=MANY)]
Size = Annotated[int, Field(gt=0, le=LARGEST_INT)]
"""Of something that is cut to what there is: a batch, a bound of memory."""
Seed = Annotated[int, Field(ge=0, le=LARGEST_INT)]


class Settings(BaseModel):
    """Strict and frozen: unknown keys, values of another type, NaN and infinity are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def changed(self, update: Mapping[str, Any]) -> Self:
        """The same settings with some others, checked again.

        Raises:
            DDMError: if they do not go together.
        """
        try:
            return self.model_validate({**self.model_dump(by_alias=True), **update})
        except ValidationError as error:
            found = [".".join([*map(str, each["loc"]), ""])[:-1] + " " + each["msg"] for each in error.errors()]
            told = "; ".join(each.strip().removeprefix("Value error, ") for each in found)
            raise DDMError(f"{type(self).__name__.lower()} settings: {told}") from None


class Corruption(Settings):
    """Training images that are corrupted on purpose, to see whether they are found (Table 6); none by default.

    `share` of them get noise of size `noise`, measured on pixels between 0 and 1: its root mean square over the pixels
    (`norm: per_pixel`), or its Euclidean norm over the whole image (`euclidean`). The paper's "perturbation norm of
    0.1" does not say which; a Euclidean norm of 0.1 is less than one grey level (of 255) per pixel on MNIST and does no
    harm. A share `labels` of the images, drawn separately, gets the label of another class. Which samples are drawn
    depends on `seed` here, not on the seed of the run.
    """

    share: Share = 0.0
    noise: Positive = 0.1
    norm: Literal["per_pixel", "euclidean"] = "per_pixel"
    labels: Share = 0.0
    seed: Seed = 0


class Training(Settings):
    """Training of the target network: stochastic gradient descent on mean losses over the full batch size (Eq. 2).

    `optimizer: adam` or `adamw` steps by the moments of the gradient, with its `betas` and `eps`; `weight_decay` is
    part of the gradient (`sgd`, `adam`), or apart from it (`adamw`). In the first `warmup_epochs` W the learning rate
    rises in equal parts, 1/(W + 1) of it in the first epoch; a `cosine` begins behind them. `label_smoothing` is the
    share of a label that is spread evenly over all classes, in training and in the gradients that are matched.

    `augmentation` lists `crop` (a window moved by up to an eighth of the image's side) and `flip` (left to right). It
    applies to training only: gradients are matched on the original images.

    `parameters` lists patterns of the weights that are trained, matched, attributed and moved, such as `layer4.*`; the
    others are constants. By default these are all that the backbone wants trained (`requires_grad`). It counts for a
    network that was trained elsewhere too.
    """

    epochs: Count = 30
    lr: Positive = 0.05
    batch_size: Size = 64
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Positive = 1e-8
    warmup_epochs: CountOrNone = 0
    label_smoothing: Fraction = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    augmentation: list[Literal["crop", "flip"]] = []
    checkpoint_every: Count = 1
    parameters: list[str] | None = None

    @property
    def has_moments(self) -> bool:
        """Whether a step depends on more of the past than the weights hold."""
        return bool(self.momentum) or self.optimizer != "sgd"

    @model_validator(mode="after")
    def _of_one_optimizer(self) -> Training:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to `optimizer: sgd`; {self.optimizer} has the first of its `betas`")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs})")
        return self


class Target(Settings):
    """A network that was trained elsewhere, instead of one that `training` describes.

    `checkpoint` holds its weights, `trajectory` the checkpoints that were kept during training, the earliest first;
    epochs are then counted in checkpoints. Without a trajectory, the synset is matched at the last checkpoint only
    (`pairing: final`). Its inputs were normalised by `mean` and `std`: one number per channel, in units of [0, 1].

    `epochs` says after how many epochs each of `trajectory` was kept, and after how many `checkpoint`, as in
    `[0, 5, 30]` for two and the last; margins (`ddm audit`) count for the epochs between. Without it they are taken as
    evenly spaced, the first as the start.
    """

    checkpoint: Path | None = None
    trajectory: list[Path] = []
    mean: list[Number] | None = None
    std: list[Positive] | None = None
    epochs: list[CountOrNone] | None = None

    @model_validator(mode="after")
    def _checkpoints_have_epochs(self) -> Self:
        """Refuse epochs that are not those of the checkpoints, one after the other."""
        if self.epochs is None or self.checkpoint is None:
            return self
        wanted = len(self.trajectory) + 1
        if len(self.epochs) != wanted:
            told = f"`epochs` names one epoch for each of `trajectory` and one for `checkpoint`: {wanted} in all"
            raise ValueError(f"{told}, not {len(self.epochs)}")
        if any(later <= earlier for earlier, later in pairwise(self.epochs)):
            raise ValueError(f"`epochs` must rise from checkpoint to checkpoint, found {self.epochs}")
        return self


class Matching(Settings):
    """Gradient matching (Eq. 6, Alg. 1).

    `direction: forward` is ordinary matching ("DDM-match"); with `pairing: offset, step_length: 0` it matches both
    gradients at the same checkpoint, as in dataset condensation.

    `betas` are Adam's. Each step draws another pair of checkpoints, so short memories, `[0.5, 0.9]`, reach the same
    cosine in a half to a third of the steps (docs/how_it_works.md).
    """

    direction: Literal["reverse", "forward"] = "reverse"
    pairing: Literal["offset", "mirror", "final"] = "offset"
    step_length: CountOrNone = 4
    steps: Annotated[int, Field(gt=0, le=10 * MANY)] = 300
    images_per_cluster: Count = 1
    labels: Literal["learned", "hard"] = "learned"
    init: Literal["real", "noise"] = "real"
    optimizer: Literal["adam", "sgd"] = "adam"
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    lr: Positive = 0.1
    label_lr: Positive = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"


class Online(Settings):
    """Perturbed networks (Eq. 9), and the regression of their behaviours on the clusters that they kept (Eq. 8).

    `start: target` fine-tunes the target on the synset of the deleted clusters; `start: initial` trains from the
    initial weights on the synset of the kept clusters, as ordinary matching intends (Eq. 13, Table 4).

    `anchor` is a number of passes over the training images; 0.3 is one pass over three tenths of them. Each network
    that is fine-tuned from the target then takes its step during a short training on the remaining images. The effect
    of the same training with all clusters and without a step is subtracted. This brings in the curvature of the loss,
    which a gradient does not contain. It costs that many epochs per network, needs the training data online, and works
    best with a `step_size` near the true displacement (0.02 is a good start).

    `replay` is the dial from the synset to exact retraining: a number of epochs E. Each network takes its step at the
    target's checkpoint E epochs before the end, and is then trained through these epochs exactly as the target was,
    without the deleted samples. With 0 it is the paper's method, with all epochs exact retraining; `auto` is a
    fifteenth of them. The step is then `replay_step_size` long, scaled down with the part of the training that comes
    before it; a network that lacks n clusters takes each of their steps n^-`replay_set_power` as long, by default a
    quarter, and 0 where `direction: influence` already knows how the steps add up. It needs the training data online,
    and costs E epochs per network. The networks do not depend on the question, so up to `keep_mb` MiB of them are kept
    in the run folder.

    `direction` says where the step leads: `synset` needs no data; `gradient` is the cluster's own mean gradient along
    the saved trajectory; `influence` is that gradient times the inverse of the training loss's curvature (Gauss-Newton,
    plus `damping`) where the step is taken. The latter two need the training data online.
    """

    perturbations: Literal["leave_one_out", "random"] = "leave_one_out"
    num_perturbations: Count | None = None
    keep_probability: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    start: Literal["target", "initial"] = "target"
    steps: Count = 1
    scale: Literal["common", "cluster_share", "raw"] = "common"
    step_size: NonNegative = 5e-4
    beta: Literal["uniform", "inverse"] = "uniform"
    ridge: NonNegative = 0.0
    anchor: Annotated[Number, Field(ge=0, le=1000)] = 0.0
    replay: CountOrNone | Literal["auto"] = 0
    replay_step_size: NonNegative = 0.01
    replay_set_power: Fraction | None = None
    keep_mb: Annotated[int, Field(ge=0, le=LARGEST_INT)] = 256
    direction: Literal["synset", "gradient", "influence"] = "synset"
    damping: Positive = 0.3

    @property
    def set_power(self) -> float:
        """`replay_set_power`, or its default for the direction."""
        by_direction = 0.0 if self.direction == "influence" else 0.25
        return by_direction if self.replay_set_power is None else self.replay_set_power

    @model_validator(mode="after")
    def _anchored_from_the_target(self) -> Online:
        if self.anchor and self.start == "initial":
            raise ValueError("anchor belongs to `start: target`; with `start: initial` leave it out")
        if self.replay and (self.anchor or self.start == "initial"):
            other = "anchor" if self.anchor else "start: initial"
            raise ValueError(f"replay and {other} are two ways to do the same; leave one of them out")
        if self.direction != "synset" and self.start == "initial":
            raise ValueError(
                f"direction: {self.direction} is where a step from the target leads; leave out start: initial"
            )
        if self.start == "target" and not self.step_size and not self.anchor and not self.replay:
            raise ValueError("with step_size 0 and no anchor or replay every network is the target; raise step_size")
        return self


class Certificate(Settings):
    """Exact retrainings that measure how well the attribution agrees with the truth; 0 = none.

    Without `singles`, each network lacks one random cluster, and the report says how well their order is estimated. A
    rank correlation needs at least three.

    With `singles`, a number that may be 0, each of the `retrainings` lacks a random fifth of the clusters, and so many
    further networks lack one cluster each, three quarters of them those that are named first most often, the others
    random ones. They say how good the estimates are, scale and correct them, and say how good they are then. With
    three `singles` or more, the report and `ddm attribute` also tell amounts, each with an interval that should hold
    the truth in 90 % of all cases: 20 `retrainings` and 10 `singles` are a good start.

    A recipe about a network that was trained elsewhere cannot ask for one; one that it inherits by `extends` is left
    out.
    """

    retrainings: CountOrNone = 0
    singles: CountOrNone | None = None

    @field_validator("retrainings")
    @classmethod
    def _enough(cls, count: int) -> int:
        if count in (1, 2):
            raise ValueError("input should be 0, or 3 and more: a rank correlation of one or two clusters says nothing")
        return count

    @field_validator("singles")
    @classmethod
    def _enough_singles(cls, count: int | None) -> int | None:
        if count in (1, 2):
            raise ValueError("input should be 0, or 3 and more: the errors of one or two clusters say nothing")
        return count

    @model_validator(mode="after")
    def _with_sets(self) -> Certificate:
        if self.singles and "retrainings" not in self.model_fields_set:  # a 0 that is written leaves all of it out
            raise ValueError(
                "singles go with retrainings without random sets; set retrainings too, 20 are a good start"
            )
        return self


class TimmFeatures(Settings):
    """Features of a timm model whose weights lie in a local file."""

    timm: str
    checkpoint: Path
    size: Annotated[int, Field(gt=0, le=10_000)] | None = None


class Clustering(Settings):
    """The number of clusters per class, and the features that samples are clustered on (Sec. 6.1).

    With a `cluster_size` each class has as many clusters as make them about so large, at least one, whatever
    `clusters_per_class` is: for classes of very different size.
    """

    clusters_per_class: Count = 10
    cluster_size: Count | None = None
    features: Literal["target", "pixels"] | TimmFeatures = "target"


class Selection(Settings):
    """Training samples to do without: `drop` is a CSV file that lists them, by `file` or by `sample`.

    `sample` is an index in the data set's own order. `ddm audit --drop` writes such a file. The validation and the test
    split, the normalisation and any corruption stay as they are with all samples.
    """

    drop: Path | None = None


LEAST_MB, MOST_MB = 16, 256
"""Of `memory_mb: auto` on a processor."""


class General(Settings):
    """Settings of the whole run.

    `memory_mb` bounds the memory of one chunk of networks, in MiB. `auto` is settled once, when a run begins, and kept
    by its folder. On a GPU it is a quarter of what is free; on a processor larger chunks gain nothing, so it is 256, or
    less where the workers together would take more than half of what is free. It decides how fast a run is, and two
    things more: with little memory, chunks of clusters may round otherwise; and for `direction: influence`, how many
    rows the curvature of a large network has.

    `matmul_precision: high` lets matrix products round their factors to ten bits (TF32) where the device can, which is
    faster; `highest` computes them in 32 bits (`torch.set_float32_matmul_precision`). Convolutions of a GPU are left as
    PyTorch has them. `benchmarks/device.py` measures what it changes.

    `engine` says who retrains and replays networks and matches chunks of clusters: `loky`, worker processes of this
    machine, or `ray`, the machines of a Ray cluster (docs/many_machines.md). `ray_address` is the cluster's, `auto` on
    one of its machines; without it Ray starts on this machine alone. Numbers do not depend on either.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(gt=0, le=1024)] | Literal["auto"] = "auto"
    memory_mb: Annotated[int, Field(ge=16, le=LARGEST_INT)] | Literal["auto"] = "auto"
    matmul_precision: Literal["highest", "high"] = "highest"
    engine: Literal["loky", "ray"] = "loky"
    ray_address: str | None = None

    @property
    def chunk_mb(self) -> int:
        """`memory_mb`, or what `auto` is where no run has settled it."""
        return MOST_MB if self.memory_mb == "auto" else self.memory_mb


SECTIONS: dict[str, type[Settings]] = {
    "corruption": Corruption,
    "training": Training,
    "target": Target,
    "matching": Matching,
    "online": Online,
    "certificate": Certificate,
}
COMPONENT_SECTIONS = ("dataset", "backbone", "clusterer", "distance", "study")
SHARED_SECTIONS: dict[str, type[Settings]] = {"dataset": Selection, "clusterer": Clustering}
"""Sections of a component in which some keys belong to the core."""
