"""Networks as people have them: taken as they are, or refused in a sentence."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset
from torchvision.ops import FrozenBatchNorm2d

import ddm_framework
from ddm_framework import DDMError
from ddm_framework.runs.samples import belief

SETTINGS = ["matching.steps=10", "clusterer.clusters_per_class=2", "study.show=1", "threads=1"]
Kept = list[dict[str, Tensor]]


def digits(start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Digits 0, 1 and 2 as float images in [0, 1]."""
    found = load_digits()
    index = np.concatenate([np.where(found.target == each)[0][start:stop] for each in range(3)])
    return torch.tensor(found.images[index] / 16, dtype=torch.float32)[:, None], torch.tensor(found.target[index])


TRAIN, TEST = digits(0, 16), digits(24, 30)


class Net(nn.Module):
    """A small network with a layer of one's own in the middle and at the end."""

    def __init__(self, middle: nn.Module | None = None, end: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.middle, self.pool = nn.Conv2d(1, 8, 3, padding=1), middle or nn.Identity(), nn.AvgPool2d(2)
        self.last, self.end = nn.Linear(128, 3), end or nn.Identity()

    def forward(self, images: Tensor) -> Any:
        return self.end(self.last(self.pool(F.relu(self.middle(self.first(images)))).flatten(1)))


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Any:
        return self.function(values)

    def __deepcopy__(self, memo: dict[int, Any]) -> Applied:
        return Applied(self.function)


def fit(
    module: nn.Module, loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy, epochs: int = 30, lr: float = 1e-2
) -> Kept:
    """Train it, keeping three checkpoints."""
    torch.manual_seed(0)
    kept, weights = [], [each for each in module.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(weights, lr)
    module.train()
    for epoch in range(epochs):
        if epoch in (0, epochs // 3, 2 * epochs // 3):
            kept.append({name: each.clone() for name, each in module.state_dict().items()})
        optimizer.zero_grad()
        loss(module(TRAIN[0].to(weights[0].dtype)), TRAIN[1]).backward()
        optimizer.step()
    module.eval()
    return kept


def bring(
    folder: Path, module: Any, kept: Any = (), train: Any = TRAIN, test: Any = TEST, settings: Any = (), **more: Any
) -> ddm_framework.Run:
    return ddm_framework.from_module(
        module, train, test, checkpoints=kept, settings=[*SETTINGS, *settings], out=folder / "run", **more
    )


def same_logits(run: ddm_framework.Run, module: nn.Module, read: Callable[[Any], Tensor] = lambda each: each) -> None:
    with torch.no_grad():
        torch.testing.assert_close(run.workspace.target_logits(TEST[0]), read(module(TEST[0])), rtol=1e-5, atol=1e-5)


class TestBatchNorm:
    @pytest.mark.parametrize("norm", [nn.BatchNorm2d(8), nn.SyncBatchNorm(8), FrozenBatchNorm2d(8)], ids=repr)
    def test_it_is_a_constant_scale_and_shift_by_the_statistics_of_each_checkpoint(
        self, norm: nn.Module, tmp_path: Path
    ) -> None:
        module = Net(copy.deepcopy(norm))
        kept = fit(module)
        run = bring(tmp_path, module, kept)
        same_logits(run, module)
        trained = run.workspace.trained
        for epoch, state in enumerate(kept):
            earlier = copy.deepcopy(module)
            earlier.load_state_dict(state)
            found = trained.at(epoch)(trained.trajectory[epoch], TEST[0])
            torch.testing.assert_close(found, earlier.eval()(TEST[0]), rtol=1e-5, atol=1e-5)
        margins = []
        for state in [*kept[1:], module.state_dict()]:
            earlier = copy.deepcopy(module)
            earlier.load_state_dict(state)
            with torch.no_grad():
                logits, labels = earlier.eval()(run.workspace.data.train.images[:]), run.workspace.data.train.labels
            own = logits.gather(1, labels[:, None])[:, 0]
            margins.append(own - logits.scatter(1, labels[:, None], -torch.inf).amax(1))
        wanted = torch.stack(margins).double().mean(0)
        torch.testing.assert_close(belief(run.workspace).margin, wanted, rtol=1e-4, atol=1e-4)
        assert any("Batch norm (middle)" in note for note in run.metrics["notes"])
        assert run.metrics["matching"]["mean_cosine"] > 0.5
        assert run.attribute(TEST[0]).effect.shape == (18, 6, 1)

    def test_it_is_the_same_as_with_the_constants_written_out(self, tmp_path: Path) -> None:
        class Fixed(nn.Module):
            def __init__(self, norm: nn.BatchNorm2d) -> None:
                super().__init__()
                self.weight, self.bias = norm.weight, norm.bias
                self.register_buffer("mean", norm.running_mean)
                self.register_buffer("var", norm.running_var)

            def forward(self, x: Tensor) -> Tensor:
                mean, var, weight, bias = (
                    each[:, None, None] for each in (self.mean, self.var, self.weight, self.bias)
                )
                return (x - mean) / (var + 1e-5).sqrt() * weight + bias

        module = Net(nn.BatchNorm2d(8))
        fit(module)
        run = bring(tmp_path / "norm", module)
        written = copy.deepcopy(module)
        written.middle = Fixed(written.middle)  # type: ignore[arg-type]
        other = bring(tmp_path / "written", written)
        torch.testing.assert_close(run.workspace.synset.images, other.workspace.synset.images, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(run.attribute(TEST[0]).effect, other.attribute(TEST[0]).effect, rtol=1e-2, atol=1e-4)

    def test_unlearning_keeps_the_statistics(self, tmp_path: Path) -> None:
        module = Net(nn.BatchNorm2d(8))
        run = bring(tmp_path, module, fit(module))
        for left in (run.unlearn([0]), run.unlearn(classes=[0])):
            assert torch.equal(left.middle.running_var, module.middle.running_var)  # type: ignore[union-attr]
            assert not torch.equal(left.last.weight, module.last.weight)  # type: ignore[union-attr]

    def test_statistics_that_a_checkpoint_lacks_are_those_of_the_module(self, tmp_path: Path) -> None:
        module = Net(nn.BatchNorm2d(8))
        kept = [{name: each for name, each in state.items() if "running" not in name} for state in fit(module)]
        trained = bring(tmp_path, module, kept).workspace.trained
        assert torch.equal(trained.at(0).buffers["middle.running_var"], module.middle.running_var)  # type: ignore[arg-type]


class TestFrozenWeights:
    def frozen(self) -> Net:
        module = Net()
        module.first.requires_grad_(False)
        return module

    def test_they_are_neither_matched_nor_attributed_nor_moved(self, tmp_path: Path) -> None:
        module = self.frozen()
        run = bring(tmp_path, module, fit(module))
        assert set(run.workspace.target) == {"last.weight", "last.bias"}
        for left in (run.unlearn([0]), run.unlearn(classes=[0]), run.without(clusters=[1]).module):
            assert torch.equal(left.first.weight, module.first.weight)  # type: ignore[union-attr]
        assert any("2 of 4 parameters" in note for note in run.metrics["notes"])
        same_logits(run, module)

    @pytest.mark.parametrize("way", ["argument", "setting"])
    def test_patterns_do_the_same(self, way: str, tmp_path: Path) -> None:
        by_hand = self.frozen()
        kept = fit(by_hand)
        named = copy.deepcopy(by_hand).requires_grad_(way == "argument")
        wanted = bring(tmp_path / "hand", by_hand, kept)
        if way == "argument":
            found = bring(tmp_path / "named", named, kept, parameters=["last.*"])
        else:
            found = bring(tmp_path / "named", named, kept, settings=['training.parameters=["last.*"]'])
        assert torch.equal(found.workspace.synset.images, wanted.workspace.synset.images)

    def test_weights_that_moved_elsewhere_are_constants_of_each_checkpoint(self, tmp_path: Path) -> None:
        module = Net()
        kept = fit(module)
        trained = bring(tmp_path, module, kept, parameters=["last.weight"]).workspace.trained
        assert torch.equal(trained.at(0).buffers["first.weight"], kept[0]["first.weight"])
        assert torch.equal(trained.at(3).buffers["first.weight"], module.first.weight)

    @pytest.mark.parametrize(
        ("patterns", "message"),
        [
            (["lst.*"], r"'lst\.\*' matches no parameter of the backbone"),
            (["last"], r"'last' matches no parameter of the backbone; did you mean 'last\.\*'"),
            ([], "training.parameters is empty"),
        ],
    )
    def test_patterns_that_match_nothing_are_told(self, patterns: list[str], message: str, tmp_path: Path) -> None:
        with pytest.raises(DDMError, match=message):
            bring(tmp_path, Net(), parameters=patterns)

    def test_a_module_that_is_frozen_whole_is_told_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(DDMError, match="every weight of the backbone is frozen"):
            bring(tmp_path, Net().requires_grad_(False))

    def test_other_frozen_weights_are_another_network(self, tmp_path: Path) -> None:
        module = Net()
        bring(tmp_path, module)
        with pytest.raises(DDMError, match="holds a run with other settings"):
            bring(tmp_path, copy.deepcopy(module), parameters=["last.*"])


class TestSharedWeights:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3)
            self.b.weight = self.a.weight

        def forward(self, images: Tensor) -> Tensor:
            return self.last(F.relu(self.b(F.relu(self.a(images.flatten(1))))))

    def test_they_are_one_parameter_with_the_sum_of_its_gradients(self, tmp_path: Path) -> None:
        module = self.Tied()
        run = bring(tmp_path, module, fit(module))
        same_logits(run, module)
        assert "b.weight" not in run.workspace.target
        left = run.unlearn([0])
        assert left.a.weight is left.b.weight and not torch.equal(left.a.weight, module.a.weight)  # type: ignore[union-attr]
        loss = F.cross_entropy(module(TRAIN[0][:5]), TRAIN[1][:5])
        (wanted,) = torch.autograd.grad(loss, module.a.weight)
        stack = {name: each[None] for name, each in run.workspace.target.items()}
        found = run.workspace.network.gradients(stack, TRAIN[0][:5], TRAIN[1][:5], torch.full((1, 5), 0.2))
        torch.testing.assert_close(found["a.weight"][0], wanted, rtol=1e-4, atol=1e-6)

    def test_either_name_alone_does_and_two_values_are_refused(self, tmp_path: Path) -> None:
        module = self.Tied()
        state = {name: each.clone() for name, each in module.state_dict().items()}
        alone = {name: each for name, each in state.items() if name != "a.weight"}
        bring(tmp_path, module, [alone])
        with pytest.raises(DDMError, match=r"b\.weight and a\.weight are one shared weight .* but differ"):
            bring(tmp_path / "other", module, [{**state, "b.weight": state["b.weight"] + 1}])


@dataclasses.dataclass
class Answer:
    logits: Tensor
    features: Tensor


Pair = namedtuple("Pair", ["scores", "hidden"])


class TestAttributors:
    @pytest.mark.parametrize("name", ["trak", "tracin", "ekfac", "koh", "gradient", "prediction", "ddm_anchored"])
    def test_libraries_see_the_weights_that_are_trained_alone(self, name: str, tmp_path: Path) -> None:
        module = Net(nn.BatchNorm2d(8), Applied(lambda z: {"logits": z}))
        module.first.requires_grad_(False)
        kept = fit(module, lambda returned, labels: F.cross_entropy(returned["logits"], labels))
        run = bring(tmp_path, module, kept)
        queries, objective = run.queries(TEST[0][:4], TEST[1][:4]), run.objective("margin")
        effect = run.workspace.effects_by(queries, objective, name).effect
        assert effect.shape == (4, 6, 1) and bool(torch.isfinite(effect).all())
        # The same network with its frozen layer in front of the data.
        inner = nn.Sequential(copy.deepcopy(module.middle), nn.ReLU(), module.pool, nn.Flatten(), module.last)
        before, after = ((module.first(each[0]).detach(), each[1]) for each in (TRAIN, TEST))
        names = {"middle": "0", "last": "4"}
        states = [
            {f"{names[each.partition('.')[0]]}.{each.partition('.')[2]}": value for each, value in state.items()
             if not each.startswith("first")}
            for state in kept
        ]  # fmt: skip
        if name in ("gradient", "koh", "ekfac", "prediction"):  # the others draw, or look at the synset
            other = bring(tmp_path / "inner", inner, states, before, after)
            if torch.equal(other.workspace.partition.clusters, run.workspace.partition.clusters):
                asked = other.queries(after[0][:4], after[1][:4])
                wanted = other.workspace.effects_by(asked, other.objective("margin"), name).effect
                rtol = 0.2 if name == "ekfac" else 1e-3
                torch.testing.assert_close(effect, wanted, rtol=rtol, atol=rtol * float(wanted.abs().max()))

    def test_what_a_library_cannot_do_with_an_lstm_is_told(self, tmp_path: Path) -> None:
        module = Rows(nn.LSTM(16, 16, batch_first=True))
        run = bring(tmp_path, module, fit(module))
        with pytest.raises(DDMError, match="attributor 'trak' computes many samples or networks at once"):
            run.workspace.effects_by(run.queries(TEST[0][:2], TEST[1][:2]), run.objective("margin"), "trak")


class TestRecipes:
    """What training by ddm makes of the same."""

    def recipe(self, folder: Path, checkpoint: Path) -> Path:
        path = folder / "recipe.yaml"
        path.write_text(
            f"""\
seed: 0
device: cpu
threads: 1
dataset: {{use: digits}}
backbone: {{use: timm, model: test_resnet, norm: frozen, checkpoint: {checkpoint}}}
clusterer: {{use: kmeans, clusters_per_class: 1, restarts: 1}}
distance: {{use: cosine}}
training: {{epochs: 2, lr: 0.05, checkpoint_every: 1, parameters: ["fc.*", "layer4.*"]}}
matching: {{steps: 2, step_length: 1}}
online: {{replay: 1}}
objectives: [{{use: output_shift}}]
study: {{use: attribution, queries: 3, show: 1}}
"""
        )
        return path

    def test_a_pretrained_network_with_batch_norm_is_trained_on(self, tmp_path: Path) -> None:
        import timm

        torch.manual_seed(0)
        original = timm.create_model("test_resnet", in_chans=1, num_classes=10)
        original(torch.randn(16, 1, 8, 8))  # gathers statistics
        torch.save(original.state_dict(), tmp_path / "w.pt")
        run = ddm_framework.run(self.recipe(tmp_path, tmp_path / "w.pt"), out=tmp_path / "run")
        workspace = run.workspace
        assert {name.partition(".")[0] for name in workspace.target} == {"fc", "layer4"}
        first, last = workspace.trajectory[0], workspace.target
        assert torch.equal(first["fc.weight"], original.get_parameter("fc.weight"))
        assert not torch.equal(first["fc.weight"], last["fc.weight"])
        found = workspace.module(last)
        assert torch.equal(found.get_buffer("bn1.running_var"), original.get_buffer("bn1.running_var"))
        assert torch.equal(found.get_parameter("conv1.0.weight"), original.get_parameter("conv1.0.weight"))
        assert any("Batch norm" in note for note in run.metrics["notes"])
        with pytest.raises(DDMError, match=r"batch norm at .*use instance, group or layer norm"):
            ddm_framework.run(tmp_path / "recipe.yaml", ["backbone.checkpoint=null"], out=tmp_path / "scratch")


class TestOutputs:
    @pytest.mark.parametrize(
        ("wrap", "read"),
        [
            (lambda z: {"logits": z, "other": 2 * z}, lambda each: each["logits"]),
            (lambda z: OrderedDict(out=z, loss=z.mean()), lambda each: each["out"]),
            (lambda z: (z, z.sum(1)), lambda each: each[0]),
            (lambda z: [z, 2 * z], lambda each: each[0]),
            (lambda z: Pair(z, z.sum(1)), lambda each: each.scores),
            (lambda z: Answer(z, 2 * z), lambda each: each.logits),
        ],
        ids=["dict", "ordered dict", "tuple", "list", "named tuple", "data class"],
    )
    def test_the_logits_are_found(
        self, wrap: Callable[[Tensor], Any], read: Callable[[Any], Tensor], tmp_path: Path
    ) -> None:
        module = Net(end=Applied(wrap))
        kept = fit(module, lambda returned, labels: F.cross_entropy(read(returned), labels))
        run = bring(tmp_path, module, kept)
        same_logits(run, module, read)
        assert any("is taken" in note for note in run.metrics["notes"])
        assert type(run.unlearn([0])(TEST[0])) is type(module(TEST[0]))

    @pytest.mark.parametrize(
        ("wrap", "message"),
        [
            (lambda z: {"a": z, "b": z}, "'a', 'b' could all be the logits"),
            (lambda z: {"hidden": z[:, :2]}, r"returns a dict \(hidden: \(1, 2\)\) .* must return logits \(1, 3\)"),
            (lambda z: z[:, 0], r"returns shape \(1,\)"),
            (lambda z: torch.cat([z, z], 1), r"returns shape \(1, 6\) .* the logits of these alone"),
            (lambda z: None, r"returns a NoneType \(without entries\)"),
            (lambda z: "logits", r"returns a str"),
        ],
    )
    def test_what_holds_no_logits_is_refused(self, wrap: Callable[[Tensor], Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(DDMError, match=message):
            bring(tmp_path, Net(end=Applied(wrap)))

    @pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)], ids=repr)
    def test_probabilities_are_those_of_the_module(self, end: nn.Module, tmp_path: Path) -> None:
        logs = isinstance(end, nn.LogSoftmax)
        module = Net(end=end)
        kept = fit(module, lambda p, y: F.nll_loss(p if logs else (p + 1e-9).log(), y))
        run = bring(tmp_path, module, kept)
        wanted = module(TEST[0]).detach()
        found = run.workspace.target_logits(TEST[0]).softmax(1)
        torch.testing.assert_close(found, wanted.exp() if logs else wanted, rtol=1e-4, atol=1e-6)
        assert any("softmax" in note for note in run.metrics["notes"])
        plain = copy.deepcopy(module)
        plain.end = nn.Identity()
        other = bring(tmp_path / "plain", plain, kept)
        torch.testing.assert_close(run.workspace.synset.images, other.workspace.synset.images, rtol=0.05, atol=0.05)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_another_precision_is_computed_in_float32(self, dtype: torch.dtype, tmp_path: Path) -> None:
        module = Net(nn.BatchNorm2d(8))
        fit(module)
        run = bring(tmp_path, module.to(dtype))
        same_logits(run, copy.deepcopy(module).float())
        assert any("computed in float32" in note for note in run.metrics["notes"])
        assert next(module.parameters()).dtype == dtype


class Rows(nn.Module):
    """A sequence of the rows of an image."""

    def __init__(self, layer: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.start, self.layer, self.last = nn.Linear(8, width), layer, nn.Linear(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        found = self.layer(self.start(images[:, 0]))
        return self.last((found[0] if isinstance(found, tuple) else found).mean(1))


class Attention(nn.Module):
    def __init__(self, multi: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(16, 2, batch_first=True) if multi else nn.Linear(16, 48)

    def forward(self, values: Tensor) -> Tensor:
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(values, values, values, need_weights=False)[0]
        q, k, v = self.layer(values).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class TestComputation:
    @pytest.mark.parametrize(
        "layer",
        [
            nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1),
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True),
            Attention(multi=True),
            Attention(multi=False),
        ],
        ids=["encoder", "encoder layer", "multi-head", "function"],
    )
    def test_attention_is_differentiated_twice(self, layer: nn.Module, tmp_path: Path) -> None:
        module = Rows(copy.deepcopy(layer))
        kept, fast = fit(module), torch.backends.mha.get_fastpath_enabled()
        run = bring(tmp_path, module, kept, settings=["clusterer.features=pixels"])
        same_logits(run, module)
        assert torch.backends.mha.get_fastpath_enabled() == fast
        assert run.attribute(TEST[0]).effect.shape == (18, 6, 1)

    @pytest.mark.parametrize("model", ["timm", "torchvision"])
    def test_vision_transformers(self, model: str, tmp_path: Path) -> None:
        if model == "timm":
            import timm

            small = {"img_size": 8, "patch_size": 4, "in_chans": 1, "depth": 1, "embed_dim": 16, "num_heads": 2}
            module: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=3, **small)
        else:
            from torchvision.models import VisionTransformer

            three = Applied(lambda images: images.expand(-1, 3, -1, -1))
            module = nn.Sequential(three, VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=3))
        run = bring(tmp_path, module, fit(module, epochs=6), settings=["clusterer.features=pixels"])
        same_logits(run, module)

    @pytest.mark.parametrize("layer", [nn.LSTM(16, 16, batch_first=True), nn.GRU(16, 16, batch_first=True)], ids=repr)
    def test_recurrent_networks_are_computed_one_at_a_time(self, layer: nn.Module, tmp_path: Path) -> None:
        module = Rows(copy.deepcopy(layer))
        run = bring(tmp_path, module, fit(module))
        same_logits(run, module)
        assert any("one at a time" in note for note in run.metrics["notes"])
        assert run.metrics["matching"]["mean_cosine"] > 0
        assert run.unlearn([0]) is not None

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x * 2 if x.mean() > 0.5 else x,
            lambda x: x if float(x.abs().max()) > 0 else -x,
            lambda x: torch.stack([each * 1.5 if each.sum() > 0 else each for each in x]),
        ],
        ids=["mean", "float", "each image"],
    )
    def test_branches_on_values(self, function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
        module = Net(Applied(function))
        run = bring(tmp_path, module, fit(module))
        same_logits(run, module)
        assert any("one at a time" in note for note in run.metrics["notes"])

    def test_one_at_a_time_is_what_a_stack_gives(self, tmp_path: Path) -> None:
        module = Net()
        kept = fit(module)
        plain = bring(tmp_path / "plain", module, kept)
        branching = copy.deepcopy(module)
        branching.middle = Applied(lambda x: x if float(x.abs().max()) >= 0 else -x)
        alone = bring(tmp_path / "alone", branching, kept)
        assert alone.workspace.network.alone and not plain.workspace.network.alone
        torch.testing.assert_close(alone.workspace.synset.images, plain.workspace.synset.images, rtol=1e-3, atol=1e-3)
        found, wanted = alone.attribute(TEST[0]).effect, plain.attribute(TEST[0]).effect
        torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-4)

    def test_a_hard_sigmoid_has_a_second_derivative(self, tmp_path: Path) -> None:
        module = Net(nn.Sequential(nn.Hardswish(), nn.Hardsigmoid()))
        run = bring(tmp_path, module, fit(module))
        same_logits(run, module)
        assert run.metrics["matching"]["mean_cosine"] > 0.3

    @pytest.mark.parametrize(
        ("module", "message"),
        [
            (Net(Applied(lambda x: F.dropout(x, 0.3))), "draws random numbers in evaluation mode"),
            (Net(Applied(lambda x: x + 0.1 * torch.randn_like(x))), "draws random numbers in evaluation mode"),
            (Net(Applied(lambda x: x - x.mean(0))), "mixes the samples of a batch"),
            (Net(nn.BatchNorm2d(8, track_running_stats=False)), "keeps no statistics"),
            (Net(nn.Conv2d(3, 8, 3)), r"fails on 1 image \(1, 1, 8, 8\), float32: RuntimeError"),
            (Net(Applied(lambda x: x.detach())), None),
            (Net(end=Applied(lambda z: z.detach())), "forward passes no gradients on"),
            (nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)), "lazy layers that never saw an image"),
            (lambda x: x, "is a function; bring a torch.nn.Module"),
            ("resnet18", "is a str; bring a torch.nn.Module"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_what_cannot_be_matched_is_told_in_a_sentence(
        self, module: Any, message: str | None, tmp_path: Path
    ) -> None:
        if message is None:
            bring(tmp_path, module)
            return
        with pytest.raises(DDMError, match=message):
            bring(tmp_path, module)

    def test_a_traced_module_is_refused_and_wrappers_are_taken_off(self, tmp_path: Path) -> None:
        module = Net()
        with pytest.raises(DDMError, match="TorchScript module"):
            bring(tmp_path, torch.jit.trace(module, TEST[0]))
        run = bring(tmp_path, nn.DataParallel(module))
        same_logits(run, module)


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("name", "wrap"),
        [
            ("lightning.ckpt", lambda s: {"state_dict": {f"model.{n}": e for n, e in s.items()}, "epoch": 3}),
            ("net.pth", lambda s: {"net": s, "acc": 98.0}),
            ("numpy.pt", lambda s: {"state_dict": s, "best": np.float64(0.9), "seen": np.int32(3)}),
            ("arrays.tar", lambda s: {"model": s, "losses": np.linspace(0, 1, 5)}),
            ("compiled.bin", lambda s: {f"_orig_mod.module.{n}": e for n, e in s.items()}),
            ("averaged", lambda s: {"n_averaged": torch.tensor(4), **{f"module.{n}": e for n, e in s.items()}}),
            ("weights_and_ema.pt", lambda s: {"model": s, "model_ema": {n: 0 * e for n, e in s.items()}}),
            (
                "two_copies.ckpt",
                lambda s: {
                    "state_dict": {
                        **{f"net.{n}": e for n, e in s.items()},
                        **{f"ema_net.{n}": 0 * e for n, e in s.items()},
                    }
                },
            ),
            ("own_key.pt", lambda s: {"weights_of_it": s, "optimizer": {"state": {}, "param_groups": []}}),
            ("flat.pt", lambda s: {**s, "epoch": 3, "note": "best"}),
        ],
    )
    def test_every_common_dialect(self, name: str, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
        module = Net(nn.BatchNorm2d(8))
        first = fit(module)[0]
        torch.save(wrap(first), tmp_path / name)
        for given in (tmp_path / name, wrap(first)):
            run = bring(tmp_path / type(given).__name__, module, [given])
            assert torch.equal(run.workspace.trajectory[0]["first.weight"], first["first.weight"])
            found = run.workspace.trained.at(0).buffers["middle.running_mean"]
            assert torch.equal(found, first["middle.running_mean"])

    @pytest.mark.parametrize(
        ("wrap", "message"),
        [
            (lambda s: {**s, "loss.weight": torch.ones(2)}, "has unknown loss.weight"),
            (lambda s: {f"model.{n}": e for n, e in s.items() if n != "last.bias"}, r"lacks last\.bias"),
            (lambda s: {"a": s, "b": s}, "holds several state dicts"),
            (
                lambda s: {**{f"a.{n}": e for n, e in s.items()}, **{f"b.{n}": e for n, e in s.items()}},
                "holds several copies of the network",
            ),
            (lambda s: {"optimizer": {"state": {}}}, "is not a state dict"),
            (lambda s: [1, 2], "is not a state dict"),
            (lambda s: {**s, "first.weight": s["first.weight"] / 0}, "holds NaN or infinity"),
        ],
    )
    def test_every_weight_is_accounted_for(self, wrap: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
        module = Net()
        torch.save(wrap(module.state_dict()), tmp_path / "w.pt")
        with pytest.raises(DDMError, match=message):
            bring(tmp_path, module, [tmp_path / "w.pt"])

    def test_a_file_with_code_is_refused(self, tmp_path: Path) -> None:
        torch.save({"state_dict": Net().state_dict(), "hook": print}, tmp_path / "w.ckpt")
        with pytest.raises(DDMError, match="could run code when read"):
            bring(tmp_path, Net(), [tmp_path / "w.ckpt"])


class Samples(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any], count: int = len(TRAIN[1])) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(*TRAIN, strict=True))


