"""README.md, docs/own_network.md and RESULTS.md show the committed results."""

import runpy
from pathlib import Path

import pytest

README = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "readme.py"))


@pytest.mark.parametrize("page", ["README.md", "own_network.md"])
def test_figures_are_those_of_the_result_files(page: str) -> None:
    ((path, text),) = [(path, text) for path, text in README["pages"]().items() if path.name == page]
    assert path.read_text(encoding="utf-8") == text, f"{page} is stale: run python benchmarks/readme.py"


def test_the_results_page_shows_the_committed_results() -> None:
    paper = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "paper.py"))
    written = paper["PAGE"].read_text(encoding="utf-8")
    assert written == paper["page"](), "RESULTS.md is stale: run python benchmarks/paper.py"


def test_a_part_of_a_data_set_keeps_every_setting_of_the_recipe(tmp_path: Path) -> None:
    paper = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "paper.py"))
    (tmp_path / "cifar10_6k.npz").touch()
    settings = paper["source"](paper["RECIPES"] / "table7_cifar10_small.yaml", tmp_path)
    assert settings[:2] == ["dataset.use=npz", f"dataset.path={tmp_path / 'cifar10_6k.npz'}"]
    assert sorted(settings[2:]) == ["dataset.test_size=1000", "dataset.train_size=1500", "dataset.validation=0.2"]
