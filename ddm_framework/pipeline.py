"""Run a recipe: each stage once, in order, reusing what the folder already holds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ddm_framework import files, offline
from ddm_framework.artifacts import save_json, save_tensors, save_text
from ddm_framework.data import DataSplits
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.pages import page
from ddm_framework.progress import SILENT, ProgressDisplay
from ddm_framework.recipes import Recipe
from ddm_framework.registry import Registry
from ddm_framework.reports import Report
from ddm_framework.run_folder import RunFolder, StageInputs, environment
from ddm_framework.workspace import Workspace


def execute(
    recipe: Recipe, registry: Registry, out: Path, *, fresh: bool = False, display: ProgressDisplay = SILENT
) -> tuple[Workspace, dict[str, Any]]:
    """Run a recipe to its report.

    Args:
        recipe: checked.
        registry: components that a study may ask for by name.
        out: the run folder.
        fresh: redo the first stage whose inputs changed, and what follows from it, instead of refusing.
        display: where progress is shown.
    Returns:
        The workspace of the finished run and its metrics.
    Raises:
        DDMError: for a mistake of the user's; what was finished before stays.
    """
    recipe, device = settle(recipe)
    folder = RunFolder.open(out)
    display.say("loading the data")
    data = recipe.dataset()
    if not isinstance(data, DataSplits):
        raise PluginError(f"dataset {recipe.dataset.name!r} must return DataSplits, returned {type(data).__name__}")
    inputs = stage_inputs(recipe, data.fingerprint())
    folder.claim(inputs, fresh=fresh)
    save_text(folder.file("recipe.yaml"), recipe.as_yaml())
    files.save_info(
        folder, data.info, {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    )
    folder.note(
        recipe=recipe.name, seed=recipe.general.seed, threads=recipe.general.threads, device=_device_name(device)
    )
    folder.note(plugins=[plugin.name for plugin in registry.plugins if not plugin.failure], **environment())
    workspace = Workspace(recipe, folder, registry, device, display, data)
    if not folder.is_done("training"):
        with folder.stage("training", inputs["training"]) as clock:
            offline.train_target(workspace, clock)
    if not folder.is_done("partition"):
        with folder.stage("partition", inputs["partition"]):
            offline.divide(workspace)
    if not folder.is_done("matching"):
        with folder.stage("matching", inputs["matching"]) as clock:
            offline.distil(workspace, clock)
    return workspace, _online(workspace, inputs)


def settle(recipe: Recipe) -> tuple[Recipe, torch.device]:
    """Replace `auto` by what this machine has, and fix the number of threads: it changes roundings.

    Raises:
        DDMError: if cuda is asked for and there is none.
    """
    general = recipe.general
    threads = general.threads if general.threads != "auto" else _num_cores()
    name = general.device if general.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise DDMError("device cuda was asked for, but torch sees no GPU here; use --device cpu or auto")
    torch.set_num_threads(threads)
    settled = recipe.with_general(general.model_copy(update={"threads": threads, "device": name}))
    return settled, torch.device(name)


def stage_inputs(recipe: Recipe, data_fingerprint: str) -> dict[str, StageInputs]:
    """What each stage's result depends on; each names the digest of the stage before."""
    whole = recipe.as_dict()
    clusterer = {**whole["clusterer"], **recipe.clusterer.code()}
    training = StageInputs(
        {
            "data": data_fingerprint,
            "backbone": {**whole["backbone"], **recipe.backbone.code()},
            "training": whole["training"],
            "seed": whole["seed"],
        },
        {"dataset": whole["dataset"]},
    )
    partition = StageInputs({"after": training.digest, "clusterer": clusterer})
    matching = StageInputs(
        {
            "after": partition.digest,
            "distance": {**whole["distance"], **recipe.distance.code()},
            "matching": whole["matching"],
            "memory_mb": whole["memory_mb"],
        }
    )
    online = StageInputs(
        {
            "after": matching.digest,
            "online": whole["online"],
            "objectives": [{**choice.as_dict(), **choice.code()} for choice in recipe.objectives],
            "study": {**whole["study"], **recipe.study.code()},
        }
    )
    return {"training": training, "partition": partition, "matching": matching, "online": online}


def _online(workspace: Workspace, inputs: Mapping[str, StageInputs]) -> dict[str, Any]:
    """Run the study and write what it found, unless that is done already."""
    folder = workspace.folder
    if folder.is_done("online"):
        return files.load_metrics(folder)
    with folder.stage("online", inputs["online"]) as clock:
        report = workspace.recipe.study(workspace)
        if not isinstance(report, Report):
            name = workspace.recipe.study.name
            raise PluginError(f"study {name!r} must return a Report, returned {type(report).__name__}")
        save_tensors(folder.file("online", "attribution.safetensors"), report.tensors)
        clock.stop()
        metrics = _write_report(workspace, report)
    return metrics


def _write_report(workspace: Workspace, report: Report) -> dict[str, Any]:
    folder, begun = workspace.folder, time.monotonic()
    metrics = core_metrics(workspace)
    metrics = {**metrics, **{key: _merged(metrics.get(key), value) for key, value in report.metrics.items()}}
    seconds = {stage: value for stage, value in folder.seconds().items() if stage != "report"}
    text = page(workspace, report, seconds, metrics)
    save_text(folder.file("report.html"), text)
    seconds["report"] = round(time.monotonic() - begun, 3)
    metrics["seconds"] = {**seconds, "total": round(sum(seconds.values()), 3)}
    save_json(folder.file("metrics.json"), metrics)
    return metrics


def _merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def core_metrics(workspace: Workspace) -> dict[str, Any]:
    """Numbers that every run has, whatever its study."""
    synset, class_synset = workspace.synset, workspace.class_synset
    perturbed = (workspace.perturbations == 0).any(1)
    metrics: dict[str, Any] = {
        "target": {
            f"{split}_accuracy": workspace.accuracy(split)
            for split in ("train", "validation", "test")
            if len(getattr(workspace.data, split))
        },
        "matching": {
            "mean_cosine": float(synset.cosine.mean()),
            "cosine": synset.cosine.tolist(),
            "class_mean_cosine": float(class_synset.cosine.mean()),
            "class_cosine": class_synset.cosine.tolist(),
        },
        "online": {"num_finetunings": int(perturbed.sum())},
    }
    return metrics


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
