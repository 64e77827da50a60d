"""The sentences about Fig. 3 and 8, computed from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ddm_framework.runs import Workspace
from ddm_studies.architectures.class_matrices import Measured, Seen, agreement, between, measured, similar


def traced(seen: Sequence[Seen], query_class: int, names: Sequence[str]) -> Iterator[str]:
    """The claims of Fig. 3."""
    astray = [each.name for each in seen if int(each.matrix[query_class].argmax()) != query_class]
    said = f'Queries "{names[query_class]}" are traced to the class "{names[query_class]}" by '
    yield said + (
        f"all {len(seen)} networks, as in the paper."
        if not astray
        else f"{len(seen) - len(astray)} of {len(seen)} networks (the paper: all), not by {', '.join(astray)}."
    )
    yield (
        f"The mean rank correlation between the attribution matrices of two networks is {_in_words(similar(seen))}; the"
        " paper calls the matrices of all architectures similar and gives no figure."
    )


def robust(workspace: Workspace, seen: Sequence[Seen]) -> Iterator[str]:
    """The claims of Fig. 8."""
    alike = similar(seen)
    low = alike.value if alike.interval is None else alike.interval[0]
    verdict = (
        "are similar beyond chance, as the paper says"
        if low > 0
        else "are not similar beyond chance (the paper: similar)"
    )
    yield (
        f"Attribution matrices from {len(seen)} initialisations {verdict}: the mean rank correlation between two of"
        f" them is {_in_words(alike)}."
    )
    yield (
        "The paper's claim that diversity grows with the size of the data (MNIST, CIFAR-10, CIFAR-100) cannot be judged"
        f" from one data set: the diversity, one minus that correlation, is {1 - alike.value:.2f} for these"
        f" {len(workspace.data.train):,} training images of {workspace.info.num_classes} classes. The three data sets"
        " have 60,000, 50,000 and 50,000 training images, so their number does not grow."
    )


def on_exact(seen: Sequence[Seen]) -> Iterator[str]:
    """How accurate the estimates are, and how much the exact matrices of two networks agree."""
    exact = [(each.effect, each.exact) for each in seen if each.exact is not None]
    if not exact:
        return
    right = measured(torch.stack([agreement(*pair) for pair in exact]).mean(0))
    yield (
        "The mean rank correlation between an estimated matrix and that from exact retraining of the same network is"
        f" {_in_words(right)}."
    )
    if len(exact) > 1:
        truth = measured(between([true for _, true in exact]))
        yield (
            f"The exact matrices of two networks have a mean rank correlation of {_in_words(truth)}; accurate estimates"
            " cannot be expected to agree more than that."
        )


def _in_words(figure: Measured) -> str:
    told = f"{figure.value:.2f}"
    return told if figure.interval is None else "{} ({:.2f} to {:.2f})".format(told, *figure.interval)