def picture(index: int) -> Any:
    from PIL import Image

    return Image.fromarray((TRAIN[0][index, 0].numpy() * 255).round().astype("uint8")), int(TRAIN[1][index])


WHOLE = (TRAIN[0] * 255).round().to(torch.uint8)
LATER = {
    "tensors": TRAIN,
    "arrays": (TRAIN[0].numpy(), TRAIN[1].numpy()),
    "list of labels": (TRAIN[0], TRAIN[1].tolist()),
    "lists": [list(TRAIN[0]), TRAIN[1].tolist()],
    "float64": (TRAIN[0].double(), TRAIN[1].to(torch.int32)),
    "column of labels": (TRAIN[0], TRAIN[1][:, None]),
    "float labels": (TRAIN[0], TRAIN[1].float()),
    "one-hot labels": (TRAIN[0], F.one_hot(TRAIN[1], 3).float()),
    "no channels": (TRAIN[0][:, 0], TRAIN[1]),
    "channels last": (TRAIN[0].permute(0, 2, 3, 1).numpy(), TRAIN[1]),
    "data set": TensorDataset(*TRAIN),
    "subset": Subset(TensorDataset(*TRAIN), range(len(TRAIN[1]))),
    "dicts": Samples(lambda i: {"image": TRAIN[0][i], "label": TRAIN[1][i]}),
    "lists of two": Samples(lambda i: [TRAIN[0][i], TRAIN[1][i : i + 1]]),
    "list of pairs": [(TRAIN[0][i], int(TRAIN[1][i])) for i in range(len(TRAIN[1]))],
    "stream": Stream(),
    "loader": DataLoader(TensorDataset(*TRAIN), 8, shuffle=True, drop_last=True),
    "loader of a stream": DataLoader(Stream(), 7),
    "loader of single samples": DataLoader(TensorDataset(*TRAIN), batch_size=None),
    "loader of dicts": DataLoader(Samples(lambda i: {"pixel_values": TRAIN[0][i], "labels": TRAIN[1][i]}), 8),
    "sampler": DataLoader(TensorDataset(*TRAIN), 8, sampler=SubsetRandomSampler(range(len(TRAIN[1])))),
}


