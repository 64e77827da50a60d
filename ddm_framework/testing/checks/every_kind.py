"""What is asked of every component: it can be imported, its signature is a schema, its options are explained."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from ddm_framework.errors import DDMError
from ddm_framework.plugin.choosing import choose_registered
from ddm_framework.recipe.yaml_source import parse, write
from ddm_framework.testing.contract import advice, expect
from ddm_framework.testing.subject import Subject

LONGEST_SUMMARY = 100
"""Characters of a summary that still fit on a line of `ddm ls`."""


def check_target_can_be_imported(subject: Subject) -> None:
    """The target `module:function` can be imported and called."""
    _ = subject.target


def check_signature_is_a_schema(subject: Subject) -> None:
    """The core's arguments are positional-only; options are keyword-only, annotated and with defaults."""
    _ = subject.signature


def check_defaults_are_valid(subject: Subject) -> None:
    """Each option's default is a value that its own annotation allows."""
    wrong = ""
    try:
        choose_registered(subject.registered, subject.registry, subject.signature.defaults())
    except DDMError as error:
        wrong = "; ".join(str(error).splitlines())
    expect(not wrong, f"a default breaks its own annotation: {wrong}\nchange one of them")


def check_defaults_can_be_written_in_a_recipe(subject: Subject) -> None:
    """The resolved recipe spells every default out as YAML, and reading it again gives the same."""
    plain = choose_registered(subject.registered, subject.registry).as_dict()
    with advice("use defaults that YAML can hold: numbers, text, lists, mappings, None, paths"):
        again = parse(write(plain), "recipe.yaml", Path.cwd()).value
    expect(again == plain, f"the defaults {plain} come back from YAML as {again}; use numbers, text, lists or mappings")


def check_summary_is_one_line(subject: Subject) -> None:
    """The summary tells in one short line what the component is."""
    summary = subject.registered.component.summary
    expect(bool(summary.strip()), "its summary is empty; give Component(...) a third argument, a line for `ddm ls`")
    expect(
        "\n" not in summary and len(summary) <= LONGEST_SUMMARY,
        f"its summary has {len(summary)} characters; tell it in one line of at most {LONGEST_SUMMARY}",
    )


def check_documentation_explains_every_option(subject: Subject) -> None:
    """The docstring, which `ddm show` prints, names every option."""
    text = inspect.getdoc(subject.target) or ""
    expect(
        bool(text.strip()), "its function has no docstring; say what it does, in which shapes, and what options mean"
    )
    missing = [name for name in subject.signature.names if not re.search(rf"\b{re.escape(name)}\b", text)]
    expect(not missing, f"its docstring does not name {', '.join(missing)}; explain every option under `Args:`")
