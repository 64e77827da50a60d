"""The attribution study stores W, measures agreement as it says, and holds for every objective and all queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ddm_studies import attribution
from torch import Tensor

import ddm_framework
from ddm_framework import DDMError, Report, Workspace
from ddm_framework.answers.hierarchical import search
from ddm_framework.api import Run
from ddm_framework.report.blocks import Card, Clusters, Table, Text

RECIPE = """\
seed: 1
device: cpu
threads: 1
dataset: {use: npz, path: data.npz, validation: 0.25}
backbone: {use: convnet, width: 4, depth: 1}
clusterer: {use: kmeans, clusters_per_class: 2, restarts: 1}
distance: {use: cosine}
training: {epochs: 2, lr: 0.1, batch_size: 16}
matching: {steps: 4, step_length: 1}
objectives: [{use: output_shift}, {use: margin}, {use: predictions}, {use: performance, metric: f1}]
study: {use: attribution, queries: validation}
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run whose target errs now and then: three classes of noisy stripes, some of them mislabelled."""
    folder = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(0)
    labels = np.arange(80) % 3
    stripes = np.stack([np.roll(np.tile([1.0, 0.0, 0.0], (6, 2)), shift, 1) for shift in range(3)])
    images = (stripes[labels] * 0.5 + random.uniform(0, 0.5, (80, 6, 6))).astype(np.float32)
    labels[random.choice(80, 16, replace=False)] = 0
    split = {"x_train": images[:56], "y_train": labels[:56], "x_test": images[56:], "y_test": labels[56:]}
    np.savez(folder / "data.npz", **split)
    (folder / "study.yaml").write_text(RECIPE)
    return ddm_framework.run(folder / "study.yaml", out=folder / "run")


@pytest.fixture
def workspace(run: Run) -> Workspace:
    return ddm_framework.open_run(run.path).workspace


def using(workspace: Workspace, *names: str, **options: Any) -> Workspace:
    """The same run with other objectives."""
    workspace.__dict__["objectives"] = tuple(workspace.objective(name, **options) for name in names)
    return workspace


def blocks(report: Report, kind: type) -> list[Any]:
    return [block for section in report.sections for block in section.blocks if isinstance(block, kind)]


def headings(report: Report) -> list[str]:
    return [section.heading for section in report.sections]


def test_the_matrix_of_every_objective_is_stored_under_its_position_and_name(workspace: Workspace) -> None:
    report = attribution.run(workspace)
    shapes = {name: tuple(each.shape) for name, each in report.tensors.items()}
    assert shapes == {
        "0.output_shift.matrix": (24, 6, 1),
        "0.output_shift.intercept": (24, 1),
        "1.margin.matrix": (24, 6, 1),
        "1.margin.intercept": (24, 1),
        "2.predictions.matrix": (24, 6, 3),
        "2.predictions.intercept": (24, 3),
        "3.performance.matrix": (1, 6, 1),
        "3.performance.intercept": (1, 1),
    }
    asked = workspace.queries_of("test")
    for index, objective in enumerate(workspace.objectives[:3]):
        expected = workspace.attribution(asked, objective)
        assert torch.equal(report.tensors[f"{index}.{objective.name}.matrix"], expected.matrix.float())
    judged = workspace.attribution(workspace.queries_of("validation"), workspace.objectives[3])
    assert torch.equal(report.tensors["3.performance.matrix"], judged.matrix.float())


def agreement(workspace: Workspace, matrix: Tensor, *, larger: bool) -> float:
    """Share of the correctly classified test images whose top cluster is of the predicted class, image by image."""
    test, found = workspace.data.test, []
    predicted = workspace.target_logits(test.images).argmax(1)
    for image, label in enumerate(test.labels.tolist()):
        if int(predicted[image]) == label:
            effect = -matrix[image, :, 0] if larger else matrix[image, :, 0]
            found.append(int(workspace.partition.classes[int(effect.argmax())]) == label)
    assert 0 < len(found) < len(test)
    return sum(found) / len(found)


def test_agreement_counts_correctly_classified_queries_alone(workspace: Workspace) -> None:
    report = attribution.run(workspace)
    metrics = report.metrics["attribution"]
    shift = agreement(workspace, report.tensors["0.output_shift.matrix"], larger=True)
    margin = agreement(workspace, report.tensors["1.margin.matrix"], larger=False)
    assert metrics["output_shift"]["top_class_agreement"] == pytest.approx(shift)
    assert metrics["margin"]["top_class_agreement"] == pytest.approx(margin)
    assert metrics["top_class_agreement"] == metrics["output_shift"]["top_class_agreement"]
    assert "predictions" not in metrics
    assert "performance" not in metrics
    assert metrics["num_queries"] == 24
    wrong = workspace.target_logits(workspace.data.test.images).argmax(1) != workspace.data.test.labels
    assert metrics["num_misread"] == int(wrong.sum())
    assert report.answer.startswith(f"The network misreads {int(wrong.sum())} of {len(wrong)} queries. Below, misread")


def test_hierarchical_search_is_compared_with_the_flat_one_query_by_query(workspace: Workspace) -> None:
    metrics = attribution.run(workspace).metrics["attribution"]["hierarchical"]
    asked, objective = workspace.queries_of("test"), workspace.objectives[0]
    flat = objective.ranking(workspace.attribution(asked, objective).effect)[:, 0].tolist()
    found = [search(workspace, asked.take(torch.tensor([query])), objective) for query in range(len(asked))]
    classes = workspace.partition.classes.tolist()
    same_class = [classes[top] == each.label for top, each in zip(flat, found, strict=True)]
    same_cluster = [top == each.cluster for top, each in zip(flat, found, strict=True)]
    assert metrics["same_class_as_flat"] == pytest.approx(sum(same_class) / 24)
    assert metrics["same_cluster_as_flat"] == pytest.approx(sum(same_cluster) / 24)
    assert (metrics["num_finetunings"], metrics["num_finetunings_flat"]) == (5, 6)


def test_misclassified_queries_are_shown_first_and_marked(workspace: Workspace) -> None:
    test = workspace.data.test
    wrong = (workspace.target_logits(test.images).argmax(1) != test.labels).nonzero()[:, 0].tolist()
    assert 0 < len(wrong) < 20
    report = attribution.run(workspace, show=len(wrong) + 2)
    cards = blocks(report, Card)
    assert [card.heading.partition(":")[0] for card in cards[:-2]] == [f"test {query}" for query in wrong]
    assert [card.alarm for card in cards] == [True] * len(wrong) + [False] * 2
    assert torch.equal(cards[0].picture, test.images[wrong[0]])
    notes = [block.text for block in blocks(report, Text)]
    assert f"{len(cards)} of 24 queries, misclassified ones first ({len(wrong)} of these)." in notes


def test_a_card_names_clusters_on_both_sides_of_the_prediction(workspace: Workspace) -> None:
    report = attribution.run(using(workspace, "margin"), show=1)
    (card,) = blocks(report, Card)
    made, against = (block for block in card.blocks if isinstance(block, Clusters))
    assert made.heading.startswith("made it say ")
    assert against.heading == "spoke against it"
    query = int(card.heading.split()[1].rstrip(":"))
    effect = -report.tensors["0.margin.matrix"][query, :, 0]
    # The query is misread and the margin is its label's: what made the network say another class lowers it.
    assert list(made.ids) == effect.argsort(descending=True)[: len(made.ids)].tolist()
    assert list(against.ids) == effect.argsort()[: len(against.ids)].tolist()
    assert torch.allclose(torch.tensor(made.values), effect[list(made.ids)], atol=1e-6)


@pytest.mark.parametrize(("queries", "count"), [("all", 24), ("validation", 14), (1, 1), (7, 7), (10_000, 24)])
def test_queries_are_all_or_some_test_images_or_the_validation_split(
    workspace: Workspace, queries: Any, count: int
) -> None:
    report = attribution.run(using(workspace, "output_shift"), queries=queries)
    assert report.metrics["attribution"]["num_queries"] == count
    assert len(report.tensors["0.output_shift.matrix"]) == count
    assert len(blocks(report, Card)) == min(count, 20)


def test_nothing_need_be_shown(workspace: Workspace) -> None:
    report = attribution.run(workspace, show=0)
    assert blocks(report, Card) == []
    assert "Hierarchical search" not in headings(report)
    assert report.metrics["attribution"]["top_class_agreement"] >= 0


def test_an_objective_of_several_behaviours_alone_has_no_ranking(workspace: Workspace) -> None:
    report = attribution.run(using(workspace, "predictions"))
    assert report.metrics["attribution"].keys() == {"num_queries", "num_misread"}
    assert blocks(report, Card) == []
    assert any("has no single rank" in block.text for block in blocks(report, Text))
    assert report.answer.endswith("queries. 6 clusters were attributed; see below.")


def test_a_whole_set_is_judged_on_the_validation_split_or_on_the_queries(workspace: Workspace) -> None:
    using(workspace, "performance", metric="loss")
    validation = attribution.run(workspace).tensors["0.performance.intercept"]
    queries = attribution.run(workspace, sets="queries").tensors["0.performance.intercept"]
    for split, intercept in (("validation", validation), ("test", queries)):
        images = getattr(workspace.data, split)
        loss = torch.nn.functional.cross_entropy(workspace.target_logits(images.images), images.labels)
        assert float(intercept + attribution_sum(workspace, split)) == pytest.approx(float(loss), abs=1e-4)


def attribution_sum(workspace: Workspace, split: str) -> float:
    """With every cluster there, behaviour is the intercept and all of W."""
    return float(workspace.attribution(workspace.queries_of(split), workspace.objectives[0]).matrix.sum())


def test_a_whole_set_ranks_clusters_by_what_their_loss_costs(workspace: Workspace) -> None:
    report = attribution.run(using(workspace, "performance", metric="loss"))
    effect = -report.tensors["0.performance.matrix"][0, :, 0]
    worst, best = blocks(report, Clusters)
    assert list(worst.ids) == effect.argsort(descending=True).tolist()
    assert list(best.ids) == effect.argsort().tolist()


def test_the_clusters_matched_worst_are_listed(workspace: Workspace) -> None:
    table = next(table for table in blocks(attribution.run(workspace), Table) if "matched worst" in table.caption)
    cosines = [row[3] for row in table.rows]
    assert cosines == sorted(workspace.synset.cosine.tolist())[:5]
    assert [row[2] for row in table.rows] == [int(workspace.partition.sizes[row[1]]) for row in table.rows]


def test_without_a_validation_split_what_needs_it_is_refused_with_advice(workspace: Workspace) -> None:
    workspace.data.validation.images.resize_(0, 1, 6, 6)
    workspace.data.validation.labels.resize_(0)
    with pytest.raises(DDMError, match=r"split is empty, so there is no query; set dataset\.validation, or study\.q"):
        attribution.run(workspace, queries="validation")
    with pytest.raises(DDMError, match=r"so no set-level objective can be measured; set dataset\.validation"):
        attribution.run(workspace)
    assert attribution.run(workspace, sets="queries").metrics
    assert attribution.run(using(workspace, "margin")).metrics


def test_a_target_that_is_never_right_has_no_agreement(workspace: Workspace) -> None:
    labels = workspace.data.test.labels
    labels.copy_((workspace.target_logits(workspace.data.test.images).argmax(1) + 1) % 3)
    report = attribution.run(using(workspace, "output_shift"))
    assert np.isnan(report.metrics["attribution"]["top_class_agreement"])
    assert report.answer.startswith("The network misreads 24 of 24 queries.")
    assert all(card.alarm for card in blocks(report, Card))


@pytest.mark.parametrize(
    ("direction", "words"),
    [("synset", "synthetic image"), ("gradient", "real gradients"), ("influence", "influence function")],
)
@pytest.mark.parametrize("more", [{}, {"replay": 1}, {"anchor": 1.0}], ids=str)
def test_where_the_step_leads_is_told_and_answers_every_question(
    run: Run, direction: str, words: str, more: dict[str, Any]
) -> None:
    other = run.workspace.with_online(direction=direction, step_size=0.01, **more)
    found = attribution.run(other, show=1)
    (told,) = [block for block in found.sections[0].blocks if isinstance(block, Text)]
    assert words in told.text
    changed = run.with_online(direction=direction, step_size=0.01, **more)
    queries = changed.workspace.queries_of("test")
    before = changed.workspace.target_logits(queries.images)
    for asked in ({"clusters": [1]}, {"classes": [0]}, {"samples": [0, 5]}):
        after = changed.without(**asked).predict(queries.images)
        assert bool(torch.isfinite(after).all())
        assert not torch.equal(after, before.softmax(1))
