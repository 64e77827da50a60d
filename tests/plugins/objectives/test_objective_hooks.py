"""What the package registers, that every surrogate exists, and how little is imported to register."""

from __future__ import annotations

import importlib
import subprocess
import sys

import ddm_objectives

from ddm_framework.plugin.declarations import Declaration


def test_registered_names_targets_and_surrogates() -> None:
    components = {component.name: component for component in ddm_objectives.ddm_register_objectives()}
    assert sorted(components) == [
        *("correctness", "divergence", "margin", "output_shift", "performance", "predictions", "stability"),
    ]
    for component in components.values():
        module, function = component.target.split(":")
        declaration = getattr(importlib.import_module(module), function).ddm_declaration
        assert isinstance(declaration, Declaration)
        assert declaration.surrogate is None or declaration.surrogate.objective in components
        assert component.summary


def test_registering_imports_no_torch_and_reading_signatures_no_scikit_learn() -> None:
    code = (
        "import sys, ddm_objectives; list(ddm_objectives.ddm_register_objectives())\n"
        "assert 'torch' not in sys.modules\n"
        "import ddm_objectives.performance; assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
