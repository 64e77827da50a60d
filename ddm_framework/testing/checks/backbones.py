"""Networks: `build(data, /, *, ...) -> nn.Module`. Matching (Eq. 6) asks for two derivatives and unmixed samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.network.networks import build_network
from ddm_framework.offline.features import penultimate
from ddm_framework.testing.contract import ContractError, NotChecked, advice, expect, same, untouched_randomness
from ddm_framework.testing.samples import NUM_CLASSES, data_info, images, soft_labels
from ddm_framework.testing.subject import Subject

SHAPES = ((1, 8, 8), (3, 16, 16), (3, 32, 32), (1, 28, 28), (3, 64, 64), (3, 224, 224))
"""Shapes of images to build for; the checks run on the first that the network takes."""
NUM_IMAGES = 3
_REFUSE = "raise ddm_framework.DDMError, saying what to change, for images or options that it cannot work with"
_NO_STATE = (
    "write forward as a pure function of parameters and images: nothing in place, no .item(), no branches on values"
)


@dataclass(frozen=True, slots=True)
class Built:
    """A network in float64 and evaluation mode, and a twin with other weights."""

    info: DataInfo
    network: nn.Module
    twin: nn.Module

    def images(self, count: int = NUM_IMAGES) -> Tensor:
        """Network inputs, float64."""
        return images(self.info, count, torch.float64)

    def loss(self, parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy under soft labels."""
        return F.cross_entropy(functional_call(self.network, parameters, (inputs,)), labels)

    def mismatch(self, image: Tensor, label: Tensor) -> Tensor:
        """A function of one image's gradient by the weights, so that its own derivative is of second order."""
        found = grad(self.loss)(dict(self.network.named_parameters()), image[None], label[None])
        return torch.stack([(each.sin() * each).sum() for each in found.values()]).sum()


def built(subject: Subject) -> Built:
    """The network for the first shape that it takes.

    Raises:
        NotChecked: if it takes none of them, with the last reason.
    """
    return subject.once("built", lambda: _built(subject))


def _built(subject: Subject) -> Built:
    reason = ""
    for shape in SHAPES:
        info = data_info(shape)
        try:
            with advice(_REFUSE):
                torch.manual_seed(0)
                networks = [subject.choice(info) for _ in range(2)]
                logits = networks[0].eval()(images(info, 1))
            expect(isinstance(logits, Tensor), "its forward must return logits, a tensor")
            return Built(info, *(each.double().eval() for each in networks))
        except (DDMError, ContractError) as error:
            reason = str(error)
    raise NotChecked(f"it takes images of none of the shapes {', '.join(map(str, SHAPES))}; of the last: {reason}")


def check_builds_or_says_why_not(subject: Subject) -> None:
    """For each shape of images it gives a module that works, or a DDMError with the reason."""
    taken = 0
    for shape in SHAPES[:-1]:
        info = data_info(shape)
        try:
            with advice(f"images of shape {shape}: {_REFUSE}"):
                module = subject.choice(info)
                expect(isinstance(module, nn.Module), f"it returns {type(module).__name__}; return an nn.Module")
                module.eval()(images(info, 1))
            taken += 1
        except PluginError:
            raise
        except DDMError:
            continue
    if not taken:
        built(subject)


def check_core_takes_it(subject: Subject) -> None:
    """The core accepts the module: no batch norm, logits (1, classes) for one image."""
    info = built(subject).info
    try:
        build_network(subject.choice, info, 0, torch.device("cpu"))
    except DDMError as error:
        raise ContractError(str(error)) from error


def check_logits_have_a_row_for_each_image(subject: Subject) -> None:
    """(B, C, H, W) gives finite logits (B, classes) of the images' own type."""
    found = built(subject)
    logits = found.network(found.images())
    expect(
        logits.shape == (NUM_IMAGES, NUM_CLASSES) and logits.dtype == torch.float64,
        f"{NUM_IMAGES} images of {NUM_CLASSES} classes in float64 give {logits.dtype} {tuple(logits.shape)}; return"
        f" logits ({NUM_IMAGES}, {NUM_CLASSES}), and convert no types inside",
    )
    expect(torch.isfinite(logits).all(), "its logits hold NaN or infinity at the start; initialise smaller")


def check_one_image_in_training_mode(subject: Subject) -> None:
    """A batch of one works in training mode, as each synthetic image is one."""
    found = built(subject)
    try:
        with advice("use instance, group or layer norm on maps larger than 1x1, which need no batch"):
            logits = found.network.train()(found.images(1))
    finally:
        found.network.eval()
    expect(logits.shape == (1, NUM_CLASSES), f"one image gives {tuple(logits.shape)}; return logits (1, classes)")
    expect(torch.isfinite(logits).all(), "one image in training mode gives NaN or infinity")


def check_samples_do_not_mix(subject: Subject) -> None:
    """An image's logits do not depend on the others of its batch."""
    found = built(subject)
    together = found.network(found.images())
    alone = torch.cat([found.network(image[None]) for image in found.images()])
    expect(
        same(together, alone),
        "an image alone has other logits than in a batch; normalise and attend within each image alone, as instance,"
        " group and layer norm do",
    )


