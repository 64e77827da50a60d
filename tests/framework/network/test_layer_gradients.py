"""Gradients layer by layer are those of autograd, and so are derivatives of their products; other networks are left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct
from torch import Tensor, nn
from torch.func import functional_call

from ddm_framework.data.splits import DataInfo
from ddm_framework.network.layer_gradients import LayerGradients
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.second_derivatives import ChannelSums, convolution, gelu, group_norm, pooled_in_pairs, relu
from ddm_framework.network.stacks import Parameters

SHAPE, CLASSES, LOSSES = (2, 6, 6), 3, 3
INFO = DataInfo(SHAPE, CLASSES, (0.0,) * 2, (1.0,) * 2, tuple("abc"))


class Residual(nn.Module):
    """A sum of two ways, and a layer in place after a layer with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.active, self.last = nn.GroupNorm(2, 4), nn.SiLU(inplace=True), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        values = self.active(self.first(images))
        values = values + self.active(self.norm(self.second(values)))
        return self.last(values.mean((2, 3)))


class Tokens(nn.Module):
    """Patches with embeddings of their positions, a class token and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.positions = nn.Conv2d(2, 8, 2, stride=2), nn.Parameter(torch.randn(1, 10, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.norm, self.plain = nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, CLASSES, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1) + self.positions
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, -1)
        tokens = tokens + torch.softmax(q @ k.transpose(1, 2), -1) @ v
        return self.head(self.plain(tokens)[:, 0])


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.layer(self.layer(images).tanh()).flatten(1))


class Shared(nn.Module):
    """Two layers with one weight, and a bias of two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(72, 72), nn.Linear(72, 72)
        self.third, self.last = nn.Linear(72, CLASSES), nn.Linear(72, CLASSES)
        self.second.weight, self.last.bias = self.first.weight, self.third.bias

    def forward(self, images: Tensor) -> Tensor:
        values = self.second(self.first(images.flatten(1)).tanh()).tanh()
        return self.third(values) + self.last(values.square())


def gathered(module: nn.Module) -> nn.Module:
    """Batch norms with random statistics, in evaluation mode."""
    random = torch.Generator().manual_seed(2)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=random))
            layer.running_var.copy_(torch.rand(layer.num_features, generator=random) + 0.5)
    return module.eval()


def frozen(module: nn.Module, *names: str) -> nn.Module:
    for name in names:
        module.get_parameter(name).requires_grad_(False)
    return module


class Unused(nn.Module):
    """A layer that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.last = nn.Linear(2, 2), nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(images.flatten(1))


KNOWN: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "tokens": Tokens,
    "called twice": Twice,
    "unused": Unused,
    "instance norm and pooling": lambda: nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.GroupNorm(5, 5), nn.ReLU(inplace=True), nn.AvgPool2d(2),
        nn.Conv2d(5, 4, 2), nn.GroupNorm(1, 4, affine=False), nn.GELU(), nn.Flatten(), nn.Linear(16, CLASSES),
    ),
    "groups, strides, dilation": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, padding=1), nn.Tanh(), nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2),
        nn.Sigmoid(), nn.AvgPool2d(3, 1, 1), nn.Flatten(), nn.Linear(54, CLASSES),
    ),
    "wide filters": lambda: nn.Sequential(
        nn.Conv2d(2, 20, 3, padding=1), nn.Tanh(), nn.Conv2d(20, 3, (3, 1), padding=(0, 2)), nn.Tanh(),
        nn.Flatten(), nn.Linear(120, CLASSES),
    ),
    "batch norm": lambda: gathered(nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, padding=1), nn.SyncBatchNorm(4), nn.ReLU(), nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4, affine=False), nn.Tanh(), nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.GELU(),
        nn.Linear(6, CLASSES),
    )),
    "norms with activations": lambda: gathered(nn.Sequential(
        nn.Conv2d(2, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 4, 1), GroupNormAct(4, num_groups=2, act_layer=nn.SiLU),
        nn.Flatten(), nn.Linear(64, CLASSES),
    )),
    "shared weights": lambda: Shared(),
    "frozen in part": lambda: frozen(gathered(nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(),
        nn.Linear(8, CLASSES),
    )), "0.weight", "1.bias", "5.bias", "5.weight"),
}  # fmt: skip


class Functional(nn.Module):
    """The weights of a layer are used, but not the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(6, 6), nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(F.linear(images, self.layer.weight).flatten(1))


