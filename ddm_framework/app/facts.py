"""What the page needs to know of a run before anything is asked."""

from __future__ import annotations

from typing import Any

from ddm_framework.app.served_run import ServedRun
from ddm_framework.report.pages import facts as facts_of_the_report


def facts(served: ServedRun) -> dict[str, Any]:
    """The run in a few words, its classes, and what may be chosen."""
    run, workspace = served.run, served.run.workspace
    certificate = run.metrics.get("certificate", {})
    sizes = workspace.partition.sizes
    return {
        "title": workspace.recipe.name,
        "facts": facts_of_the_report(workspace, run.metrics),
        "classes": list(workspace.info.class_names),
        "num_clusters": workspace.partition.num_clusters,
        "num_samples": len(workspace.partition.clusters),
        "class_sizes": sizes.new_zeros(workspace.info.num_classes).index_add(0, workspace.partition.classes, sizes),
        "num_test": len(served.queries),
        "num_wrong": len(served.queries) - round(served.target.accuracy * len(served.queries)),
        "epochs": workspace.recipe.training.epochs,
        "replays": served.replays,
        "replay": served.own_replay,
        "seconds_per_epoch": served.seconds_per_epoch,
        "can_retrain": workspace.can_retrain,
        "spearman": certificate.get("spearman"),
        "spearman_interval": certificate.get("spearman_interval"),
    }