def check_evaluation_is_repeatable(subject: Subject) -> None:
    """In evaluation mode the same images give the same logits, to the last bit."""
    found = built(subject)
    first, second = found.network(found.images()), found.network(found.images())
    expect(torch.equal(first, second), "two passes differ in evaluation mode; draw nothing there (nn.Dropout obeys it)")


def check_no_state_between_calls(subject: Subject) -> None:
    """A pass changes no buffer, in training mode either: parameters are all that a network knows."""
    found = built(subject)
    before = {name: value.clone() for name, value in found.network.named_buffers()}
    try:
        found.network.train()(found.images())
    finally:
        found.network.eval()
    changed = [name for name, value in found.network.named_buffers() if not torch.equal(value, before[name])]
    expect(not changed, f"a pass changes the buffers {', '.join(changed[:3])}; keep no running statistics")


def check_second_derivative_is_that_of_the_first(subject: Subject) -> None:
    """The derivative, by the image, of a function of the gradient by the weights agrees with finite differences."""
    found = built(subject)
    image, label = found.images(1)[0], soft_labels(1, dtype=torch.float64)[0]
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    with advice("every operation must be twice differentiable; fused attention, for one, is not"):
        slope = (grad(found.mismatch)(image, label) * direction).sum()
    # A step that crosses the kink of a ReLU says nothing, and of three lengths hardly all do.
    differences = []
    for step in (1e-5, 1e-6, 1e-7):
        ahead, behind = (found.mismatch(image + sign * step * direction, label) for sign in (1, -1))
        differences.append((ahead - behind) / (2 * step))
    expect(slope != 0, "its second derivative is zero, so nothing can be matched; is an activation piecewise constant?")
    expect(
        any(same(slope, each, rtol=1e-3, atol=1e-7) for each in differences),
        f"its second derivative is {slope:.6g}, finite differences give {differences[1]:.6g}; a custom backward is"
        " wrong or not differentiable itself",
    )


def check_second_derivatives_of_many_images_at_once(subject: Subject) -> None:
    """torch.func.vmap over images, around second derivatives, gives what a loop gives."""
    found = built(subject)
    labels = soft_labels(NUM_IMAGES, dtype=torch.float64)
    with advice(f"it must run inside torch.func.vmap; {_NO_STATE}"):
        together = vmap(grad(found.mismatch))(found.images(), labels)
    alone = [grad(found.mismatch)(*each) for each in zip(found.images(), labels, strict=True)]
    expect(same(together, torch.stack(alone)), f"second derivatives differ between vmap and a loop; {_NO_STATE}")


def check_many_networks_at_once(subject: Subject) -> None:
    """torch.func.vmap over stacked parameters gives each network's own logits and gradient."""
    found = built(subject)
    networks, labels = [found.network, found.twin], soft_labels(NUM_IMAGES, dtype=torch.float64)
    stacked, _ = stack_module_state(networks)
    gradient = grad(found.loss)
    with advice(f"it must run inside torch.func.vmap over its parameters; {_NO_STATE}"):
        together = vmap(gradient, in_dims=(0, None, None))(stacked, found.images(), labels)
    for row, network in enumerate(networks):
        alone = gradient(dict(network.named_parameters()), found.images(), labels)
        wrong = [name for name, values in together.items() if not same(values[row], alone[name])]
        expect(not wrong, f"gradients of {', '.join(wrong[:3])} differ between vmap and a loop; {_NO_STATE}")


def check_start_follows_the_seed(subject: Subject) -> None:
    """Initial weights come from torch's global generator, which the core seeds: one seed, one start."""
    info = built(subject).info
    states, starts = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        starts.append([each.detach().clone() for each in subject.choice(info).parameters()])
        states.append(torch.get_rng_state())
    expect(
        all(torch.equal(*pair) for pair in zip(*starts[:2], strict=True)),
        "two builds from one seed start differently; draw weights by torch.nn.init or torch.randn alone",
    )
    expect(not torch.equal(states[0], states[2]), "it sets torch's seed itself; leave that to the core")


def check_leaves_other_randomness_alone(subject: Subject) -> None:
    """Building draws from torch's generator alone, and a pass through the network from none."""
    found = built(subject)
    with untouched_randomness() as touched:
        subject.choice(found.info)
    others = [name for name in touched if name != "torch"]
    expect(not others, f"building it changes the state of {', '.join(others)}; draw by torch alone")
    with untouched_randomness() as touched:
        found.network(found.images())
    expect(not touched, f"a pass changes the random state of {', '.join(touched)}; draw nothing in evaluation mode")


def check_has_penultimate_features(subject: Subject) -> None:
    """A last linear layer is called once, whose input `features: target` clusters."""
    network, initial = build_network(subject.choice, built(subject).info, 0, torch.device("cpu"))
    features = penultimate(network, initial, images(network.info, NUM_IMAGES))
    expect(
        features.shape[0] == NUM_IMAGES and bool(torch.isfinite(features).all()),
        f"the input of its last linear layer has shape {tuple(features.shape)}; end with a linear layer on one vector"
        " an image",
    )
