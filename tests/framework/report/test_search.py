"""The report's search and filters in a real browser, opened as a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import IN_A_BROWSER, PATIENCE, chromium

from ddm_framework.data.splits import DataInfo
from ddm_framework.report import Card, Report, Section, Table, render

pytestmark = IN_A_BROWSER
INFO = DataInfo((1, 8, 8), 3, (0.3,), (0.4,), ("cat", "dog", "<b>eel</b>"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def report_of(number: int) -> str:
    """Every fifth query is an error; the first four have cards."""
    names, alarms = [INFO.class_names[k % 3] for k in range(number)], [k % 5 == 0 for k in range(number)]
    rows = [[f"test {k}", name, "dog", 0.5] for k, name in enumerate(names)]
    cards = [
        Card(f"test {k}: predicted {names[k]}", torch.zeros(1, 8, 8), [], alarms[k], names[k])
        for k in range(min(4, number))
    ]
    table = Table(["query", "predicted", "labelled", "probability"], rows, "Every query", alarms, names)
    nothing: dict[str, Any] = {"facts": {}, "seconds": {}, "members": {}, "cluster_names": {}, "recipe_yaml": ""}
    return render(Report([Section("Queries", [*cards, table])]), title="t", info=INFO, **nothing)


def shown(page: Any, what: str) -> list[str]:
    return [
        each.split("\t")[0].split(":")[0]
        for each in page.locator(f"{what}[data-alarm]:not([hidden])").all_inner_texts()
    ]


def test_search_and_filters(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report_of(60), encoding="utf-8")
    page, wrong = browser.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("details.long[open]").count() == 0
    page.fill("#search-text", " TEST  1 ")
    page.wait_for_selector("#search-count:has-text('11 of 60')")
    assert page.locator("details.long[open]").count() == 1
    assert shown(page, "tr") == [f"test {k}" for k in (1, *range(10, 20))]
    assert shown(page, "article") == ["test 1"]
    page.check("#search-alarms")
    assert shown(page, "tr") == ["test 10", "test 15"]
    page.fill("#search-text", "")
    page.wait_for_selector("#search-count:has-text('12 of 60')")
    assert page.locator("#search-group option").all_inner_texts() == ["every class", "<b>eel</b>", "cat", "dog"]
    page.select_option("#search-group", "<b>eel</b>")
    assert shown(page, "tr") == [f"test {k}" for k in range(60) if k % 5 == 0 and k % 3 == 2]
    page.uncheck("#search-alarms")
    page.select_option("#search-group", "")
    assert page.inner_text("#search-count") == ""
    assert len(shown(page, "tr")) == 60
    assert wrong == []


def test_a_few_queries_need_no_search(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report_of(2), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert not page.locator("#search").is_visible()


def test_without_scripts_everything_is_there(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report_of(60), encoding="utf-8")
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert not page.locator("#search").is_visible()
    page.click("details.long summary")
    assert page.locator("tr[data-alarm]").count() == 60
