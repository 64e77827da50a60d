"""Every registered component keeps the contract of its kind; what cannot be checked here is listed with the reason."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddm_framework.errors import DataError
from ddm_framework.plugin.components import KINDS
from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.testing import Check, NotChecked, Subject, parametrize_with_checks
from ddm_framework.testing.subject import subjects

BUILT_IN = "ddm-framework"
FILES = Path(tempfile.gettempdir()).resolve() / f"ddm-conformance-{np.random.default_rng().integers(2**32)}"
"""Where files of data sets are written before the first check, and an empty current folder."""

OPTIONS: dict[str, dict[str, Any]] = {
    "dataset.npz": {"path": FILES / "images.npz"},
    "dataset.imagefolder": {"root": FILES / "images", "size": 8},
    "dataset.manifest": {"path": FILES / "manifest.csv", "size": 8},
    "backbone.alexnet": {"width": 8},
    "backbone.resnet": {"width": 4, "groups": 4},
    "study.architectures": {"backbones": [{"use": "convnet", "width": each, "depth": 1} for each in (2, 4)]},
    "backbone.timm": {"model": "resnet10t", "groups": 4, "arguments": {"channels": [4, 8, 8, 8], "stem_width": 8}},
}
"""Files for data sets that have none of their own, and small networks in the place of large ones."""

SKIPPED = {
    "dataset.digits.check_missing_files_are_a_data_error": "scikit-learn brings its file",
}
"""What cannot be checked, and why; published data sets, whose files are not here, are checked for saying so."""


@pytest.fixture(scope="module", autouse=True)
def files() -> Iterator[None]:
    """Images of two classes as arrays and as files, in a folder that is the current one."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    with tempfile.TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patch:
        patch.chdir(empty)
        FILES.mkdir()
        np.savez(FILES / "images.npz", x_train=images[20:], y_train=labels[20:], x_test=images[:20], y_test=labels[:20])
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = FILES / "images" / "ab"[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        listed = [f"images/{'ab'[label]}/{number}.png,{'ab'[label]}" for number, label in enumerate(labels)]
        (FILES / "manifest.csv").write_text("\n".join(["path,label", *listed]))
        yield
        for path in sorted(FILES.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        FILES.rmdir()


def lacks_files(component: Subject, reason: NotChecked) -> bool:
    """Whether a data set has told by a DataError which of its files are missing."""
    published = component.kind == "dataset" and any(option.takes_path for option in component.signature.options)
    return published and not component.options and isinstance(reason.__cause__, DataError)


@parametrize_with_checks(plugin=BUILT_IN, options=OPTIONS)
def test_contract(component: Subject, check: Check) -> None:
    try:
        check(component)
    except NotChecked as reason:
        known = f"{component.id}.{check.name}" in SKIPPED or lacks_files(component, reason)
        assert known, f"not checked: {reason}"


def test_every_kind_has_components() -> None:
    assert {subject.kind for subject in subjects(load_plugins(), plugin=BUILT_IN)} == set(KINDS)
