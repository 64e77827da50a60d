"""Open a run that a folder holds: its recipe, its device and number of threads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ddm_framework.errors import DDMError, Mark, Problem, RecipeError
from ddm_framework.plugin import Registry
from ddm_framework.recipe import Recipe, load_recipe
from ddm_framework.recipe.settings import LEAST_MB, MOST_MB
from ddm_framework.resources import free_memory, keep_freed_memory
from ddm_framework.resources import num_cores as num_cores
from ddm_framework.runs.provenance import DISTRIBUTION, own_version, versions_in_words
from ddm_framework.runs.run_folder import RunFolder


def settle(recipe: Recipe, folder: RunFolder) -> tuple[Recipe, torch.device]:
    """Replace `auto` by what the run was started with, or else by what this machine has; both change rounding.

    Raises:
        DDMError: if cuda is asked for and there is none.
    """
    general, available = recipe.general, torch.cuda.is_available()
    threads, name = general.threads, general.device
    if threads == "auto":
        threads = folder.input("training", "threads") or num_cores()
    if name == "auto":
        name = folder.input("training", "device") or "cuda"
        name = name if available else "cpu"
    if name == "cuda" and not available:
        raise DDMError("device cuda was asked for, but torch sees no GPU here; use --device cpu or auto")
    if threads > max(8 * num_cores(), 16) and threads != folder.input("training", "threads"):
        raise DDMError(
            f"threads: {threads} would wait for one another on the {num_cores()} cores here; set threads={num_cores()},"
            " or auto"
        )
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(general.matmul_precision)
    keep_freed_memory()
    memory = general.memory_mb
    if memory == "auto":
        memory = _known_memory(folder) or _share_of_memory(torch.device(name), max(1, num_cores() // threads))
    settled = {"threads": threads, "device": name, "memory_mb": memory}
    return recipe.with_general(general.model_copy(update=settled)), torch.device(name)


def _known_memory(folder: RunFolder) -> int | None:
    """What the run was begun with; runs of versions that did not write it down had the default of those."""
    if "matching" in folder.manifest["stages"]:
        return int(folder.input("matching", "memory_mb") or MOST_MB)
    found = folder.manifest.get("memory_mb")
    return found if isinstance(found, int) else None


def _share_of_memory(device: torch.device, workers: int) -> int:
    """MiB of `memory_mb: auto`, a power of two, so that a little more or less of free memory changes nothing."""
    if device.type == "cuda":
        share, most = torch.cuda.mem_get_info(device)[0] // 4, None
    else:
        free = free_memory()
        share, most = (MOST_MB * 2**20 if free is None else free // 2 // workers), MOST_MB
    found = max(LEAST_MB, 1 << max(0, (share // 2**20).bit_length() - 1))
    return found if most is None else min(found, most)


def recorded_recipe(folder: RunFolder, registry: Registry, settings: Sequence[str] = ()) -> Recipe:
    """The recipe that a run was made with, as its folder spells it out.

    Args:
        folder: of the run.
        registry: components.
        settings: overrides, each `dotted.key=value`.
    Raises:
        RecipeError: with everything that is wrong with it; where another version of ddm wrote it, both are named.
    """
    try:
        return load_recipe(str(folder.file("recipe.yaml")), registry, settings)
    except RecipeError as error:
        if folder.manifest.get("versions", {}).get(DISTRIBUTION) in (None, own_version()):
            raise
        sentence = versions_in_words(folder.manifest, []).strip()
        raise RecipeError([*error.problems, Problem(sentence, Mark(str(folder.path)))]) from error
