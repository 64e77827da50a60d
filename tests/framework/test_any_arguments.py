"""from_module with arguments of every kind, drawn at random: an answer, or a sentence, and never a raw exception."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.progress import SILENT

TRIES, PARTS = 200, 5
"""Combinations in all, and the tests that they are spread over."""
FAULTS = 4.5
"""Arguments of an unusual kind in a combination, on average; the others are plain, so that each gets its turn."""
COUNT = 18
LABELS = torch.arange(COUNT) % 3
IMAGES = (
    torch.rand(COUNT, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.4
    + 0.3 * LABELS[:, None, None, None] % 0.6
)
PLAIN = ["matching.steps=2", "clusterer.clusters_per_class=1", "study.show=1", "study.queries=3", "threads=1"]


def linear(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3, **options))


class Own(nn.Module):
    """A network with something unusual in its forward, its weights or its state."""

    def __init__(self, does: Callable[[Own, Tensor], Any] = lambda self, x: self.last(x.flatten(1))) -> None:
        super().__init__()
        self.last, self.does = nn.Linear(16, 3), does

    def forward(self, images: Tensor) -> Any:
        return self.does(self, images)


class WithState(Own):
    def get_extra_state(self) -> Any:
        return {"seen": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def with_tensor(name: str, tensor: Tensor) -> nn.Module:
    module = Own()
    if tensor.is_floating_point() or tensor.is_complex():
        module.register_parameter(name, nn.Parameter(tensor))
    else:
        module.register_buffer(name, tensor)
    return module


def filled(value: float) -> nn.Module:
    module = linear()
    nn.init.constant_(module[1].weight, value)  # type: ignore[index]
    return module


MODULES: list[Callable[[], Any]] = [
    linear,
    lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)),
    lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3)).train(),
    lambda: linear().double(),
    lambda: linear().bfloat16(),
    lambda: linear().half(),
    lambda: linear().to("meta"),
    lambda: linear().requires_grad_(False),
    lambda: linear(bias=False),
    lambda: nn.DataParallel(linear()),
    lambda: torch.compile(linear()),
    lambda: torch.jit.script(linear()),
    lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
    lambda: nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(16, 3))),
    lambda: nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(16, 3))),
    lambda: nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(16, 3))),
    lambda: nn.Sequential(),
    lambda: nn.Identity(),
    lambda: nn.Flatten(),
    lambda: nn.Linear(16, 3),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Hardsigmoid()),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 1)),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 5)),
    lambda: nn.LSTM(4, 3, batch_first=True),
    Own,
    WithState,
    lambda: Own(lambda self, x: {"logits": self.last(x.flatten(1)), "loss": None}),
    lambda: Own(lambda self, x: (self.last(x.flatten(1)), x)),
    lambda: Own(lambda self, x: None),
    lambda: Own(lambda self, x: "three"),
    lambda: Own(lambda self, x: self.last(x.flatten(1)).detach()),
    lambda: Own(lambda self, x: self.last(x.flatten(1)).numpy()),
    lambda: Own(lambda self, x: self.last(x.flatten(1)).argmax(1)),
    lambda: Own(lambda self, x: self.last(x.flatten(1)).to(torch.complex64)),
    lambda: Own(lambda self, x: self.last(x.flatten(1)).to_sparse()),
    lambda: Own(lambda self, x: self.last(x.flatten(1)) + torch.rand(3)),
    lambda: Own(lambda self, x: self.last(x.flatten(1)) - self.last(x.flatten(1)).mean(0)),
    lambda: Own(lambda self, x: self.last(x.flatten(1)) / 0),
    lambda: Own(lambda self, x: self.last(x.flatten(1)) if float(x.sum()) > 0 else self.last(-x.flatten(1))),
    lambda: Own(lambda self, x: self.last(x[:1].flatten(1))),
    lambda: Own(lambda self, x: self.last(x.add_(1).flatten(1))),
    lambda: Own(lambda self, x: {}["nothing"]),
    lambda: with_tensor("more", torch.zeros(0)),
    lambda: with_tensor("more", torch.ones(2, dtype=torch.complex64)),
    lambda: with_tensor("more", torch.ones(2, dtype=torch.int64)),
    lambda: with_tensor("more", torch.ones(2, 2).to_sparse()),
    lambda: filled(float("nan")),
    lambda: filled(float("inf")),
    lambda: filled(1e30),
    lambda: filled(0.0),
    lambda: Own,
    lambda: linear().state_dict(),
    lambda: lambda x: x,
    lambda: None,
    lambda: "resnet18",
    lambda: 3,
]


class Samples(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any] = lambda i: (IMAGES[i], int(LABELS[i])), count: int = COUNT) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(IMAGES[i], int(LABELS[i])) for i in range(COUNT)])


def picture(index: int, mode: str = "L") -> Any:
    return Image.fromarray((IMAGES[index, 0].numpy() * 255).astype("uint8")).convert(mode)


def images_as(change: Callable[[Tensor], Any]) -> Callable[[], Any]:
    return lambda: (change(IMAGES.clone()), LABELS.clone())


def labels_as(change: Callable[[Tensor], Any]) -> Callable[[], Any]:
    return lambda: (IMAGES.clone(), change(LABELS.clone()))


def numpy_as(kind: str) -> Callable[[Tensor], Any]:
    return lambda each: each.numpy().astype(kind)


NUMBERS = (
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int64",
    "float16",
    "float64",
    "bool",
    "object",
    "str",
)
DATA: list[Callable[[], Any]] = [
    lambda: (IMAGES.clone(), LABELS.clone()),
    *[images_as(lambda x, kind=kind: numpy_as(kind)(x * 255)) for kind in NUMBERS],
    *[labels_as(numpy_as(kind)) for kind in NUMBERS],
    *[
        images_as(lambda x, kind=kind: (x * 255).to(kind))
        for kind in (torch.uint16, torch.int8, torch.float16, torch.bfloat16, torch.complex64, torch.bool)
    ],
    *[
        labels_as(lambda x, kind=kind: x.to(kind))
        for kind in (torch.uint8, torch.uint16, torch.int32, torch.float16, torch.bool, torch.complex64)
    ],
    images_as(lambda x: x.requires_grad_()),
    images_as(lambda x: x.to("meta")),
    images_as(lambda x: x.to_sparse()),
    images_as(lambda x: x.flatten(1)),
    images_as(lambda x: x[:, 0]),
    images_as(lambda x: x[None]),
    images_as(lambda x: x.permute(0, 2, 3, 1)),
    images_as(lambda x: x[:0]),
    images_as(lambda x: x[:, :, :0]),
    images_as(lambda x: x[:-1]),
    images_as(lambda x: x.expand(-1, 3, -1, -1)),
    images_as(lambda x: x.expand(-1, 2, -1, -1)),
    images_as(lambda x: F.pad(x, (0, 1))),
    images_as(lambda x: x[0, 0, 0, 0]),
    images_as(lambda x: (x - 0.5) * 4),
    images_as(lambda x: x * 1e30),
    images_as(lambda x: x * 0),
    images_as(lambda x: x / 0),
    images_as(lambda x: list(x)),
    images_as(lambda x: x.tolist()),
    images_as(lambda x: [picture(i) for i in range(COUNT)]),
    images_as(lambda x: [f"{i}.png" for i in range(COUNT)]),
    images_as(lambda x: np.ma.masked_array(x.numpy())),
    images_as(lambda x: iter(x)),
    images_as(lambda x: None),
    images_as(lambda x: 3),
    labels_as(lambda y: y[:, None]),
    labels_as(lambda y: F.one_hot(y)),
    labels_as(lambda y: F.one_hot(y).float() * 0.8),
    labels_as(lambda y: y.tolist()),
    labels_as(lambda y: tuple(y.tolist())),
    labels_as(lambda y: [str(each) for each in y.tolist()]),
    labels_as(lambda y: [None] * COUNT),
    labels_as(lambda y: [y[:1], y]),
    labels_as(lambda y: iter(y.tolist())),
    labels_as(lambda y: range(COUNT)),
    labels_as(lambda y: y - 1),
    labels_as(lambda y: y + 1),
    labels_as(lambda y: y * 10**12),
    labels_as(lambda y: y * 10),
    labels_as(lambda y: y * 0),
    labels_as(lambda y: y / 0),
    labels_as(lambda y: y[:0]),
    labels_as(lambda y: y[0]),
    labels_as(lambda y: y.to("meta")),
    labels_as(lambda y: None),
    labels_as(lambda y: 1),
    lambda: TensorDataset(IMAGES, LABELS),
    lambda: TensorDataset(IMAGES),
    lambda: TensorDataset(IMAGES, LABELS, LABELS),
    lambda: ConcatDataset([TensorDataset(IMAGES[:9], LABELS[:9]), TensorDataset(IMAGES[9:], LABELS[9:])]),
    lambda: Subset(TensorDataset(IMAGES, LABELS), range(0, COUNT, 1)),
    lambda: Subset(TensorDataset(IMAGES, LABELS), [3, 4, 5]),
    lambda: Subset(TensorDataset(IMAGES, LABELS), [400]),
    lambda: Samples(),
    lambda: Samples(lambda i: {"image": IMAGES[i], "label": LABELS[i]}),
    lambda: Samples(lambda i: {"a": IMAGES[i]}),
    lambda: Samples(lambda i: (picture(i), LABELS[i])),
    lambda: Samples(lambda i: (picture(i, "RGBA"), LABELS[i])),
    lambda: Samples(lambda i: (picture(i, "1"), LABELS[i])),
    lambda: Samples(lambda i: (IMAGES[i].numpy(), np.int64(LABELS[i]))),
    lambda: Samples(lambda i: (IMAGES[i, :, : 2 + i % 2], LABELS[i])),
    lambda: Samples(lambda i: (torch.rand(1, 4, 4), LABELS[i])),
    lambda: Samples(lambda i: (IMAGES[i], None)),
    lambda: Samples(lambda i: (None, 0)),
    lambda: Samples(lambda i: IMAGES[i]),
    lambda: Samples(lambda i: None),
    lambda: Samples(lambda i: (IMAGES[i], [0, 1] if i % 2 else 0)),
    lambda: Samples(lambda i: 1 / 0),
    lambda: Samples(count=0),
    lambda: Samples(count=-1),
    lambda: Samples(count=10**9) if False else Samples(lambda i: (IMAGES[i], LABELS[i]), COUNT + 5),
    lambda: Stream(),
    lambda: ((IMAGES[i], int(LABELS[i])) for i in range(COUNT)),
    lambda: zip(IMAGES, LABELS, strict=True),
    lambda: [(IMAGES[i], int(LABELS[i])) for i in range(COUNT)],
    lambda: {i: (IMAGES[i], int(LABELS[i])) for i in range(COUNT)},
    lambda: DataLoader(TensorDataset(IMAGES, LABELS), 4, shuffle=True),
    lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=None),
    lambda: DataLoader(Stream(), 5),
    lambda: DataLoader(Samples(), 4, collate_fn=lambda batch: batch),
    lambda: DataLoader(Stream(), 4, collate_fn=lambda batch: batch),
    lambda: DataLoader(Stream(), 4, collate_fn=lambda batch: None),
    lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_sampler=[[0, 1], [2]]),
    lambda: DataLoader(TensorDataset(IMAGES, LABELS), 4, sampler=[1, 1, 2]),
    lambda: [],
    lambda: (),
    lambda: [None, None],
    lambda: [[], []],
    lambda: ([], []),
    lambda: IMAGES,
    lambda: IMAGES.numpy(),
    lambda: "photos",
    lambda: Path("photos"),
    lambda: b"photos",
    lambda: None,
    lambda: 3,
    lambda: Samples,
]


def state() -> dict[str, Any]:
    return linear().state_dict()


OWN = "those of the module"
CHECKPOINTS: list[Callable[[Path], Any]] = [
    lambda _: OWN,
    lambda _: [state()],
    lambda _: (),
    lambda _: [],
    lambda _: None,
    lambda _: state(),
    lambda _: (state(), state()),
    lambda _: iter([state()]),
    lambda _: {0: state()},
    lambda _: [linear()],
    lambda _: linear(),
    lambda _: [{"model": state(), "epoch": 3}],
    lambda _: [{name: each.half() for name, each in state().items()}],
    lambda _: [{name: each.to("meta") for name, each in state().items()}],
    lambda _: [{name: each.to_sparse() for name, each in state().items()}],
    lambda _: [{name: each.numpy() for name, each in state().items()}],
    lambda _: [{name: each.tolist() for name, each in state().items()}],
    lambda _: [{name: each * float("nan") for name, each in state().items()}],
    lambda _: [{name: each.long() for name, each in state().items()}],
    lambda _: [{name: each.to(torch.complex64) for name, each in state().items()}],
    lambda _: [{name: each[:1] for name, each in state().items()}],
    lambda _: [{f"net.{name}": each for name, each in state().items()}],
    lambda _: [{**state(), 3: torch.ones(2)}],
    lambda _: [torch.optim.Adam(linear().parameters()).state_dict()],
    lambda _: [{}],
    lambda _: [None],
    lambda _: [3],
    lambda _: [torch.ones(3)],
    lambda _: torch.ones(3),
    lambda _: "missing.pt",
    lambda _: ["missing.pt"],
    lambda _: [b"missing.pt"],
    lambda folder: [folder],
    lambda folder: [saved(folder / "good.pt", state())],
    lambda folder: [saved(folder / "module.pt", linear())],
    lambda folder: [saved(folder / "list.pt", [1, 2])],
    lambda folder: [written(folder / "text.pt", b"no weights")],
    lambda folder: [written(folder / "empty.pt", b"")],
    lambda folder: folder / "no\0name",
    lambda _: 3,
    lambda _: {1, 2},
]


def own_state(module: Any) -> Any:
    return module.state_dict() if isinstance(module, nn.Module) else state()


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def trained(weights: Tensor, start: Any = None, from_epoch: int = 0) -> nn.Module:
    module = linear() if start is None else start
    if from_epoch < 1:
        optimizer = torch.optim.SGD(module.parameters(), 0.5)
        for _ in range(5):
            optimizer.zero_grad()
            (F.cross_entropy(module(IMAGES), LABELS, reduction="none") * weights).mean().backward()
            optimizer.step()
    return module


NUMBER: list[Any] = [
    None,
    0.5,
    1,
    [0.5],
    (0.5,),
    [0.5, 0.5],
    [0.5] * 3,
    np.array([0.5]),
    np.float32(0.5),
    torch.tensor([0.5]),
    [[0.5]],
    [[0.5], [1, 2]],
    "0.5",
    ["a"],
    [],
    0,
    -1.0,
    float("nan"),
    1e300,
    1e-40,
    1j,
    True,
    {"r": 0.5},
    [None],
    object(),
]
OTHERS: dict[str, list[Any]] = {
    "class_names": [
        None,
        ["a", "b", "c"],
        ("a", "b", "c"),
        iter(["a", "b", "c"]),
        ["a", "b", "c", "d"],
        ["a", "a", "a"],
        ["a"],
        [],
        "abc",
        b"abc",
        {"a": 1},
        {0: "a"},
        {"a", "b", "c"},
        np.array(["a", "b", "c"]),
        [1, 2, 3],
        [None] * 3,
        ["", " ", "\n"],
        ["<b>", "\ud800", "c"],
        ["x" * 10**5, "b", "c"],
        3,
        torch.ones(3),
    ],
    "normalised": NUMBER,
    "validation": [
        0.0,
        0,
        0.3,
        1,
        1.0,
        0.99,
        -0.1,
        2,
        float("nan"),
        float("inf"),
        "0.1",
        None,
        True,
        torch.tensor(0.3),
        np.float32(0.3),
        [0.3],
        1e-9,
        1j,
    ],
    "parameters": [
        None,
        ["1.*"],
        "1.*",
        ("1.weight",),
        [],
        ["nothing"],
        [1],
        [None],
        3,
        {"1.*"},
        {"1.*": 1},
        "*",
        ["["],
        [""],
        torch.ones(2),
        iter(["1.*"]),
        b"1.*",
        True,
    ],
    "recipe": ["digits_convnet", Path("digits_convnet"), "nothing", "", 3, None, {}, Path(), b"digits", "a\0b"],
    "settings": [
        [],
        (),
        None,
        "matching.steps=2",
        [""],
        ["matching.steps"],
        ["matching.steps=two"],
        ["matching.steps=0"],
        [3],
        [None],
        {"matching.steps": 2},
        ["nothing.at=all"],
        ["=3"],
        ["backbone.width=3"],
        ["backbone={use: resnet}"],
        ["dataset={use: mnist}"],
        ["target.checkpoint=x.pt"],
        ["target.mean=[0.5]"],
        ["target={}"],
        ["corruption.share=0.2"],
        ["certificate.retrainings=3"],
        ["certificate={retrainings: 4, singles: 3}"],
        ["online.replay=1"],
        ["online.replay=auto"],
        ["online={replay: 1}"],
        ["online.anchor=0.5"],
        ["online.start=initial"],
        ["online.direction=influence"],
        ["seed=-1"],
        ["device=cuda"],
        ["threads=0"],
        ["memory_mb=1"],
        ["clusterer.clusters_per_class=100"],
        ["clusterer.clusters_per_class=[1]"],
        ["clusterer.cluster_size=2"],
        ["clusterer.features=pixels"],
        ["dataset.drop=x.csv"],
        ["objectives=[]"],
        ["objectives=[{use: margin}]"],
        ["objectives=[{use: performance, metric: loss}]"],
        ["distance={use: mse}"],
        ["study={use: fidelity}"],
        ["study={use: removal}"],
        ["study={use: privacy}"],
        ["study={use: costs}"],
        ["training.parameters=[nothing]"],
        ["training.parameters=[1.weight]"],
        ["matching.step_length=9"],
        ["matching.pairing=mirror"],
        ["matching.direction=forward"],
        ["matching.labels=hard"],
        ["matching={steps: {a: 1}}"],
        ["extends=nothing.yaml"],
        ["a: b: c"],
        ["\0=1"],
        iter(["matching.steps=1"]),
        b"matching.steps=2",
        {"matching.steps=1"},
        3,
    ],
    "plugins": [[], (), None, ["missing.py"], [3], "missing.py", 3, [Path()], ["a\0b"]],
    "fresh": [False, True, None, "yes", 1],
    "display": [SILENT, None, 3, print],
    "train_function": [
        None,
        trained,
        lambda weights: trained(weights),
        lambda weights: weights,
        lambda weights: None,
        lambda: None,
        3,
        "f",
        lambda weights: linear(),
        lambda weights: trained(weights * 0 + 1),
        lambda a, b: None,
        print,
        max,
        dict,
        nn.Linear,
        lambda weights: trained(weights).state_dict(),
        lambda weights: trained(weights).half(),
        lambda weights: trained(weights.bool()),
        lambda weights: trained(weights).to("meta"),
        lambda weights: 1 / 0,
        lambda *a, **b: trained(*a, **b),
    ],
}
OUT: list[Callable[[Path], Any]] = [
    lambda folder: folder / "run",
    lambda folder: str(folder / "run"),
    lambda folder: None,
    lambda folder: folder / "new" / "deep",
    lambda folder: folder,
    lambda folder: written(folder / "file", b"x"),
    lambda folder: written(folder / "file", b"x") / "run",
    lambda folder: "",
    lambda folder: 3,
    lambda folder: b"run",
    lambda folder: folder / "a\0b",
    lambda folder: folder / ("x" * 300),
    lambda folder: folder / "ünter \n weg",
    lambda folder: "/proc/run",
]


def combination(draw: random.Random, folder: Path) -> dict[str, Any]:
    """Arguments of from_module, each plain or, now and then, of any kind."""
    whole = 5 + len(OTHERS)

    def chosen(kinds: list[Any]) -> Any:
        return draw.choice(kinds) if draw.random() < FAULTS / whole else kinds[0]

    found: dict[str, Any] = {
        "module": chosen(MODULES)(),
        "train": chosen(DATA)(),
        "test": chosen(DATA)(),
        "checkpoints": chosen(CHECKPOINTS)(folder),
        "out": chosen(OUT)(folder),
    }
    if found["checkpoints"] == OWN:
        found["checkpoints"] = [own_state(found["module"])]
    for name, kinds in OTHERS.items():
        value = chosen(kinds)
        if name == "normalised":
            found |= {"mean": value, "std": chosen(kinds) if value is None else draw.choice(kinds)}
        elif value is not kinds[0]:
            found[name] = value
    given = found.get("settings", [])  # what is no list stands alone, and the recipe's clusters are refused here
    found["settings"] = [*PLAIN, *given] if isinstance(given, list | tuple) else given
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_else_than_an_answer_or_a_sentence(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(part)
    for number in range(TRIES // PARTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        arguments = combination(draw, folder)
        try:
            run = ddm_framework.from_module(**arguments)
            assert run.report.is_file() and run.metrics["target"]
        except DDMError as error:
            assert str(error).strip() and "Traceback" not in str(error)
