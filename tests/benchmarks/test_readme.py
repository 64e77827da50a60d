"""README.md, RESULTS.md and pages in docs/ show the committed results, and no result is older than its recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fidelity
import paper
import pytest
import readme
import stored
import torch
from ddm_studies.comparison.intervals import mean_interval


@pytest.mark.parametrize(
    "page", ["README.md", "own_network.md", "dial.md", "own_images.md", "peers.md", "many_machines.md"]
)
def test_figures_are_those_of_the_result_files(page: str) -> None:
    ((path, text),) = [(path, text) for path, text in readme.pages().items() if path.name == page]
    assert path.read_text(encoding="utf-8") == text, f"{page} is stale: run python benchmarks/readme.py"


def test_six_thousand_queries_take_little_more_memory_than_a_hundred() -> None:
    assert stored.read(stored.RESULTS / "queries.json")["more"] <= 150


def test_results_sentences_and_page_are_what_code_and_recipes_say() -> None:
    assert list(paper.problems()) == []


def test_every_small_variant_has_a_result() -> None:
    assert [name for name in paper.names() if not paper.is_stored(name)] == []


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of one result and its page, which a test may spoil."""
    name = "costs_mnist"
    shutil.copy(paper.stored(name), tmp_path)
    monkeypatch.setattr(paper, "STORED", tmp_path)
    monkeypatch.setattr(paper, "PAGE", tmp_path / "RESULTS.md")
    (tmp_path / "RESULTS.md").write_text(paper.page(), encoding="utf-8")
    assert list(paper.problems()) == []
    return paper.stored(name)


def changed(path: Path, place: str, value: Any) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    inner = result
    *way, last = place.split(".")
    for key in way:
        inner = inner[int(key) if key.isdecimal() else key]
    inner[int(last) if last.isdecimal() else last] = value
    path.write_text(json.dumps(result), encoding="utf-8")
    paper.PAGE.write_text(paper.page(), encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("comparison.sentences.0", "DDM is best.", "the code says something else of the stored figures"),
        ("comparison.claims.0.outcome", "holds, surely", "the code says something else of the stored figures"),
        ("metrics.costs.seconds.leave_one_out", 1e-9, "the code says something else of the stored figures"),
        ("recipe_digest", "of another recipe", "the result is older than the recipe"),
    ],
)
def test_what_is_stale_is_named(copied: Path, place: str, value: Any, said: str) -> None:
    changed(copied, place, value)
    (problem,) = paper.problems()
    assert problem.startswith(f"costs_mnist: {said}")


def test_a_stale_page_is_named_and_sentences_can_be_said_anew(copied: Path) -> None:
    changed(copied, "comparison.sentences.0", "DDM is best.")
    paper.say_anew("costs_mnist")
    assert list(paper.problems()) == ["RESULTS.md is stale; run benchmarks/paper.py"]
    paper.PAGE.write_text(paper.page(), encoding="utf-8")
    assert list(paper.problems()) == []


def test_the_page_begins_with_a_row_for_each_table_and_figure() -> None:
    rows = [line for line in paper.page().split("## ")[0].splitlines() if line.startswith("| ")]
    sources = {stored.read(paper.stored(name))["comparison"]["source"] for name in paper.names()}
    assert {row.split(" | ")[0].removeprefix("| ") for row in rows[1:]} == sources
    assert [paper.order(each) for each in ("Table 1", "Table 2", "Fig. 3", "Abstract")] == sorted(
        paper.order(each) for each in ("Abstract", "Fig. 3", "Table 2", "Table 1")
    )


def test_outcomes_of_several_data_sets_are_one_word_where_they_agree() -> None:
    alike = [("table1_mnist", {"outcome": "holds"}), ("table1_cifar10", {"outcome": "holds"})]
    assert paper.outcome(alike) == "**holds**"
    apart = [("table1_mnist", {"outcome": "holds"}), ("table6_labels_mnist", {"outcome": "not told"})]
    assert paper.outcome(apart) == "MNIST: **holds**; MNIST, labels: **not told**"


def test_a_part_of_a_data_set_keeps_every_setting_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "cifar10_6k.npz").touch()
    settings = paper.source(paper.RECIPES / "table7_cifar10_small.yaml", tmp_path)
    assert settings[:2] == ["dataset.use=npz", f"dataset.path={tmp_path / 'cifar10_6k.npz'}"]
    assert sorted(settings[2:]) == ["dataset.test_size=1000", "dataset.train_size=1500", "dataset.validation=0.2"]


@pytest.mark.parametrize(("name", "seeds"), [("fidelity_digits", fidelity.SEEDS), ("fidelity_mnist", (0,))])
def test_every_method_and_seed_has_a_result_that_is_not_older_than_its_recipe(
    name: str, seeds: tuple[int, ...]
) -> None:
    methods = fidelity.methods(name)
    for seed in seeds:
        stale = [each["use"] for each in methods if not fidelity.is_current(name, seed, each)]
        assert stale == [], f"seed {seed}: run python benchmarks/fidelity.py {name}"


def test_a_further_method_leaves_the_results_of_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = fidelity.methods("fidelity_digits")[:2]
    before = fidelity.digest("fidelity_digits", one)
    assert before != fidelity.digest("fidelity_digits", other)
    whole = stored.tree(stored.RECIPES / "fidelity_digits.yaml")
    more = {**whole, "study": {**whole["study"], "methods": [*whole["study"]["methods"], {"use": "new"}]}}
    monkeypatch.setattr(stored, "tree", lambda _: more)
    assert fidelity.digest("fidelity_digits", one) == before
    monkeypatch.setattr(stored, "tree", lambda _: {**more, "matching": {"steps": 1}})
    assert fidelity.digest("fidelity_digits", one) != before


def test_who_is_clearly_ahead_and_behind_is_told_and_retraining_is_left_out() -> None:
    near = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    values = {"ddm": near * 0, "better": near + 10, "worse": near - 10, "alike": near, "exact": near + 99}
    judged = [readme.Figures(name, each, None, (each, each), []) for name, each in values.items()]
    told = readme._beside_ddm(
        judged, "share", lambda figures: figures.share, lambda each: mean_interval(each.flatten())
    )
    assert told == (
        "By share, of the methods that do not retrain, clearly ahead of ddm: `better`; clearly behind it: `worse`;"
        " not told from it: `alike`."
    )
