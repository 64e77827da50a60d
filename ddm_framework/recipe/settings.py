"""The settings that the core itself reads from a recipe; everything else belongs to a component."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from ddm_framework.errors import DDMError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]


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
    noise: PositiveFloat = 0.1
    norm: Literal["per_pixel", "euclidean"] = "per_pixel"
    labels: Share = 0.0
    seed: NonNegativeInt = 0


class Training(Settings):
    """Training of the target network: stochastic gradient descent on mean losses over the full batch size (Eq. 2).

    `augmentation` lists `crop` (a window moved by up to an eighth of the image's side) and `flip` (left to right). It
    applies to training only: gradients are matched on the original images.

    `parameters` lists patterns of the weights that are trained, matched, attributed and moved, such as `layer4.*`; the
    others are constants. By default these are all that the backbone wants trained (`requires_grad`). It counts for a
    network that was trained elsewhere too.
    """

    epochs: PositiveInt = 30
    lr: PositiveFloat = 0.05
    batch_size: PositiveInt = 64
    momentum: Fraction = 0.0
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    augmentation: list[Literal["crop", "flip"]] = []
    checkpoint_every: PositiveInt = 1
    parameters: list[str] | None = None


class Target(Settings):
    """A network that was trained elsewhere, instead of one that `training` describes.

    `checkpoint` holds its weights, `trajectory` the checkpoints that were kept during training, the earliest first;
    epochs are then counted in checkpoints. Without a trajectory, the synset is matched at the last checkpoint only
    (`pairing: final`). Its inputs were normalised by `mean` and `std`: one number per channel, in units of [0, 1].
    """

    checkpoint: Path | None = None
    trajectory: list[Path] = []
    mean: list[float] | None = None
    std: list[PositiveFloat] | None = None


class Matching(Settings):
    """Gradient matching (Eq. 6, Alg. 1).

    `direction: forward` is ordinary matching ("DDM-match"); with `pairing: offset, step_length: 0` it matches both
    gradients at the same checkpoint, as in dataset condensation.

    `betas` are Adam's. Each step draws another pair of checkpoints, so short memories, `[0.5, 0.9]`, reach the same
    cosine in a half to a third of the steps (docs/how_it_works.md).
    """

    direction: Literal["reverse", "forward"] = "reverse"
    pairing: Literal["offset", "mirror", "final"] = "offset"
    step_length: NonNegativeInt = 4
    steps: PositiveInt = 300
    images_per_cluster: PositiveInt = 1
    labels: Literal["learned", "hard"] = "learned"
    init: Literal["real", "noise"] = "real"
    optimizer: Literal["adam", "sgd"] = "adam"
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    lr: PositiveFloat = 0.1
    label_lr: PositiveFloat = 0.1
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
    before it: 0.01 suits the deletion of one cluster, 0.005 that of many. It needs the training data online, and costs
    E epochs per network. The networks do not depend on the question, so up to `keep_mb` MiB of them are kept in the run
    folder.
    """

    perturbations: Literal["leave_one_out", "random"] = "leave_one_out"
    num_perturbations: PositiveInt | None = None
    keep_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    start: Literal["target", "initial"] = "target"
    steps: PositiveInt = 1
    scale: Literal["common", "cluster_share", "raw"] = "common"
    step_size: NonNegativeFloat = 5e-4
    beta: Literal["uniform", "inverse"] = "uniform"
    ridge: NonNegativeFloat = 0.0
    anchor: NonNegativeFloat = 0.0
    replay: NonNegativeInt | Literal["auto"] = 0
    replay_step_size: NonNegativeFloat = 0.01
    keep_mb: NonNegativeInt = 256

    @model_validator(mode="after")
    def _anchored_from_the_target(self) -> Online:
        if self.anchor and self.start == "initial":
            raise ValueError("anchor belongs to `start: target`; with `start: initial` leave it out")
        if self.replay and (self.anchor or self.start == "initial"):
            other = "anchor" if self.anchor else "start: initial"
            raise ValueError(f"replay and {other} are two ways to do the same; leave one of them out")
        if self.start == "target" and not self.step_size and not self.anchor and not self.replay:
            raise ValueError("with step_size 0 and no anchor or replay every network is the target; raise step_size")
        return self


class Certificate(Settings):
    """Exact retrainings that measure how well the attribution agrees with the truth; 0 = none.

    A rank correlation needs at least three.
    """

    retrainings: NonNegativeInt = 0

    @field_validator("retrainings")
    @classmethod
    def _enough(cls, count: int) -> int:
        if count in (1, 2):
            raise ValueError("input should be 0, or 3 and more: a rank correlation of one or two clusters says nothing")
        return count


class TimmFeatures(Settings):
    """Features of a timm model whose weights lie in a local file."""

    timm: str
    checkpoint: Path
    size: PositiveInt | None = None


class Clustering(Settings):
    """The number of clusters per class, and the features that samples are clustered on (Sec. 6.1)."""

    clusters_per_class: PositiveInt = 10
    features: Literal["target", "pixels"] | TimmFeatures = "target"


class General(Settings):
    """Settings of the whole run; `memory_mb` bounds the memory of one chunk of networks."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    seed: NonNegativeInt = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | Literal["auto"] = "auto"
    memory_mb: Annotated[int, Field(ge=16)] = 256


SECTIONS: dict[str, type[Settings]] = {
    "corruption": Corruption,
    "training": Training,
    "target": Target,
    "matching": Matching,
    "online": Online,
    "certificate": Certificate,
}
COMPONENT_SECTIONS = ("dataset", "backbone", "clusterer", "distance", "study")
SHARED_SECTIONS: dict[str, type[Settings]] = {"clusterer": Clustering}
"""Sections of a component in which some keys belong to the core."""
