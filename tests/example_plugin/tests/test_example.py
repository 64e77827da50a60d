"""Every check of the contracts of the backbone and the objective."""

from __future__ import annotations

from ddm_framework.testing import Check, Subject, parametrize_with_checks


@parametrize_with_checks(plugin="ddm-example")
def test_contract(component: Subject, check: Check) -> None:
    check(component)
