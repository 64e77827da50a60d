"""From Python: a run, a new question to it, and the network without some of its data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_fixtures import asked_tiny, copied, finished_tiny, plugin, save_data, stamps, tensors, tiny
from torch import Tensor, nn

import ddm_framework
from ddm_framework import DDMError, RecipeError
from ddm_framework.api import Run
from ddm_framework.errors import RunFolderError
from ddm_framework.network.stacks import norms


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_tiny(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ddm_framework.open_run(asked_tiny(tmp_path_factory.getbasetemp() / "tiny"))


@pytest.fixture
def done(original: Path, tmp_path: Path) -> Path:
    """A finished run that this test may break; its recipe and data lie beside it."""
    return copied(original, tmp_path)


def queries(run: Run) -> tuple[Tensor, Tensor]:
    test = run.workspace.data.test
    return test.images, test.labels


def test_a_question_about_the_queries_of_the_run_has_the_stored_answer(run: Run) -> None:
    images, labels = queries(run)
    answer = run.attribute(images, labels)
    stored = tensors(run.path)
    assert torch.equal(answer.matrix.float(), stored["online/attribution.safetensors:0.output_shift.matrix"])
    assert torch.equal(answer.intercept.float(), stored["online/attribution.safetensors:0.output_shift.intercept"])
    assert torch.equal(answer.effect, -answer.matrix)
    assert answer.effect.shape == (12, 6, 1)


def test_the_effect_is_the_change_of_behaviour_of_the_network_without_the_cluster(run: Run) -> None:
    images, labels = queries(run)
    answer = run.attribute(images, labels, "margin")
    module = run.unlearn([4])
    reference = run.workspace.reference(run.queries(images, labels))
    without = answer.objective.measure(module(images), reference)
    assert torch.allclose(without - answer.target_behaviour, answer.effect[:, 4], atol=1e-4)


def test_labels_are_wanted_only_where_the_objective_needs_them(run: Run) -> None:
    images, labels = queries(run)
    assert run.attribute(images).effect.shape == (12, 6, 1)
    assert run.attribute(images, labels, "correctness").effect.shape == (12, 6, 1)
    with pytest.raises(DDMError, match="'correctness' needs the queries' labels, and there are none"):
        run.attribute(images, objective="correctness")


def test_an_objective_of_sets_and_one_of_several_behaviours_can_be_asked_for(run: Run) -> None:
    images, labels = queries(run)
    assert run.attribute(images, labels, "performance", metric="f1").effect.shape == (1, 6, 1)
    assert run.attribute(images, objective="predictions").effect.shape == (12, 6, 3)


def test_an_unknown_objective_and_a_wrong_option_are_named(run: Run) -> None:
    images, _ = queries(run)
    with pytest.raises(DDMError, match="unknown objective 'margni'; did you mean 'margin'"):
        run.attribute(images, objective="margni")
    with pytest.raises(DDMError, match="has no option 'metrik'; did you mean 'metric'"):
        run.attribute(images, objective="performance", metrik="f1")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 5, 6), r"images must be \(N, 1, 6, 6\) with N ≥ 1, found \(2, 1, 5, 6\)"),
        (torch.zeros(1, 6, 6), r"found \(1, 6, 6\)"),
        (torch.zeros(0, 1, 6, 6), r"found \(0, 1, 6, 6\)"),
        (torch.full((1, 1, 6, 6), torch.nan), "hold NaN or infinity"),
        (torch.zeros(1, 1, 6, 6, dtype=torch.uint8), r"must be float32 and normalised, found torch\.uint8"),
    ],
)
def test_images_that_do_not_fit_are_refused(run: Run, images: Tensor, message: str) -> None:
    with pytest.raises(DDMError, match=message):
        run.attribute(images)


@pytest.mark.parametrize("labels", [[0], [0, 3], [0, -1], [0.0, 1.0], [[0, 1]]])
def test_labels_that_do_not_fit_are_refused(run: Run, labels: list[float]) -> None:
    with pytest.raises(DDMError, match="labels must be 2 class ids from 0 to 2"):
        run.attribute(torch.zeros(2, 1, 6, 6), torch.tensor(labels))


def test_a_question_does_no_offline_work_and_writes_nothing(done: Path) -> None:
    before = stamps(done)
    opened = ddm_framework.open_run(done)
    opened.attribute(*queries(opened))
    opened.unlearn([0])
    assert stamps(done) == before


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach()[None] for name, each in module.named_parameters()}


def test_unlearning_moves_the_target_by_the_step_size(run: Run) -> None:
    target = {name: each[None] for name, each in run.workspace.target.items()}
    for cluster in range(6):
        module = run.unlearn([cluster])
        moved = {name: each - target[name] for name, each in weights(module).items()}
        assert float(norms(moved) / norms(target)) == pytest.approx(5e-4, rel=1e-3)
        assert not module.training


def test_unlearning_several_clusters_adds_up(run: Run) -> None:
    target = run.workspace.target

    def moved(clusters: list[int]) -> Tensor:
        return torch.cat([(each[0] - target[name]).flatten() for name, each in weights(run.unlearn(clusters)).items()])

    assert torch.allclose(moved([0, 3, 5]), moved([0]) + moved([3]) + moved([5]), atol=1e-6)
    assert torch.equal(moved([3, 0, 3]), moved([0, 3]))
    with pytest.raises(DDMError, match="name at least one cluster to unlearn, from 0 to 5"):
        moved([])


@pytest.mark.parametrize("clusters", [[6], [-1], [0, 99]])
def test_a_cluster_that_is_none_cannot_be_unlearned(run: Run, clusters: list[int]) -> None:
    with pytest.raises(DDMError, match=rf"there is no cluster {max(clusters, key=abs)}; clusters are 0 to 5"):
        run.unlearn(clusters)


def test_a_run_and_what_is_opened_of_it_are_the_same(tmp_path: Path) -> None:
    made = ddm_framework.run(tiny(tmp_path), out=tmp_path / "run")
    opened = ddm_framework.open_run(str(made.path))
    assert made.metrics == opened.metrics
    assert made.path == opened.path == tmp_path / "run"
    assert opened.report == tmp_path / "run" / "report.html"
    assert opened.workspace.recipe.name == "tiny"
    assert made.workspace.recipe.as_dict() == opened.workspace.recipe.as_dict()
    assert torch.equal(made.workspace.synset.images, opened.workspace.synset.images)


def test_a_moved_run_can_be_opened(done: Path, tmp_path: Path) -> None:
    moved = done.rename(tmp_path / "moved")
    opened = ddm_framework.open_run(moved)
    assert opened.attribute(*queries(opened)).effect.shape == (12, 6, 1)


def test_only_a_finished_run_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run of ddm"):
        ddm_framework.open_run(tmp_path)
    with pytest.raises(RunFolderError, match="holds no run of ddm"):
        ddm_framework.open_run(tmp_path / "nowhere")


def test_a_device_that_is_none_is_refused(original: Path) -> None:
    with pytest.raises(RecipeError, match="device"):
        ddm_framework.open_run(original, device="gpu")


def test_other_data_than_the_run_was_made_with_answer_no_question(done: Path) -> None:
    ddm_framework.run(done.parent / "tiny.yaml", out=done)  # so that the run knows the data beside it
    save_data(done.parent / "data.npz", seed=1)
    opened = ddm_framework.open_run(done)
    with pytest.raises(RunFolderError, match=r"the data set npz is not what it was when .* was made"):
        _ = opened.workspace.data


@pytest.mark.parametrize(
    ("old", "new"), [("width: 4", "width: 5"), ("seed: 3", "seed: 4"), ("step_length: 2", "step_length: 4")]
)
def test_a_written_recipe_that_was_edited_is_refused(done: Path, old: str, new: str) -> None:
    path = done / "recipe.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RunFolderError, match=r"holds a run with other settings"):
        ddm_framework.open_run(done)


@pytest.mark.parametrize("content", ["", "[]", "seed: [", "dataset: 3"])
def test_a_written_recipe_that_is_broken_is_an_error_in_words(done: Path, content: str) -> None:
    (done / "recipe.yaml").write_text(content)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        ddm_framework.open_run(done)


def test_a_manifest_without_the_data_is_an_error_in_words(done: Path) -> None:
    manifest = done / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"class_names"', '"names"'))
    with pytest.raises(RunFolderError, match="says nothing of the data"):
        _ = ddm_framework.open_run(done).workspace.info


BACKBONE = """
def target(data, /):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(data.num_values, data.num_classes), {more})
"""


def test_a_run_is_opened_with_the_plugins_it_was_made_with(tmp_path: Path) -> None:
    mine = plugin(tmp_path / "mine.py", "backbone", "mine", BACKBONE.format(more="torch.nn.Identity()"))
    recipe = tiny(tmp_path, backbone="{use: mine}")
    run = ddm_framework.run(recipe, out=tmp_path / "run", plugins=[mine])
    assert ddm_framework.open_run(run.path, plugins=[str(mine)]).metrics == run.metrics
    with pytest.raises(RecipeError, match="unknown backbone 'mine'"):
        ddm_framework.open_run(run.path)
    plugin(mine, "backbone", "mine", BACKBONE.format(more="torch.nn.Tanh()"))
    with pytest.raises(RunFolderError, match=r"backbone\.code"):
        ddm_framework.open_run(run.path, plugins=[mine])


def test_a_new_question_may_bring_a_new_plugin(original: Path, tmp_path: Path) -> None:
    source = '@objective(more_influential="larger")\ndef target(logits, reference, /):\n    return logits[:, :1]'
    mine = plugin(tmp_path / "mine.py", "objective", "mine", source)
    opened = ddm_framework.open_run(original, plugins=[mine])
    assert opened.attribute(*queries(opened), objective="mine").effect.shape == (12, 6, 1)
