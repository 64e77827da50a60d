"""What the package registers, and how little is imported to do so."""

from __future__ import annotations

import importlib
import subprocess
import sys

import ddm_backbones


def test_registered_names_and_targets() -> None:
    components = {component.name: component for component in ddm_backbones.ddm_register_backbones()}
    assert sorted(components) == ["alexnet", "convnet", "resnet", "timm", "vit"]
    for component in components.values():
        module, function = component.target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert component.summary
        assert component.source


def test_registering_imports_no_torch_and_reading_signatures_no_timm() -> None:
    code = (
        "import sys, ddm_backbones; list(ddm_backbones.ddm_register_backbones()); assert 'torch' not in sys.modules\n"
        "from ddm_backbones import alexnet, convnet, resnet, timm, vit; "
        "assert not {'torchvision', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