class Standardised(nn.Conv2d):
    """A convolution that is not what its base is."""

    def forward(self, values: Tensor) -> Tensor:
        return F.conv2d(values, self.weight / self.weight.std(), self.bias)


class Mixing(nn.Module):
    """A sample's output depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last((images - images.mean(0)).flatten(1))


class OwnWeight(nn.Module):
    """A parameter that belongs to no known layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.last = nn.Parameter(torch.randn(6, 6)), nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last((images @ self.weight).flatten(1))


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "functional": Functional,
    "subclass": lambda: nn.Sequential(Standardised(2, 3, 3), nn.Flatten(), nn.Linear(48, CLASSES)),
    "circular": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(108, CLASSES)
    ),
    "mixing": Mixing,
    "own weight": OwnWeight,
}


def built(make: Callable[[], nn.Module]) -> tuple[Network, Parameters]:
    network, initial = build_network(lambda _: make(), INFO, 0, torch.device("cpu"))
    network.module.double()
    constants = {name: each.double() if each.is_floating_point() else each for name, each in network.buffers.items()}
    return network.with_constants(constants), {name: each.double() for name, each in initial.items()}


def losses(network: Network, theta: Parameters, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The plain loop: each loss by itself."""
    return [
        F.cross_entropy(functional_call(network.module, (theta, network.buffers), (images[index],)), labels[index])
        for index in range(LOSSES)
    ]


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("samples", [1, 3])
def test_gradients_and_derivatives_of_products_are_those_of_autograd(name: str, samples: int) -> None:
    network, theta = built(KNOWN[name])
    random = torch.Generator().manual_seed(1)
    theta = {key: each + 0.3 * torch.randn(each.shape, generator=random).double() for key, each in theta.items()}
    images = torch.randn(LOSSES, samples, *SHAPE, generator=random).double().requires_grad_()
    logits = torch.randn(LOSSES, samples, CLASSES, generator=random).double().requires_grad_()
    directions = {key: torch.randn(LOSSES, *each.shape, generator=random).double() for key, each in theta.items()}
    layers = LayerGradients.of(network, theta)
    assert layers is not None

    found = layers(theta, images, logits.softmax(-1))
    by_images, by_logits = found.of_products(directions, (images, logits))

    leaves = {key: each.clone().requires_grad_() for key, each in theta.items()}
    product = torch.zeros((), dtype=torch.float64)
    for index, loss in enumerate(losses(network, leaves, images, logits.softmax(-1))):
        own = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)
        for (key, direction), gradient in zip(directions.items(), own, strict=True):
            torch.testing.assert_close(found.gradients[key][index], gradient, rtol=1e-9, atol=1e-11)
            product = product + (gradient * direction[index]).sum()
    wanted = torch.autograd.grad(product, (images, logits))
    torch.testing.assert_close((by_images, by_logits), wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_network_that_uses_its_weights_otherwise_is_not_taken(name: str) -> None:
    network, theta = built(UNKNOWN[name])
    assert LayerGradients.of(network, theta) is None


def test_constants_of_another_checkpoint_are_those_of_the_gradients() -> None:
    network, theta = built(KNOWN["batch norm"])
    random = torch.Generator().manual_seed(3)
    own = {
        name: each + torch.rand(each.shape, generator=random).double()
        for name, each in network.buffers.items()
        if "running" in name
    }
    images, labels = torch.randn(3, 2, *SHAPE, generator=random).double(), torch.full((3, 2, CLASSES), 1 / CLASSES)
    layers = LayerGradients.of(network, theta)
    assert layers is not None
    found = layers(theta, images.requires_grad_(), labels.double(), own).gradients
    wanted = network.with_constants(own).gradients(
        {name: each.expand(3, *each.shape) for name, each in theta.items()},
        images,
        labels.double(),
        torch.full((3, 2), 0.5),
    )
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    plain = layers(theta, images, labels.double()).gradients
    assert not torch.allclose(plain["1.weight"], wanted["1.weight"])


def test_only_trained_weights_have_gradients() -> None:
    network, theta = built(KNOWN["frozen in part"])
    assert set(theta) == {"0.bias", "1.weight", "3.weight", "3.bias", "7.weight", "7.bias"} == set(network.trained)
    assert network.num_weights == sum(each.numel() for each in theta.values())
    assert set(network.gradients(
        {name: each[None] for name, each in theta.items()},
        torch.ones(1, *SHAPE).double(), torch.tensor([0]), torch.ones(1, 1),
    )) == set(theta)  # fmt: skip


def test_the_module_itself_stays_as_it_was() -> None:
    network, theta = built(Residual)
    images = torch.randn(2, *SHAPE, dtype=torch.float64)
    before = network(theta, images)
    layers = LayerGradients.of(network, theta)
    assert layers is not None
    assert torch.equal(network(theta, images), before)
    assert all("forward" not in vars(each) for each in network.module.modules())


@pytest.mark.parametrize(("channels", "groups"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_has_the_derivatives_of_pytorchs(channels: int, groups: int, affine: bool) -> None:
    values = torch.randn(3, channels, 2, 3, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(2, channels, dtype=torch.float64) if affine else (None, None)
    sums = ChannelSums()

    def own(x: Tensor) -> Tensor:
        return group_norm(x, groups, weight, bias, 1e-5, sums)

    assert torch.autograd.gradcheck(own, values)
    assert torch.autograd.gradgradcheck(own, values)
    derivative = torch.randn_like(values)
    leaf = None if weight is None else weight.clone().requires_grad_()
    plain = F.group_norm(values, groups, leaf, bias, 1e-5)
    torch.testing.assert_close(own(values), plain.detach())
    (own(values) * derivative).sum().backward()
    if leaf is not None:
        (by_weight,) = torch.autograd.grad((plain * derivative).sum(), leaf)
        torch.testing.assert_close(sums.weight.sum(0), by_weight)
    torch.testing.assert_close(sums.bias, derivative.sum((2, 3)))


def test_pooling_in_pairs_is_average_pooling() -> None:
    values = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(pooled_in_pairs(values), F.avg_pool2d(values, 2))
    assert torch.autograd.gradcheck(pooled_in_pairs, values)
    assert torch.autograd.gradgradcheck(pooled_in_pairs, values)


@pytest.mark.parametrize("layer", [
    nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 2, stride=2, bias=False), nn.Conv2d(3, 6, 3, groups=3, dilation=2),
], ids=str)  # fmt: skip
def test_a_convolution_has_the_derivatives_of_pytorchs(layer: nn.Conv2d) -> None:
    layer.double().requires_grad_(False)
    values = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(convolution(values, layer), layer(values))
    assert torch.autograd.gradcheck(lambda x: convolution(x, layer), values)
    assert torch.autograd.gradgradcheck(lambda x: convolution(x, layer), values)


@pytest.mark.parametrize(("own", "plain"), [(relu, F.relu), (gelu, F.gelu)], ids=["relu", "gelu"])
def test_an_activation_has_the_derivatives_of_pytorchs(
    own: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> None:
    values = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(own(values), plain(values))
    assert torch.autograd.gradcheck(own, values)
    assert torch.autograd.gradgradcheck(own, values)
