"""The kit itself: results, the decorator for pytest, and `ddm check`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from plugin_sites import HEAD, Site, hooks
from run_fixtures import ddm, refused

from ddm_framework.errors import DDMError
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.testing import checks_of, parametrize_with_checks, run_checks, small_workspace
from ddm_framework.testing.contract import undisturbed, untouched_randomness

OBJECTIVE = '''\
import torch
from ddm_framework import Component, hookimpl, objective

@objective(more_influential="larger")
def {name}(logits, reference, /, *, scale: float = 1.0):
    """How unsure it is, times `scale`."""
    return {value}

@hookimpl
def ddm_register_objectives():
    yield Component("{name}", f"{{__name__}}:{name}", "How unsure it is")
'''
ENTROPY = "scale * torch.distributions.Categorical(logits=logits).entropy()[:, None]"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plugin files in the current folder: one that keeps its contract and one that does not."""
    monkeypatch.chdir(tmp_path)
    Path("good.py").write_text(OBJECTIVE.format(name="unsure", value=ENTROPY))
    Path("bad.py").write_text(OBJECTIVE.format(name="flat", value=ENTROPY.replace("[:, None]", "")))
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """An installed package that loads and another that does not."""
    with Site(folder / "site") as found:
        found.add("fake_kept", OBJECTIVE.format(name="kept", value=ENTROPY).replace('f"{__name__}', '"fake_kept'))
        found.add("fake_torn", "raise RuntimeError('no luck')")
        yield found


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_says_what_it_asks(kind: str) -> None:
    names = [check.name for check in checks_of(kind)]
    assert len(names) == len(set(names)) > 10
    for check in checks_of(kind):
        assert check.summary.endswith(".")


def test_results_of_a_file_come_in_the_order_of_the_checks() -> None:
    found = list(run_checks(load_plugins([Path("good.py")]), "good.py"))
    assert [each.check for each in found] == [check.name for check in checks_of("objective")]
    assert {each.outcome for each in found} == {"passed"}
    assert {(each.kind, each.name) for each in found} == {("objective", "unsure")}


def test_what_a_component_raises_by_accident_is_told_with_its_line() -> None:
    Path("lost.py").write_text(OBJECTIVE.format(name="lost", value="nowhere"))
    found = next(
        each for each in run_checks(load_plugins([Path("lost.py")]), "lost.py") if each.check == "check_same_twice"
    )
    assert found.outcome == "failed"
    assert "it raised NameError: name 'nowhere' is not defined" in found.message


def test_a_plugin_that_does_not_load_is_a_failure(site: Site) -> None:
    (found,) = run_checks(load_plugins(), "fake-torn")
    assert (found.kind, found.name, found.outcome) == ("plugin", "fake-torn:main", "failed")
    assert "RuntimeError: no luck" in found.message


def test_options_that_do_not_fit_are_refused() -> None:
    registry = load_plugins([Path("good.py")])
    with pytest.raises(DDMError, match=r"there is no component 'objective.unsur'.*did you mean 'objective.unsure'"):
        list(run_checks(registry, "good.py", {"objective.unsur": {"scale": 2.0}}))
    with pytest.raises(DDMError, match="scale: input should be a valid number, found 'x'"):
        list(run_checks(registry, "good.py", {"objective.unsure": {"scale": "x"}}))
    with pytest.raises(DDMError, match="has no option 'scal'; did you mean 'scale'"):
        list(run_checks(registry, "good.py", {"objective.unsure": {"scal": 1.0}}))


def cases(**arguments: object) -> dict[str, list[object]]:
    """Marks of each test that the decorator makes, by its name."""
    mark = parametrize_with_checks(**arguments)  # type: ignore[arg-type]
    assert mark.args[0] == ("component", "check")
    return {each.id: list(each.marks) for each in mark.args[1]}


def test_the_decorator_makes_a_test_of_each_check() -> None:
    found = cases(file="good.py")
    assert list(found) == [f"objective.unsure.{check.name}" for check in checks_of("objective")]
    assert not any(found.values())
    assert {name.partition(".")[0] for name in cases(kind="distance")} == {"distance"}


