"""What the package registers, and how little is imported to do so."""

from __future__ import annotations

import importlib
import subprocess
import sys

import ddm_distances


def test_registered_names_and_targets() -> None:
    components = {component.name: component for component in ddm_distances.ddm_register_distances()}
    assert sorted(components) == ["cosine", "mse"]
    for component in components.values():
        module, function = component.target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert component.summary


def test_registering_imports_no_torch() -> None:
    code = "import sys, ddm_distances; list(ddm_distances.ddm_register_distances()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
