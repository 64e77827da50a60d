"""What the package registers, and how little is imported to do so."""

from __future__ import annotations

import importlib
import subprocess
import sys

import ddm_clusterers


def test_registered_names_and_targets() -> None:
    components = {component.name: component for component in ddm_clusterers.ddm_register_clusterers()}
    assert sorted(components) == ["kmeans", "sequential"]
    for component in components.values():
        module, function = component.target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert component.summary


def test_registering_imports_no_torch_and_reading_signatures_no_scikit_learn() -> None:
    code = (
        "import sys, ddm_clusterers; list(ddm_clusterers.ddm_register_clusterers())\n"
        "assert 'torch' not in sys.modules\n"
        "import ddm_clusterers.kmeans; assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