def test_an_expected_failure_has_a_reason_and_must_fail() -> None:
    name = "objective.flat.check_each_query_by_itself"
    (mark,) = cases(file="bad.py", expected_failures={name: "it returns (N,)"})[name]
    assert (mark.name, mark.kwargs) == ("xfail", {"reason": "it returns (N,)", "strict": True})  # type: ignore[attr-defined]
    with pytest.raises(DDMError, match="gives no reason"):
        cases(file="bad.py", expected_failures={name: " "})
    with pytest.raises(DDMError, match="there is no such check; did you mean"):
        cases(file="bad.py", expected_failures={name + "s": "why"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "objektive"}, "there is no kind 'objektive'; did you mean 'objective'"),
        ({"plugin": "fake-kep"}, "no installed package 'fake-kep' .*did you mean 'fake-kept'"),
        ({"plugin": "fake-torn"}, "plugin fake-torn:main cannot be loaded: RuntimeError: no luck"),
        ({"plugin": "fake-kept", "kind": "study"}, "fake-kept brings no study to check"),
        ({"plugin": "fake-kept", "file": "good.py"}, "not both"),
    ],
)
def test_a_test_of_nothing_is_refused(site: Site, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(DDMError, match=message):
        cases(**arguments)


def test_under_pytest_failures_fail_skips_are_told_and_expected_failures_are_xfailed() -> None:
    Path("test_it.py").write_text(
        "from ddm_framework.testing import parametrize_with_checks\n"
        "@parametrize_with_checks(file='bad.py', expected_failures={'objective.flat.check_one_query': 'known'})\n"
        "def test_it(component, check):\n    check(component)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "test_it.py"]
    out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "XFAIL test_it.py::test_it[objective.flat.check_one_query] - known" in out
    assert "FAILED test_it.py::test_it[objective.flat.check_each_query_by_itself]" in out
    assert "must return a tensor of shape (6, m), returned (6,)" in out


def test_a_file_is_checked_by_the_command() -> None:
    status, out, err = ddm("check", "good.py")
    assert (status, err) == (0, "")
    words = " ".join(out.split())
    assert "objective unsure target can be imported passed signature is a schema passed" in words
    assert f"good.py: {len(checks_of('objective'))} passed, 0 failed, 0 skipped in" in words


def test_a_broken_contract_is_status_1_with_what_to_do() -> None:
    status, out, err = ddm("check", "bad.py")
    assert (status, err) == (1, "")
    words = " ".join(out.split())
    assert "failed objective 'flat' of plugin bad.py must return a tensor of shape (6, m), returned (6,)" in words
    assert "declare @objective(set_level=True) and return (1, m)" in words


def test_help_tells_both_commands() -> None:
    status, out, _ = ddm("--help")
    assert status == 0
    assert " check " in out
    assert " new-plugin " in out


def test_results_as_json(site: Site) -> None:
    status, out, _ = ddm("check", "fake-kept", "--json", "--set", "objective.kept.scale=2.0")
    found = json.loads(out)
    assert status == 0
    assert (found["checked"], found["failed"], found["skipped"]) == ("fake-kept", 0, 0)
    assert found["passed"] == len(found["results"]) == len(checks_of("objective"))
    assert {"kind", "name", "check", "outcome", "message", "seconds"} == set(found["results"][0])
    status, out, _ = ddm("check", "fake-torn", "--json")
    assert (status, json.loads(out)["failed"]) == (1, 1)


def test_a_users_mistake_is_one_message(site: Site) -> None:
    assert refused("check", "fake-kep").startswith(
        "no installed package 'fake-kep' offers plugins of ddm; did you mean 'fake-kept'?"
    )
    assert refused("check", "nowhere.py") == "plugin file nowhere.py: there is no such file"
    assert "is a folder; install it (pip install -e" in refused("check", str(site.path))
    assert "--set takes kind.name.option=value" in refused("check", "good.py", "--set", "scale=1")
    Path("empty.py").write_text(HEAD)
    assert "empty.py brings no component" in refused("check", "empty.py")
    Path("torn.py").write_text(hooks("raise OSError('disk')"))
    assert refused("check", "torn.py") == "plugin file torn.py: OSError: disk (torn.py:4)"


def test_checking_leaves_threads_and_randomness_as_they_were() -> None:
    torch.set_num_threads(2)
    try:
        state = torch.get_rng_state()
        with undisturbed():
            assert torch.get_num_threads() == 1
            torch.manual_seed(5)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(1)


def test_changed_random_states_are_named_and_put_back() -> None:
    before = random.getstate(), torch.get_rng_state()
    with untouched_randomness() as touched:
        random.random()
        np.random.rand()
        torch.rand(1)
    assert touched == ["random", "numpy.random", "torch"]
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    with untouched_randomness() as touched:
        torch.rand(1, generator=torch.Generator())
    assert touched == []


def test_the_small_run_needs_no_plugin_and_starts_afresh_each_time() -> None:
    first, second = small_workspace(load_plugins()), small_workspace(load_plugins())
    first.target["0.weight"].zero_()
    assert second.target["0.weight"].any()
    assert second.partition.num_clusters == 6
    assert second.accuracy("test") > 0.9
