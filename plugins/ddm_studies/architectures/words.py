"""What Fig. 3 and 8 say beside the paper's, in sentences that are computed from the figures."""

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
        f"Two networks rank the deleted classes alike by {_in_words(similar(seen))}; the paper calls the matrices of"
        " all architectures similar and gives no number."
    )


def robust(workspace: Workspace, seen: Sequence[Seen]) -> Iterator[str]:
    """The claims of Fig. 8."""
    alike = similar(seen)
    low = alike.value if alike.interval is None else alike.interval[0]
    verdict = (
        "are alike beyond chance, as the paper says" if low > 0 else "are not alike beyond chance (the paper: similar)"
    )
    yield (
        f"Attribution matrices from {len(seen)} initialisations {verdict}: two of them rank the deleted classes alike"
        f" by {_in_words(alike)}."
    )
    yield (
        f"How diverse they are, one minus that, is {1 - alike.value:.2f} with {len(workspace.data.train):,} training"
        f" images of {workspace.info.num_classes} classes. The paper says that diversity grows with the size of the"
        " data, over MNIST, CIFAR-10 and CIFAR-100: that takes this figure of all three, side by side. They have"
        " 60,000, 50,000 and 50,000 training images, so that it is not their number that grows."
    )


def on_exact(seen: Sequence[Seen]) -> Iterator[str]:
    """How right the estimates are, and how much two networks can agree."""
    exact = [(each.effect, each.exact) for each in seen if each.exact is not None]
    if not exact:
        return
    right = measured(torch.stack([agreement(*pair) for pair in exact]).mean(0))
    yield f"An estimate agrees with exact retraining of the same network by {_in_words(right)}, in the mean."
    if len(exact) > 1:
        truth = measured(between([true for _, true in exact]))
        yield (
            f"The matrices of two networks that exact retraining gives agree by {_in_words(truth)}; agreement beyond"
            " that cannot be expected of right estimates."
        )


def _in_words(figure: Measured) -> str:
    told = f"{figure.value:.2f}"
    return told if figure.interval is None else "{} ({:.2f} to {:.2f})".format(told, *figure.interval)
