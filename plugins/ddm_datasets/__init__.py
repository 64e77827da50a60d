"""Data sets: digits, which needs no file, those of the paper, and three for your own images."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_datasets() -> Iterator[Component]:
    """Digits; MNIST, CIFAR and TinyImageNet; arrays, folders and lists of images."""
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
    yield Component(
        "cifar10",
        "ddm_datasets.cifar:cifar10",
        "60,000 photographs of 32x32 pixels, ten classes",
        "Sec. 4.1; Krizhevsky 2009",
    )
    yield Component(
        "cifar100",
        "ddm_datasets.cifar:cifar100",
        "60,000 photographs of 32x32 pixels, 100 classes or 20 superclasses",
        "Sec. 4.1; Krizhevsky 2009",
    )
    yield Component(
        "tinyimagenet",
        "ddm_datasets.tinyimagenet:load",
        "110,000 photographs of 64x64 pixels, 200 classes",
        "Sec. 4.1; Le and Yang 2015",
    )
    yield Component("npz", "ddm_datasets.npz:load", "Your images and labels as arrays, in one .npz file or a folder")
    yield Component("imagefolder", "ddm_datasets.imagefolder:load", "Your images as files, one folder per class")
    yield Component(
        "manifest", "ddm_datasets.manifest:load", "Your images as files that a table lists with their labels"
    )
