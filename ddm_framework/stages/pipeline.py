"""Run a recipe: each stage once, in order, reusing what its folder holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddm_framework.data import load_data
from ddm_framework.errors import DDMError, PluginError
from ddm_framework.files import FileError, read_bytes
from ddm_framework.plugin import Registry
from ddm_framework.progress import SILENT, ProgressDisplay
from ddm_framework.recipe import Recipe
from ddm_framework.recipe.yaml_source import MAX_BYTES
from ddm_framework.report import Report, Section, Text, page
from ddm_framework.report.pages import caveats
from ddm_framework.resources import memory_told
from ddm_framework.runs import STAGES, RunFolder, StageInputs, Workspace, artifacts, save_json, save_text, settle
from ddm_framework.runs.data_notes import data_notes
from ddm_framework.runs.own_training import OwnTraining
from ddm_framework.runs.provenance import environment
from ddm_framework.runs.run_folder import RECIPE, StageClock, locked
from ddm_framework.runs.samples import save_samples
from ddm_framework.stages import offline
from ddm_framework.stages.fitting import check_memory
from ddm_framework.stages.foretelling import foretell
from ddm_framework.stages.inputs import stage_inputs
from ddm_framework.truth.certified import Certified, certificate_of, certified_queries
from ddm_framework.truth.reproduction import Reproduction, reproduction

LOWER = {
    "training": "lower training.batch_size or the size of the backbone",
    "partition": "lower clusterer.clusters_per_class, or take fewer images (train_size)",
    "matching": "lower memory_mb, matching.images_per_cluster or the size of the backbone",
    "online": "lower memory_mb, the number of queries, online.num_perturbations or the size of the backbone",
}
"""What to lower where the memory ends in a stage."""
SPLITS = ("train", "validation", "test")


def execute(
    recipe: Recipe,
    registry: Registry,
    out: Path,
    *,
    fresh: bool = False,
    display: ProgressDisplay = SILENT,
    own_training: OwnTraining | None = None,
) -> tuple[Workspace, dict[str, Any]]:
    """Run a recipe to its report.

    Args:
        recipe: checked.
        registry: components that a study may look up by name.
        out: the run folder.
        fresh: redo the first stage whose inputs changed, and what follows from it, instead of refusing.
        display: where progress is shown.
        own_training: of a target that was trained elsewhere.
    Returns:
        The workspace of the finished run and its metrics.
    Raises:
        DDMError: for a mistake of the user; what was finished before stays.
    """
    recipe, device = settle(recipe, RunFolder.open(out))
    display.say("loading the data")
    data = load_data(recipe)
    for sentence in data.notes:
        display.say(sentence)
    inputs = stage_inputs(recipe, registry, data.fingerprint(), own_training.digest if own_training else "")
    with locked(out):
        folder = RunFolder.open(out)
        folder.claim(inputs, fresh=fresh)
        workspace = Workspace(recipe, folder, registry, device, display, data, own_training=own_training)
        if not all(map(folder.is_done, STAGES)):
            note(workspace)
        save_recipe(workspace)
        if not all(map(folder.is_done, STAGES)):
            check_memory(workspace)
            with suppress(DDMError):  # what is wrong shows where it matters, and is told in its own words
                foretell(workspace)
        work_offline(workspace, inputs)
        if not folder.is_done("online"):
            _online(workspace, inputs["online"])
    return workspace, artifacts.load_metrics(folder)


def work_offline(workspace: Workspace, inputs: Mapping[str, StageInputs]) -> None:
    """Do those of the given offline stages (target, partition, synset) that are not done."""
    folder = workspace.folder
    target = offline.train_target if workspace.recipe.target.checkpoint is None else offline.adopt_target
    for stage, work in {"training": target, "partition": offline.divide, "matching": offline.distil}.items():
        if stage in inputs and not folder.is_done(stage):
            with folder.stage(stage, inputs[stage]) as clock, memory_told(stage, LOWER[stage]):
                work(workspace, clock)


def note(workspace: Workspace) -> None:
    """Record in the manifest what the run is made from and with."""
    recipe, folder, data = workspace.recipe, workspace.folder, workspace.data
    artifacts.save_info(folder, data.info, {split: len(getattr(data, split)) for split in SPLITS})
    device = workspace.device
    folder.note(
        recipe=recipe.name,
        seed=recipe.general.seed,
        threads=recipe.general.threads,
        memory_mb=recipe.general.memory_mb,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        plugins=[plugin.name for plugin in workspace.registry.plugins if not plugin.failure],
        **environment(),
    )


def save_recipe(workspace: Workspace) -> None:
    """Write the recipe if it changed: the data may have moved, and a finished run may be read-only."""
    path, text = workspace.folder.file(RECIPE), workspace.recipe.as_yaml()
    try:
        old = read_bytes(path, MAX_BYTES)
    except FileError:
        old = b""
    if old != text.encode():
        save_text(path, text)


def _online(workspace: Workspace, inputs: StageInputs) -> None:
    """Run the study and write its results."""
    folder = workspace.folder
    with folder.stage("online", inputs) as clock, memory_told("online", LOWER["online"]):
        workspace.registry.used.clear()
        repeated, repeating = _repeat(workspace, clock)
        found, spent = _certify(workspace, clock)
        report = workspace.recipe.study(workspace)
        if not isinstance(report, Report):
            name = workspace.recipe.study.name
            raise PluginError(f"study {name!r} must return a Report, returned {type(report).__name__}")
        if found is not None:
            report = found.added_to(report)
        asked_for = [f"{kind} {name}" for kind, name in workspace.registry.used]
        clock.used({name: inputs.code_of(name) for name in asked_for})
        artifacts.save_attribution(folder, report.tensors)
        clock.stop()
        save_samples(workspace)
        apart = {"train_function": repeating} if repeated else {}
        apart |= {} if found is None else {"certificate": round(spent, 3)}
        _write_report(workspace, report, apart, repeated)


def _repeat(workspace: Workspace, clock: StageClock) -> tuple[Reproduction | None, float]:
    """How near the user's own training comes to the target, and the seconds that it took, which are not the stage's."""
    if workspace.own_training is None:
        return None, 0.0
    begun = time.monotonic()
    with clock.apart():
        return reproduction(workspace), round(time.monotonic() - begun, 3)


def _certify(workspace: Workspace, clock: StageClock) -> tuple[Certified | None, float]:
    """The certificate, if the recipe asks for one, and the seconds that it took; they are not the online stage's."""
    if not workspace.recipe.certificate.retrainings:
        return None, 0.0
    workspace.design_logits(certified_queries(workspace))  # most studies ask the same, so this is online work
    begun = time.monotonic()
    with clock.apart():
        found = certificate_of(workspace)
    workspace.certificate = None if found is None else found.metrics
    return found, time.monotonic() - begun


