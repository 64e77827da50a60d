"""What the package registers, and how little is imported to do so."""

from __future__ import annotations

import importlib
import subprocess
import sys

import ddm_attributors


def test_registered_names_and_targets() -> None:
    components = {component.name: component for component in ddm_attributors.ddm_register_attributors()}
    assert "ddm" in components
    for component in components.values():
        module, function = component.target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert component.summary


def test_registering_imports_no_torch() -> None:
    code = (
        "import sys, ddm_attributors; list(ddm_attributors.ddm_register_attributors()); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
