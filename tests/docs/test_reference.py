"""The generated references say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "reference.py"))


@pytest.mark.parametrize("page", ["hooks.md", "recipes.md", "plugins.md"])
def test_page_is_up_to_date(page: str) -> None:
    (text,) = [text for path, text in REFERENCE["pages"]().items() if path.name == page]
    written = (Path(__file__).resolve().parents[2] / "docs" / page).read_text(encoding="utf-8")
    assert written == text, f"docs/{page} is stale: run python docs/reference.py"


def test_every_component_and_every_setting_is_in_the_recipe_reference() -> None:
    from ddm_framework.plugin.discovery import load_plugins
    from ddm_framework.recipe.settings import SECTIONS

    text = REFERENCE["recipes"]()
    for registered in load_plugins().plugins:
        for _, component in registered.components if registered.name.startswith("ddm-framework:") else ():
            assert f"#### {component.name}\n" in text
    for key, model in SECTIONS.items():
        assert f"### {key}\n" in text and all(f"`{name}`" in text for name in model.model_fields)


def test_a_stale_page_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "hooks.md"
    path.write_text("old", encoding="utf-8")
    stale = REFERENCE["stale"]
    monkeypatch.setitem(stale.__globals__, "pages", lambda: {path: "new"})
    assert list(stale()) == [path]
