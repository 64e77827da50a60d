"""What stands around a report: facts of the run, names and real members of the clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ddm_framework.report.blocks import Report
from ddm_framework.report.rendering import render
from ddm_framework.runs import Workspace

LONE = (
    "Only the last checkpoint is known, so each synthetic image was matched with its cluster's gradient at the end of"
    " training alone (pairing: final). What a cluster taught early leaves no trace there; docs/own_network.md says what"
    " that costs. Keep a handful of checkpoints next time and list them in target.trajectory."
)
NO_BETTER = "no better than chance"
"""What a note on a network says that learned nothing; questions repeat such a note."""
NUM_MEMBERS = 8
"""Real members of a cluster that its strip shows."""


def page(workspace: Workspace, report: Report, seconds: Mapping[str, float], metrics: Mapping[str, Any]) -> str:
    """The report as HTML."""
    return render(
        report,
        title=workspace.recipe.name,
        info=workspace.info,
        facts=facts(workspace, metrics),
        seconds=seconds,
        members=members(workspace, report),
        cluster_names=cluster_names(workspace),
        recipe_yaml=workspace.recipe.as_yaml(),
    )


def facts(workspace: Workspace, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What the header states."""
    manifest = workspace.folder.manifest
    sizes, versions = manifest.get("data", {}).get("sizes", {}), manifest.get("versions", {})
    images = f"{sizes.get('train', '?')} training, {sizes.get('test', '?')} test"
    return {
        "data set": f"{workspace.recipe.dataset.name} ({images})",
        "backbone": workspace.recipe.backbone.name,
        **_origin(workspace),
        "test accuracy": f"{metrics['target']['test_accuracy']:.1%}",
        "clusters": str(workspace.partition.num_clusters),
        "device": f"{manifest.get('device')}, {manifest.get('threads')} threads",
        "seed": str(workspace.recipe.general.seed),
        "ddm": str(versions.get("ddm-framework", "?")),
        "torch": str(versions.get("torch", "?")),
    }


def _origin(workspace: Workspace) -> dict[str, str]:
    """Where a network comes from that the run did not train."""
    brought = workspace.recipe.target
    if brought.checkpoint is None:
        return {}
    kept = len(brought.trajectory)
    return {"trained": f"elsewhere: {brought.checkpoint.name}" + (f" and {kept} checkpoints before it" if kept else "")}


def caveats(workspace: Workspace, metrics: Mapping[str, Any], repeated: str = "") -> list[str]:
    """What the reader must know of an unusual network, or one that was trained elsewhere, a sentence or two each.

    Args:
        workspace: of the run.
        metrics: of the run.
        repeated: how near the user's own training came to the network, if it came with one.
    """
    brought, told = workspace.recipe.target, [*workspace.network.notes, *workspace.folder.manifest.get("told", [])]
    told += _chance(workspace, metrics)
    if brought.checkpoint is None:
        return told
    if not brought.trajectory:
        told.append(LONE)
    unknown = "Exact retraining, and so a certificate, is not possible here: how the network was trained is not known."
    told.append(repeated or unknown)
    return told


def _chance(workspace: Workspace, metrics: Mapping[str, Any]) -> list[str]:
    """That a network is no better than chance, which is to answer with the largest class always."""
    correct, labels = metrics["target"]["train_accuracy"], workspace.data.train.labels
    largest = float(labels.bincount().max()) / len(labels)
    if correct > min(2 * largest, largest + (1 - largest) / 10):
        return []
    told = (
        f"The network is right on {correct:.1%} of its training images, which is {NO_BETTER}"
        f" ({largest:.1%}): what it learned of them, and so an attribution, means little."
    )
    if workspace.recipe.target.checkpoint is None:
        return [f"{told} Train it longer, or with another learning rate."]
    return [
        f"{told} Its classes may be in another order than the data set's, or its inputs normalised otherwise: see"
        " target.mean, target.std."
    ]


def cluster_names(workspace: Workspace) -> dict[int, str]:
    """`3 · cluster 37`: the class and the id that `--clusters` takes."""
    classes = workspace.partition.classes.tolist()
    return {
        cluster: f"{workspace.info.class_names[label]} · cluster {cluster}" for cluster, label in enumerate(classes)
    }


def members(workspace: Workspace, report: Report) -> dict[int, Tensor]:
    """The first real members of each cluster that the report refers to."""
    images, partition = workspace.data.train.images, workspace.partition
    return {cluster: images[partition.members(cluster)[:NUM_MEMBERS]].cpu() for cluster in report.clusters()}