def _write_report(
    workspace: Workspace, report: Report, apart: Mapping[str, float], repeated: Reproduction | None
) -> None:
    folder, begun = workspace.folder, time.monotonic()
    metrics = core_metrics(workspace)
    if repeated is not None:
        metrics["train_function"] = repeated.metrics()
    metrics = {**metrics, **{key: _merged(metrics.get(key), value) for key, value in report.metrics.items()}}
    brought = workspace.recipe.target.checkpoint is not None
    title = "A network that was trained elsewhere" if brought else "Of this network"
    notes = {
        "The data": data_notes(workspace),
        title: caveats(workspace, metrics, repeated.sentence() if repeated else ""),
    }
    for heading, told in notes.items():
        if told:
            section = Section(heading, [Text(each) for each in told])
            report = replace(report, sections=[*report.sections, section])
    if any(notes.values()):
        metrics["notes"] = [each for told in notes.values() for each in told]
    seconds = {**{stage: value for stage, value in folder.seconds().items() if stage != "report"}, **apart}
    text = page(workspace, report, seconds, metrics)
    save_text(folder.file("report.html"), text)
    seconds["report"] = round(time.monotonic() - begun, 3)
    metrics["seconds"] = {**seconds, "total": round(sum(seconds.values()), 3)}
    save_json(folder.file("metrics.json"), metrics)


def _merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def core_metrics(workspace: Workspace) -> dict[str, Any]:
    """Figures of every run, whatever its study."""
    synset, class_synset = workspace.synset, workspace.class_synset
    perturbed = (workspace.perturbations == 0).any(1)
    return {
        "target": {
            f"{split}_accuracy": workspace.accuracy(split) for split in SPLITS if len(getattr(workspace.data, split))
        },
        "matching": {
            "mean_cosine": float(synset.cosine.mean()),
            "cosine": synset.cosine.tolist(),
            "class_mean_cosine": float(class_synset.cosine.mean()),
            "class_cosine": class_synset.cosine.tolist(),
        },
        "online": {"num_finetunings": int(perturbed.sum())},
    }
