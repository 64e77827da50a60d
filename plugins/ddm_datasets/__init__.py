"""Data sets to start with (digits needs no file at all) and the two doors for your own images."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_datasets() -> Iterator[Component]:
    """Digits and MNIST; arrays and folders of images."""
    yield Component(
        "digits",
        "ddm_datasets.digits:load",
        "1,797 handwritten digits of 8x8 pixels that come with scikit-learn",
        "UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998",
    )
    yield Component(
        "mnist",
        "ddm_datasets.mnist:load",
        "70,000 handwritten digits of 28x28 pixels",
        "Sec. 4.1; LeCun et al. 1998",
    )
    yield Component("npz", "ddm_datasets.npz:load", "Your images and labels as arrays in one .npz file")
    yield Component("imagefolder", "ddm_datasets.imagefolder:load", "Your images as files, one folder a class")
