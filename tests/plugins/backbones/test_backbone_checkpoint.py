"""Weights from a local file: what is loaded, what stays as it was, and every way in which a file can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from ddm_backbones.checkpoint import read_state
from ddm_backbones.timm import build
from safetensors.torch import save_file
from torch import Tensor

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError

Info = Callable[..., DataInfo]
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The weights of timm's own network, batch norms and all."""
    return timm.create_model("test_resnet", num_classes=3).state_dict()


def save(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def load(info: Info, path: Path, **shape: int) -> State:
    return build(info(32, **{"channels": 3, **shape}), model="test_resnet", checkpoint=path).state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_of_a_network_with_batch_norm(tmp_path: Path, info: Info, state: State, suffix: str) -> None:
    loaded = load(info, save(tmp_path / f"w{suffix}", state))
    assert set(state) - set(loaded) == {name for name in state if name.endswith(("_mean", "_var", "_tracked"))}
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)


def test_weights_of_a_network_that_this_backbone_built(tmp_path: Path, info: Info) -> None:
    built = build(info(32, 3), model="test_resnet").state_dict()
    loaded = load(info, save(tmp_path / "w.safetensors", built))
    assert all(torch.equal(loaded[name], built[name]) for name in built)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_state_dict(tmp_path: Path, info: Info, state: State, wrapper: str) -> None:
    loaded = load(info, save(tmp_path / "w.pt", {wrapper: state, "epoch": 3}))
    assert torch.equal(loaded["fc.weight"], state["fc.weight"])


def test_head_of_other_classes_stays_fresh(tmp_path: Path, info: Info, state: State) -> None:
    loaded = load(info, save(tmp_path / "w.safetensors", state), classes=5)
    assert loaded["fc.weight"].shape[0] == loaded["fc.bias"].shape[0] == 5
    assert torch.equal(loaded["conv1.0.weight"], state["conv1.0.weight"])


def test_file_without_a_head(tmp_path: Path, info: Info, state: State) -> None:
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    assert "fc.weight" in load(info, save(tmp_path / "w.safetensors", headless))


def test_first_convolution_is_summed_for_grey_images(tmp_path: Path, info: Info, state: State) -> None:
    loaded = load(info, save(tmp_path / "w.safetensors", state), channels=1)
    torch.testing.assert_close(loaded["conv1.0.weight"], state["conv1.0.weight"].sum(1, keepdim=True))


def test_unfitting_weights_are_named(tmp_path: Path, info: Info, state: State) -> None:
    wrong = {name: value for name, value in state.items() if "layer2" not in name}
    wrong |= {"stranger": torch.zeros(1), "conv1.0.weight": torch.zeros(1, 3, 3, 3)}
    path = save(tmp_path / "w.safetensors", wrong)
    with pytest.raises(DDMError) as error:
        load(info, path)
    message = str(error.value)
    assert message.startswith(f"checkpoint {path} does not fit the network: it lacks layer2.0.conv1.weight, ")
    assert " more; it has unknown stranger; it has another shape of conv1.0.weight; check `model`" in message


def test_missing_file(tmp_path: Path, info: Info) -> None:
    with pytest.raises(DDMError, match=r"nowhere\.pt: there is no such file"):
        load(info, tmp_path / "nowhere.pt")


def test_the_ending_of_the_name_does_not_matter(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "w.ckpt.7")
    assert torch.equal(read_state(tmp_path / "w.ckpt.7")["weight"], torch.ones(2))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint"])
def test_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DDMError, match=rf"{name} is damaged, or holds Python objects.*; save `model\.state_dict\(\)`"):
        read_state(tmp_path / name)


def test_truncated_file(tmp_path: Path, state: State) -> None:
    path = save(tmp_path / "w.pt", state)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DDMError, match=r"w\.pt is damaged"):
        read_state(path)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_reading_runs_no_code(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pt", {"weight": Bomb(tmp_path / "exploded")})
    with pytest.raises(DDMError, match="or holds Python objects, which could run code when read"):
        read_state(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"epoch": 3}, {0: torch.zeros(3)}])
def test_file_that_is_no_state_dict(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DDMError, match="is not a state dict, a mapping from names to tensors"):
        read_state(save(tmp_path / "w.pt", content))