class TestData:
    @pytest.mark.parametrize("train", LATER.values(), ids=LATER)
    def test_every_way_gives_the_same_images(self, train: Any) -> None:
        from ddm_framework.data.given import pair

        images, labels, _ = pair(train, "train")
        torch.testing.assert_close(images, TRAIN[0])
        assert torch.equal(labels, TRAIN[1])

    @pytest.mark.parametrize("train", [Samples(picture), (WHOLE.long(), TRAIN[1]), (WHOLE[:, 0].numpy(), TRAIN[1])])
    def test_whole_numbers_are_pixels(self, train: Any) -> None:
        from ddm_framework.data.given import pair

        images, labels, _ = pair(train, "train")
        assert torch.equal(images, WHOLE) and torch.equal(labels, TRAIN[1])

    @pytest.mark.parametrize(
        ("train", "message"),
        [
            ([(torch.rand(1, 8 + i % 2, 8), i % 2) for i in range(40)], "images have several sizes"),
            ((TRAIN[0], TRAIN[1] + 0.5), "labels are not whole"),
            ((TRAIN[0], TRAIN[1] - 1), "labels begin at -1"),
            ((TRAIN[0], torch.rand(len(TRAIN[1]), 3)), "labels have shape"),
            ((TRAIN[0], ["a"] * len(TRAIN[1])), "class ids"),
            ((TRAIN[0], TRAIN[1][:-1]), "images but"),
            ((TRAIN[0] / 0, TRAIN[1]), "NaN or infinity"),
            ((TRAIN[0].flatten(1), TRAIN[1]), r"must be \(N, C, H, W\)"),
            ((TRAIN[0].long() * 300 - 2, TRAIN[1]), "pixels run from 0 to 255"),
            ((TRAIN[0].to(torch.complex64), TRAIN[1]), "complex"),
            ((TRAIN[0], torch.zeros_like(TRAIN[1])), "class"),
            ((TRAIN[0][:0], TRAIN[1][:0]), "no sample"),
            (Samples(lambda i: (torch.rand(1, 8, 8), 0)), "another picture each time"),
            (Samples(lambda i: TRAIN[0][i]), "a sample is a Tensor"),
            (Samples(lambda i: {"pixels_of_it": TRAIN[0][i]}), "a sample holds 'pixels_of_it'"),
            (Samples(lambda i: 1 / 0), "reading it fails with ZeroDivisionError"),
            ([], "holds no sample"),
            (None, "give"),
            ("folder", "give"),
            ({"images": TRAIN[0]}, "give"),
            (TRAIN[0], "give"),
            (3, "give"),
        ],
    )
    def test_what_is_no_data_is_told_in_a_sentence(self, train: Any, message: str, tmp_path: Path) -> None:
        with pytest.raises(DDMError, match=message):
            bring(tmp_path, Net(), train=train)

    def test_floats_that_are_normalised_already_are_the_inputs(self, tmp_path: Path) -> None:
        module = Net()
        kept = fit(module)
        before, after = (((each[0] - 0.3) / 0.25, each[1]) for each in (TRAIN, TEST))
        run = bring(tmp_path, module, kept, before, after)
        torch.testing.assert_close(run.workspace.data.test.images[:], after[0], rtol=1e-5, atol=1e-5)
        pixels = run.workspace.info.to_pixels(run.workspace.data.train.images[:])
        assert float(pixels.min()) >= 0 and float(pixels.max()) <= 1
        assert any("outside [0, 1]" in note for note in run.metrics["notes"])
        with pytest.raises(DDMError, match="normalised already"):
            bring(tmp_path / "twice", module, kept, before, after, mean=[0.3], std=[0.25])

    def test_one_class_is_refused(self, tmp_path: Path) -> None:
        one = TRAIN[0][TRAIN[1] == 0], TRAIN[1][TRAIN[1] == 0]
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        with pytest.raises(DDMError, match="one class"):
            bring(tmp_path, module, train=one, test=one)

    def test_a_network_that_knows_nothing_is_told(self, tmp_path: Path) -> None:
        module = Net()
        nn.init.zeros_(module.last.weight)
        run = bring(tmp_path, module)
        assert any("no better than chance" in note for note in run.metrics["notes"])

    def test_a_good_network_of_two_classes_is_not_called_chance(self, tmp_path: Path) -> None:
        chosen = [(each[0][each[1] < 2], each[1][each[1] < 2]) for each in (TRAIN, TEST)]
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(module(chosen[0][0]), chosen[0][1]).backward()
            optimizer.step()
        spoilt = chosen[0][1].clone()
        spoilt[0] = 1 - spoilt[0]
        run = bring(tmp_path, module, train=(chosen[0][0], spoilt), test=chosen[1])
        assert run.metrics["target"]["train_accuracy"] > 0.9
        assert not any("chance" in note for note in run.metrics["notes"])


