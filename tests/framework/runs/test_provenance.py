"""What a stage was made from is compared setting by setting: what is new and at its default changes nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ddm_framework.runs.provenance import (
    ABSENT,
    StageInputs,
    differences,
    environment,
    git_revision,
    in_words,
    own_version,
    versions_in_words,
)

MADE = {"after": "a" * 32, "training": {"lr": 0.1, "layers": [1, 2]}, "backbone": {"use": "net", "code": "12"}}
DEFAULTS = {"training": {"lr": 0.05, "layers": [1, 2], "warmup": 0}, "backbone": {"width": 4}, "replay": {"epochs": 0}}


def record(**more: Any) -> dict[str, Any]:
    """Of a stage made from `MADE`."""
    return {"inputs": MADE, "shown": {}, "hash": StageInputs(MADE).digest, **more}


def inputs(**changed: Any) -> StageInputs:
    """`MADE` with other values in some of its sections."""
    hashed = {
        key: {**value, **changed.pop(key, {})} if isinstance(value, dict) else value for key, value in MADE.items()
    }
    return StageInputs({**hashed, **changed}, defaults=DEFAULTS)


def test_the_same_inputs_have_no_changes() -> None:
    assert inputs().digest == StageInputs(MADE).digest
    assert inputs().changes(record()) == []


@pytest.mark.parametrize("added", [{"training": {"warmup": 0}}, {"backbone": {"width": 4}}, {"replay": {"epochs": 0}}])
def test_what_is_new_and_at_its_default_is_no_change(added: dict[str, Any]) -> None:
    assert inputs(**added).changes(record()) == []


@pytest.mark.parametrize(
    ("added", "line"),
    [
        ({"training": {"warmup": 1}}, "training.warmup: nothing there, 1 asked for"),
        ({"backbone": {"width": 5}}, "backbone.width: nothing there, 5 asked for"),
        ({"replay": {"epochs": 3}}, "replay: nothing there, {'epochs': 3} asked for"),
        ({"unheard": 0}, "unheard: nothing there, 0 asked for"),
        ({"training": {"lr": 0.05}}, "training.lr: 0.1 there, 0.05 asked for"),
        ({"training": {"layers": [1, 3]}}, "training.layers.1: 2 there, 3 asked for"),
        ({"training": {"layers": [1]}}, "training.layers: [1, 2] there, [1] asked for"),
    ],
)
def test_anything_else_that_is_new_is_one(added: dict[str, Any], line: str) -> None:
    assert [in_words(each).strip() for each in inputs(**added).changes(record())] == [line]


def test_code_that_was_not_looked_at_is_no_change_and_code_that_changed_is_one() -> None:
    old = {**MADE, "backbone": {"use": "net"}}
    assert inputs().changes({"inputs": old, "hash": "0" * 32}) == []
    (change,) = inputs(backbone={"code": "13"}).changes(record())
    assert in_words(change) == "  backbone.code: the code has changed"


def test_what_a_stage_used_is_compared_by_its_code_of_today() -> None:
    today = StageInputs(MADE, code_of={"attributor mine": "2", "attributor other": "7"}.__getitem__)
    assert today.changes(record(used={"attributor other": "7"})) == []
    (change,) = today.changes(record(used={"attributor other": "7", "attributor mine": "1"}))
    assert in_words(change) == "  the code of attributor mine has changed"


def test_a_stage_that_follows_a_reused_one_is_reused_whatever_that_ones_digest_would_be_today() -> None:
    today = inputs(after="b" * 32)
    assert today.changes(record(), "a" * 32) == []
    assert today.changes(record(), "c" * 32)
    assert today.changes(record())


def test_what_is_shown_decides_nothing_but_is_told() -> None:
    made = {**record(), "shown": {"dataset": {"root": "x"}}}
    assert StageInputs(MADE, {"dataset": {"root": "y"}}).changes(made) == []
    told = StageInputs({**MADE, "data": "new"}, {"dataset": {"root": "y"}}).changes(made)
    assert (("dataset", "root"), "x", "y") in told


def test_differences_tell_what_is_absent_from_what_is_null() -> None:
    assert list(differences({"a": None}, {})) == [(("a",), None, ABSENT)]
    assert list(differences({"a": None}, {"a": None})) == []


def test_both_versions_are_named_where_the_reason_may_lie_between_them() -> None:
    old = {"versions": {"ddm-framework": "0.0.1"}}
    sentence = f"it was made by ddm-framework 0.0.1, and this is {own_version()}"
    assert versions_in_words(old, []).strip() == sentence
    now = {"versions": {"ddm-framework": own_version()}}
    assert versions_in_words(now, [(("lr",), 1, 2)]) == ""
    assert "it was made by" in versions_in_words(now, [(("lr",), ABSENT, 2)])
    assert "it was made by" in versions_in_words(now, [(("backbone", "code"), "1", "2")])
    assert versions_in_words({}, []) == ""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, whose configuration would start a program as soon as git looks at its files."""
    root = tmp_path / "stranger"
    root.mkdir()
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *who, *arguments], cwd=root, check=True)
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    subprocess.run(["git", "config", "core.fsmonitor", str(program)], cwd=root, check=True)
    return root


def head(repository: Path) -> str:
    asked = subprocess.run(
        ["git", "-c", "core.fsmonitor=", "rev-parse", "HEAD"],
        cwd=repository,
        check=True,
        capture_output=True,
        text=True,
    )
    return asked.stdout.strip()


def test_the_revision_is_read_without_running_what_a_repository_asks_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, ran = head(repository), repository.parent / "ran"
    ran.unlink(missing_ok=True)
    (repository / "deep").mkdir()
    monkeypatch.chdir(repository / "deep")
    assert environment()["git_revision"] == wanted
    assert not ran.exists()


def test_branches_in_files_of_their_own_or_packed_and_a_detached_head_are_found(repository: Path) -> None:
    wanted = head(repository)
    assert git_revision(repository) == wanted
    subprocess.run(["git", "-c", "core.fsmonitor=", "pack-refs", "--all"], cwd=repository, check=True)
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    assert git_revision(repository) == wanted
    (repository / ".git" / "HEAD").write_text(wanted + "\n")
    assert git_revision(repository) == wanted


@pytest.mark.parametrize(
    "content", ["", "ref: ../../secret", "ref: /etc/passwd", "not a commit", "ref: refs/heads/none"]
)
def test_what_is_no_commit_is_none(repository: Path, content: str) -> None:
    (repository / ".git" / "HEAD").write_text(content)
    assert git_revision(repository) is None


def test_a_git_directory_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert git_revision(tmp_path) is None
    (tmp_path / ".git" / "HEAD").unlink()
    (tmp_path / ".git" / "HEAD").mkdir()
    assert git_revision(tmp_path) is None
