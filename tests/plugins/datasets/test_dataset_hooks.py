"""What the package registers, and how little is imported to do so."""

from __future__ import annotations

import importlib
import subprocess
import sys

import ddm_datasets


def test_registered_names_and_targets() -> None:
    components = {component.name: component for component in ddm_datasets.ddm_register_datasets()}
    assert sorted(components) == [
        "cifar10",
        "cifar100",
        "digits",
        "imagefolder",
        "manifest",
        "mnist",
        "npz",
        "tinyimagenet",
    ]
    for component in components.values():
        module, function = component.target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert component.summary


def test_registering_imports_no_torch_and_digits_neither_torchvision_nor_scikit_learn() -> None:
    code = (
        "import sys, ddm_datasets; list(ddm_datasets.ddm_register_datasets()); assert 'torch' not in sys.modules\n"
        "import ddm_datasets.digits; assert not {'torchvision', 'timm', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recipe_of_digits_is_validated_without_torchvision() -> None:
    code = (
        "import sys; from ddm_framework.cli import main; sys.argv = ['ddm', 'validate', 'digits_convnet']\n"
        "try: main()\n"
        "except SystemExit as status: assert not status.code, status.code\n"
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
