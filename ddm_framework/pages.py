"""What stands around a report: facts of the run, names and real members of the clusters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ddm_framework.rendering import render
from ddm_framework.reports import Block, Card, Clusters, Report
from ddm_framework.workspace import Workspace

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
    sizes = manifest.get("data", {}).get("sizes", {})
    return {
        "data set": f"{workspace.recipe.dataset.name}"
        f" ({sizes.get('train', '?')} training, {sizes.get('test', '?')} test)",
        "backbone": workspace.recipe.backbone.name,
        "test accuracy": f"{metrics['target']['test_accuracy']:.1%}",
        "clusters": str(workspace.partition.num_clusters),
        "device": f"{manifest.get('device')}, {manifest.get('threads')} threads",
        "seed": str(workspace.recipe.general.seed),
        "ddm": str(manifest.get("versions", {}).get("ddm-framework", "?")),
        "torch": str(manifest.get("versions", {}).get("torch", "?")),
    }


def cluster_names(workspace: Workspace) -> dict[int, str]:
    """`3 · cluster 37`: the class and the id that `--clusters` takes."""
    classes = workspace.partition.classes.tolist()
    return {
        cluster: f"{workspace.info.class_names[label]} · cluster {cluster}" for cluster, label in enumerate(classes)
    }


def members(workspace: Workspace, report: Report) -> dict[int, Tensor]:
    """The first real members of each cluster that the report refers to."""
    referred = {cluster for section in report.sections for cluster in _referred(section.blocks)}
    images, partition = workspace.data.train.images, workspace.partition
    return {cluster: images[partition.members(cluster)[:NUM_MEMBERS]].cpu() for cluster in sorted(referred)}


def _referred(blocks: Sequence[Block]) -> Iterator[int]:
    for block in blocks:
        if isinstance(block, Clusters):
            yield from block.ids
        elif isinstance(block, Card):
            yield from _referred(block.blocks)
