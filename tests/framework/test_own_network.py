"""A network that was trained elsewhere: taken over whole or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from run_fixtures import ddm, finished_tiny, refused, save_data, tensors, tiny
from safetensors.torch import load_file, save_file

import ddm_framework
from ddm_framework import DDMError, RecipeError
from ddm_framework.network.checkpoints import fitted, read_state
from ddm_framework.network.networks import Network
from ddm_framework.plugin import load_plugins
from ddm_framework.recipe.reading import load_recipe
from ddm_framework.truth.retraining import retrained


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_tiny(tmp_path_factory.getbasetemp() / "tiny")


def checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("offline/trajectory/epoch_*.safetensors"))


def bring(folder: Path, kept: list[Path], *changes: str, **replaced: str) -> ddm_framework.Run:
    listed = json.dumps([str(path) for path in kept[:-1]])
    settings = [f"target.checkpoint={kept[-1]}", f"target.trajectory={listed}", "matching.step_length=1", *changes]
    return ddm_framework.run(tiny(folder, **replaced), settings, out=folder / "brought")


def test_the_whole_trajectory_gives_the_run_that_trained_it(original: Path, tmp_path: Path) -> None:
    kept = checkpoints(original)
    brought = bring(tmp_path, kept)
    ours, theirs = tensors(brought.path), tensors(original)
    for epoch, path in enumerate(kept):
        for name in load_file(path):
            key = f"offline/trajectory/epoch_{epoch:03d}.safetensors:{name}"
            assert torch.equal(ours[key], load_file(path)[name])
    for name in ("offline/synset.safetensors:cluster.images", "online/attribution.safetensors:0.output_shift.matrix"):
        assert torch.equal(ours[name], theirs[name])
    assert "trained elsewhere" in brought.report.read_text()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module."])
def test_a_checkpoint_is_read_as_training_scripts_write_it(
    suffix: str, wrap: str, original: Path, tmp_path: Path
) -> None:
    last = load_file(checkpoints(original)[-1])
    state: Any = {f"module.{name}": each for name, each in last.items()} if wrap == "module." else last
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrap == "state_dict" else state, path)
    brought = bring(tmp_path, [path])
    assert all(torch.equal(brought.workspace.target[name], each) for name, each in last.items())


def test_the_last_checkpoint_alone_is_paired_with_itself_and_the_report_says_so(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddm_framework.cli.summaries import print_run

    last = checkpoints(original)[-1]
    done = ddm_framework.run(tiny(tmp_path), [f"target.checkpoint={last}"], out=tmp_path / "run")
    print_run(done)
    assert done.workspace.recipe.matching.pairing == "final"
    assert "pairing: final" in capsys.readouterr().out
    assert "Only the last checkpoint is known" in done.report.read_text()
    assert ddm_framework.open_run(done.path).workspace.recipe.target.checkpoint == last


def test_a_finished_run_is_reused_and_another_checkpoint_is_noticed(original: Path, tmp_path: Path) -> None:
    kept = checkpoints(original)
    path = tmp_path / "net.safetensors"
    path.write_bytes(kept[-1].read_bytes())
    first = bring(tmp_path, [path])
    before = first.report.stat().st_mtime_ns
    assert bring(tmp_path, [path]).report.stat().st_mtime_ns == before
    path.write_bytes(kept[0].read_bytes())
    with pytest.raises(DDMError, match="holds a run with other settings"):
        bring(tmp_path, [path])


def test_inputs_are_normalised_as_the_network_was_trained(original: Path, tmp_path: Path) -> None:
    brought = bring(tmp_path, checkpoints(original)[-1:], "target.mean=[0.5]", "target.std=[0.25]")
    plain = ddm_framework.open_run(original).workspace.data
    data = brought.workspace.data
    assert data.info.mean == (0.5,) and data.info.std == (0.25,)
    torch.testing.assert_close(data.test.images[:], plain.info.to_pixels(plain.test.images[:]) * 4 - 2)


def test_exact_retraining_is_refused_with_the_reason(original: Path, tmp_path: Path) -> None:
    brought = bring(tmp_path, checkpoints(original))
    with pytest.raises(DDMError, match="trained elsewhere"):
        retrained(brought.workspace, brought.workspace.perturbations[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["target.checkpoint=no.pt"], "checkpoint: there is no file"),
        (["target.trajectory=[LAST]"], "`trajectory` belongs to a network trained elsewhere; name its `checkpoint`"),
        (["target.mean=[0.5]"], "`mean` belongs to a network trained elsewhere"),
        (["target.checkpoint=LAST", "target.mean=[0.5]"], "`mean` and `std` go together"),
        (["target.checkpoint=LAST", "target.std=[-1.0]", "target.mean=[0.0]"], "greater than 0"),
        (["target.checkpoint=LAST", "target.trajectory=[LAST]", "matching.step_length=2"], "counted in checkpoints"),
        (["target.checkpoint=LAST", "certificate.retrainings=5"], "cannot be retrained exactly"),
        (["target.checkpoint=LAST", "online.start=initial"], "needs the initial weights"),
        (["target.checkpoint=LAST", "online.replay=1"], "how the network was trained is not known"),
        (["online.replay=1"], r"replay \(1\) must start at a saved checkpoint, .* the nearest is 2"),
        (["online.replay=9"], r"replay \(9\) must start .* the nearest is 4"),
        (["target.chekpoint=LAST"], "did you mean 'checkpoint'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    changes: list[str], message: str, original: Path, tmp_path: Path
) -> None:
    last = str(checkpoints(original)[-1])
    with pytest.raises(RecipeError, match=message):
        ddm_framework.run(tiny(tmp_path), [change.replace("LAST", last) for change in changes], out=tmp_path / "run")


def test_an_inherited_certificate_is_left_out(original: Path, tmp_path: Path) -> None:
    tiny(tmp_path, certificate="{retrainings: 6, singles: 4}").rename(tmp_path / "base.yaml")
    last, own = checkpoints(original)[-1], tmp_path / "own.yaml"
    own.write_text(f"extends: base.yaml\ntarget: {{checkpoint: {last}}}\n")
    assert load_recipe(str(own), load_plugins()).certificate.retrainings == 0
    asked = load_recipe(str(tmp_path / "base.yaml"), load_plugins(), [f"target.checkpoint={last}"])
    assert asked.certificate.retrainings == 0
    own.write_text(f"extends: base.yaml\ntarget: {{checkpoint: {last}}}\ncertificate: {{retrainings: 5}}\n")
    with pytest.raises(RecipeError, match="cannot be retrained exactly"):
        load_recipe(str(own), load_plugins())


def test_target_mean_holds_one_number_a_channel(original: Path, tmp_path: Path) -> None:
    with pytest.raises(DDMError, match="the images have 1, found 2 and 2"):
        bring(tmp_path, checkpoints(original)[-1:], "target.mean=[0.1,0.2]", "target.std=[1.0,1.0]")


def toy_network() -> tuple[Network, dict[str, torch.Tensor]]:
    from ddm_framework.data.splits import DataInfo

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    module.register_buffer("scale", torch.tensor([2.0]))
    info = DataInfo((1, 2, 2), 2, (0.0,), (1.0,), ("a", "b"))
    initial = {name: each.detach() for name, each in module.named_parameters()}
    return Network(module, info, 10, dict(module.named_buffers())), initial


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("1.bias"), r"it lacks 1\.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "it has unknown extra"),
        (lambda state: state.update({"1.weight": torch.zeros(3, 4)}), r"it has another shape of 1\.weight"),
        (lambda state: state.update({"bn.running_var": torch.zeros(3)}), r"holds batch-norm statistics \(bn.running"),
        (lambda state: state["1.bias"].fill_(float("nan")), r"1\.bias holds NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, message: str) -> None:
    network, initial = toy_network()
    state = {name: each.clone() for name, each in initial.items()}
    change(state)
    with pytest.raises(DDMError, match=message):
        fitted(network, initial, state, Path("net.pt"))


def test_constants_may_stand_in_the_file() -> None:
    network, initial = toy_network()
    half = {name: each.half() for name, each in initial.items()}
    found, constants = fitted(network, initial, {**half, "scale": torch.tensor([3.0])}, Path("net.pt"))
    assert set(found) == set(initial) and all(each.dtype == torch.float32 for each in found.values())
    assert torch.equal(constants["scale"], torch.tensor([3.0]))


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(DDMError, match="which could run code when read"):
        read_state(tmp_path / "net.pt")


def test_a_network_that_knows_nothing_is_remarked_upon(original: Path, tmp_path: Path) -> None:
    state = load_file(checkpoints(original)[-1])
    head = next(name for name in state if state[name].ndim == 2)
    rolled = {**state, head: state[head].roll(1, 0), head.replace("weight", "bias"): state[head[:-6] + "bias"].roll(1)}
    save_file(rolled, tmp_path / "rolled.safetensors")
    brought = bring(tmp_path, [tmp_path / "rolled.safetensors"])
    assert "may be in another order than the data set" in brought.report.read_text()


def test_an_answer_repeats_that_the_network_knows_nothing(tmp_path: Path) -> None:
    from PIL import Image

    untrained = ["training.lr=1e-20", "training.epochs=2"]
    run = ddm_framework.run(tiny(tmp_path), untrained, out=tmp_path / "run")
    assert any("no better than chance" in note for note in run.metrics["notes"])
    Image.new("L", (6, 6), 99).save(tmp_path / "one.png")
    for asked in (["--images", tmp_path / "one.png"], ["--without", "0"]):
        status, out, err = ddm("attribute", run.path, *asked)
        assert status == 0, err
        assert "no better than chance" in " ".join(out.split())


def test_data_of_one_class_are_refused_by_a_recipe_too(tmp_path: Path) -> None:
    import numpy as np

    recipe = tiny(tmp_path)
    with np.load(tmp_path / "data.npz") as found:
        arrays = dict(found)
    np.savez(tmp_path / "data.npz", **{**arrays, "y_train": arrays["y_train"] * 0, "y_test": arrays["y_test"] * 0})
    assert "the data have one class" in refused("run", recipe, "--out", tmp_path / "run")


def pixels(folder: Path) -> dict[str, torch.Tensor]:
    import numpy as np

    save_data(folder / "data.npz")
    with np.load(folder / "data.npz") as found:
        return {name: torch.from_numpy(found[name]) for name in found.files}


class TestFromModule:
    """`from_module`: a module and data in hand."""

    def small(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 3)
        )

    def trained(self, folder: Path) -> tuple[torch.nn.Module, list[dict[str, torch.Tensor]], Any, Any]:
        data, module = pixels(folder), self.small()
        images = data["x_train"][:, None]
        kept, optimizer = [], torch.optim.SGD(module.parameters(), 0.2)
        for _ in range(4):
            kept.append({name: each.clone() for name, each in module.state_dict().items()})
            for _ in range(5):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(images), data["y_train"]).backward()
                optimizer.step()
        return module, kept, (images, data["y_train"]), (data["x_test"][:, None], data["y_test"])

    def ask(self, folder: Path, module: torch.nn.Module, train: Any, test: Any, **more: Any) -> ddm_framework.Run:
        few = ["clusterer.clusters_per_class=2", "matching.steps=4", "study.show=1", "threads=1"]
        return ddm_framework.from_module(module, train, test, settings=few, out=folder / "run", **more)

    def test_the_network_is_the_users_own(self, tmp_path: Path) -> None:
        module, kept, train, test = self.trained(tmp_path)
        run = self.ask(tmp_path, module, train, test, checkpoints=kept)
        logits = module(test[0]).detach()
        torch.testing.assert_close(run.workspace.target_logits(run.workspace.queries_of("test").images), logits)
        assert run.workspace.recipe.matching.pairing == "offset"
        assert run.attribute(test[0], test[1]).effect.shape == (12, 6, 1)
        torch.testing.assert_close(run.unlearn([0])(test[0]), logits, atol=0.5, rtol=0)

    def test_it_takes_up_what_the_folder_holds(self, tmp_path: Path) -> None:
        module, kept, train, test = self.trained(tmp_path)
        before = self.ask(tmp_path, module, train, test, checkpoints=kept).report.stat().st_mtime_ns
        assert self.ask(tmp_path, module, train, test, checkpoints=kept).report.stat().st_mtime_ns == before

    def test_without_checkpoints_the_end_of_training_is_all_there_is(self, tmp_path: Path) -> None:
        module, _, train, test = self.trained(tmp_path)
        assert self.ask(tmp_path, module, train, test).workspace.recipe.matching.pairing == "final"

    def test_data_sets_and_files_do_as_well(self, tmp_path: Path) -> None:
        module, kept, train, test = self.trained(tmp_path)
        torch.save(kept[0], tmp_path / "first.pt")
        run = self.ask(
            tmp_path,
            module,
            torch.utils.data.TensorDataset(*train),
            torch.utils.data.TensorDataset(*test),
            checkpoints=[tmp_path / "first.pt"],
            class_names=["left", "middle", "right"],
        )
        assert run.workspace.info.class_names == ("left", "middle", "right")
        assert len(run.workspace.trajectory) == 2

    def test_the_folder_says_how_to_open_it_again(self, tmp_path: Path) -> None:
        module, _, train, test = self.trained(tmp_path)
        run = self.ask(tmp_path, module, train, test)
        with pytest.raises(DDMError, match="call from_module with the same module and data"):
            ddm_framework.open_run(run.path)

    def test_batch_norm_without_statistics_is_refused(self, tmp_path: Path) -> None:
        _, _, train, test = self.trained(tmp_path)
        norm = torch.nn.BatchNorm2d(1, track_running_stats=False)
        mixing = torch.nn.Sequential(norm, torch.nn.Flatten(), torch.nn.Linear(36, 3))
        with pytest.raises(DDMError, match=r"batch norm at '0'.*keeps no statistics"):
            self.ask(tmp_path, mixing, train, test)

    def test_something_else_than_data_is_refused(self, tmp_path: Path) -> None:
        module, _, _, test = self.trained(tmp_path)
        with pytest.raises(DDMError, match="train: give"):
            self.ask(tmp_path, module, [1, 2, 3], test)
