"""Write the references in docs/ from the code, or check that they are what the code says.

python docs/reference.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ddm_framework.plugin import hookspecs
from ddm_framework.plugin.components import KINDS, hook_name
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.plugin.registry import Registered
from ddm_framework.plugin.signatures import read_signature
from ddm_framework.plugin.type_words import as_written, in_words
from ddm_framework.recipe.settings import SECTIONS, SHARED_SECTIONS, General, Settings, TimmFeatures

HERE = Path(__file__).resolve().parent
OWN = "ddm-framework:"


def pages() -> dict[Path, str]:
    """Every generated page."""
    return {HERE / "hooks.md": hooks(), HERE / "recipes.md": recipes()}


def hooks() -> str:
    """The hook reference: what the hook specs say."""
    parts = ["# Hooks", _generated("ddm_framework/plugin/hookspecs.py"), _markdown(inspect.getdoc(hookspecs) or "")]
    for kind in KINDS:
        spec = getattr(hookspecs, hook_name(kind))
        parts += [f"## {hook_name(kind)}", _markdown(inspect.getdoc(spec) or "")]
    return "\n\n".join(parts) + "\n"


def recipes() -> str:
    """The recipe reference: the core's own sections, then every component that comes with ddm."""
    parts = [
        "# Recipes",
        _generated("the settings of the core and the signatures of the components"),
        INTRODUCTION.strip(),
        "## Settings of the core",
        "### At the top level",
        _settings(General),
    ]
    for key, model in {
        **SECTIONS,
        **{f"{key} (beside its own options)": each for key, each in SHARED_SECTIONS.items()},
    }.items():
        parts += [f"### {key}", _settings(model)]
    parts += ["### clusterer.features, where it is a mapping", _settings(TimmFeatures), "## Components"]
    registry = load_plugins()
    for kind in KINDS:
        parts.append(f"### {kind}")
        parts += [_component(each) for each in registry.components(kind) if each.plugin.startswith(OWN)]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """
A recipe is one YAML file. `use` names a component, its siblings are the component's options. Every key is checked
before anything runs. `extends: other.yaml` lays a recipe over another one, `--set training.epochs=5` changes one value,
and `ddm validate RECIPE` checks without running. Relative paths are relative to the file that they stand in.
"""


def _generated(source: str) -> str:
    return f"Generated from {source} by `python docs/reference.py`; a test compares the two."


def _settings(model: type[Settings]) -> str:
    rows = [(info.alias or name, in_words(info), _field_default(info)) for name, info in model.model_fields.items()]
    return f"{_markdown(inspect.getdoc(model) or '')}\n\n{_table('setting', rows)}"


def _field_default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    return _shown(info.default)


def _component(registered: Registered) -> str:
    component, target = registered.component, registered.load()
    signature = read_signature(target, registered.kind, component.name)
    rows = [(option.name, in_words(option.hint), _shown(option.default)) for option in signature.options]
    options = _table("option", rows) if rows else "No options."
    title = f"#### {component.name}\n\n{component.summary}" + (f" ({component.source})" if component.source else "")
    return f"{title}.\n\n{options}\n\n{_argument_list(inspect.getdoc(target) or '', {row[0] for row in rows})}".rstrip()


def _argument_list(docstring: str, options: set[str]) -> str:
    """The docstring's sentences and what it says of the options, as a list."""
    text, _, rest = docstring.partition("\nArgs:")
    said = [_collapsed(text.partition("\n\n")[2])] if "\n\n" in text else []
    block = re.split(r"\n\w[\w, ]*:", rest)[0]
    entries = re.findall(
        r"^    (\w+): (.*?)(?=^    \w+: |\Z)", textwrap.dedent(block) and block, re.MULTILINE | re.DOTALL
    )
    said += ["\n".join(f"- `{name}`: {_collapsed(words)}" for name, words in entries if name in options)]
    return "\n\n".join(each for each in said if each)


def _shown(value: Any) -> str:
    return f"`{as_written(value)}`"


def _table(first: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| {first} | type | default |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| `{name}` | {kind.replace('|', '&#124;')} | {default} |" for name, kind, default in rows)]
    )


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _markdown(docstring: str) -> str:
    """A docstring: its indented examples are Markdown's code already."""
    return "\n".join(line.rstrip() for line in docstring.splitlines())


def stale() -> Iterator[Path]:
    """Pages that differ from what the code says."""
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield path


def main() -> None:
    """Write, or compare and leave with status 1 if they differ."""
    if "--check" in sys.argv:
        found = [path.name for path in stale()]
        sys.exit(f"{', '.join(found)}: not what the code says; run docs/reference.py" if found else 0)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
