"""The pane of what if: the network without what is ticked, beside the network as it is and the truth if it is known."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ddm_framework.answers import Without
from ddm_framework.app.jobs import Jobs
from ddm_framework.app.queries_pane import cards
from ddm_framework.app.requests import WhatIf
from ddm_framework.app.served_run import ServedRun

MOST_CHANGED = 60
"""Test images that are shown because their answer changes."""


def told(served: ServedRun, jobs: Jobs, asked: WhatIf) -> dict[str, Any]:
    """What becomes of a query, of the accuracy and of the test images.

    Raises:
        DDMError: as `run.without`, or if there is no such query.
    """
    images = None if asked.query is None else served.query(asked.query).images
    estimated = served.without(asked)
    truth = jobs.truth(asked)
    changed = estimated.found.changed.tolist()
    after = estimated.found.test_logits.softmax(1).cpu()
    return {
        "num_left_out": int(estimated.found.left_out.sum()),
        "num_test": len(served.queries),
        "num_by_class": _num_by_class(served),
        "seconds": estimated.seconds,
        "seconds_per_epoch": served.seconds_per_epoch,
        "before": figures(served.target, images),
        "estimate": figures(estimated.found, images),
        "truth": None if truth is None else figures(truth, images) | _agreement(estimated.found, truth),
        "changed": {"total": len(changed), "items": cards(served, changed[:MOST_CHANGED], after)},
    }


def figures(found: Without, images: Tensor | None) -> dict[str, Any]:
    """What a network makes of the test split, and of a query where one is looked at."""
    by_class = [None if math.isnan(each) else each for each in found.accuracy_by_class.tolist()]
    told = {"accuracy": found.accuracy, "by_class": by_class, "num_changed": len(found.changed)}
    return told if images is None else told | {"query": found.predict(images)[0].tolist()}


def _agreement(estimate: Without, truth: Without) -> dict[str, Any]:
    """On how many test images, changed by one of the two, the estimate and the truth say the same."""
    either = set(estimate.changed.tolist()) | set(truth.changed.tolist())
    same = estimate.test_logits.argmax(1) == truth.test_logits.argmax(1)
    return {"num_either_changed": len(either), "num_same": sum(bool(same[each]) for each in either)}


def _num_by_class(served: ServedRun) -> list[int]:
    labels = served.queries.labels
    assert labels is not None
    return labels.bincount(minlength=served.run.workspace.info.num_classes).tolist()