def margins(module: Net, states: Kept, weights: list[int]) -> Tensor:
    """Margins of the training images, mean over states, in float64."""
    total = torch.zeros(len(TRAIN[1]), dtype=torch.float64)
    other = copy.deepcopy(module).double()
    for state, weight in zip(states, weights, strict=True):
        other.load_state_dict(state)
        with torch.no_grad():
            logits = other(TRAIN[0].double())
        own = logits.gather(1, TRAIN[1][:, None])[:, 0]
        total += weight * (own - logits.scatter(1, TRAIN[1][:, None], -torch.inf).amax(1))
    return total / sum(weights)


@pytest.mark.parametrize(
    ("given", "epochs", "weights", "told"),
    [
        (
            3,
            [2, 10, 20, 50],
            [2, 8, 10, 30],
            "over the 4 checkpoints that were given and count, weighted by the epochs",
        ),
        (3, [0, 10, 20, 50], [0, 10, 10, 30], "over the 3 checkpoints"),
        (3, None, [0, 1, 1, 1], "taken as evenly spaced, the first the start"),
        (0, None, [1], "measured at the network itself, for no checkpoint of its training was given"),
    ],
)
def test_a_module_from_elsewhere_is_audited_along_the_checkpoints_that_came_with_it(
    given: int, epochs: list[int] | None, weights: list[int], told: str, tmp_path: Path
) -> None:
    net = Net()
    kept = fit(net)[:given]
    run = ddm_framework.from_module(
        net, TRAIN, TEST, checkpoints=kept, epochs=epochs, settings=SETTINGS, out=tmp_path / "run"
    )
    found, wanted = run.audit(), margins(net, [*kept, net.state_dict()], weights)
    torch.testing.assert_close(
        torch.tensor([each.margin for each in found.samples], dtype=torch.float64), wanted, rtol=1e-4, atol=1e-4
    )
    assert found.order[0] == wanted.argmin()
    written = run.write_audit(drop=tmp_path / "mask.csv", top=3)
    assert told in written["measured"] == found.measured
    assert told in Path(written["page"]).read_text()
    assert len((tmp_path / "mask.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("epochs", [[0, 1], [5, 5], [3, 2], [1.5, 2], "ab", [-1, 3]])
def test_epochs_that_are_not_those_of_the_checkpoints_are_refused(epochs: Any, tmp_path: Path) -> None:
    net = Net()
    kept = fit(net, epochs=3)[: 2 if epochs == [0, 1] else 1]
    with pytest.raises(DDMError, match=r"target settings: .*epochs"):
        ddm_framework.from_module(net, TRAIN, TEST, checkpoints=kept, epochs=epochs, out=tmp_path / "run")
