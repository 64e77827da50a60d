"""What one takes along: the network, the list of what it lacks, and what makes it again."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddm_framework.answers import Without
from ddm_framework.app.jobs import Jobs
from ddm_framework.app.requests import Export
from ddm_framework.app.served_run import ServedRun
from ddm_framework.errors import DDMError, RunFolderError
from ddm_framework.runs import save_tensors, save_text

SCRIPT = '''\
"""Makes network.safetensors again. {what}

python reproduce.py [RUN]
"""

import sys
from pathlib import Path

import ddm_framework
from ddm_framework.runs import save_tensors

HERE = Path(__file__).resolve().parent
RUN = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1]

run = ddm_framework.open_run(RUN){online}
found = run.{call}(
    clusters={clusters},
    classes={classes},
    samples={samples},
)
save_tensors(HERE / "network.safetensors", found.module.state_dict())
print(f"test accuracy {{found.accuracy:.2%}}, another class for {{len(found.changed)}} test images")
'''


def written(served: ServedRun, jobs: Jobs, asked: Export) -> dict[str, Any]:
    """Write a folder `exports/<n>` into the run folder.

    Returns:
        The folder and the names of its files.
    Raises:
        DDMError: if nothing is left out, the exact network is wanted and is not there, or the folder cannot be
            written to.
    """
    if not any(asked.ids):
        raise DDMError("nothing is left out; tick clusters, classes or samples first")
    found = jobs.truth(asked) if asked.retrained else served.without(asked).found
    if found is None:
        raise DDMError("the network was not retrained without these yet; check by retraining first")
    folder = _next_folder(served.run.path / "exports")
    save_tensors(folder / "network.safetensors", found.module.state_dict())
    save_text(folder / "left_out.csv", _left_out(found))
    save_text(folder / "recipe.yaml", _recipe(served, asked))
    save_text(folder / "reproduce.py", _script(served, asked))
    return {"folder": str(folder), "files": sorted(each.name for each in folder.iterdir())}


def _next_folder(exports: Path) -> Path:
    """A new folder, numbered from 1."""
    try:
        exports.mkdir(exist_ok=True)
        taken = [int(each.name) for each in exports.iterdir() if each.name.isdecimal()]
        folder = exports / str(max(taken, default=0) + 1)
        folder.mkdir()
    except OSError as error:
        raise RunFolderError(f"cannot write to {exports}: {error.strerror}") from None
    return folder


def _left_out(found: Without) -> str:
    """The training samples that are left out, as CSV."""
    partition, names = found.workspace.partition, found.workspace.info.class_names
    clusters, classes = partition.clusters.tolist(), partition.classes.tolist()
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["sample", "cluster", "class"])
    for sample in found.left_out.nonzero()[:, 0].tolist():
        rows.writerow([sample, clusters[sample], names[classes[clusters[sample]]]])
    return text.getvalue()


def _recipe(served: ServedRun, asked: Export) -> str:
    """The recipe of the run, with the replay that was chosen."""
    recipe = served.run.workspace.recipe
    if asked.replay is not None:
        recipe = replace(recipe, online=recipe.online.changed({"replay": asked.replay}))
    return recipe.as_yaml()


def _script(served: ServedRun, asked: Export) -> str:
    clusters, classes, samples = asked.ids
    replayed = not asked.retrained and asked.replay not in (None, served.own_replay)
    return SCRIPT.format(
        what="It was retrained exactly." if asked.retrained else "It is an estimate by the run's synset and replay.",
        online=f".with_online(replay={asked.replay})" if replayed else "",
        call="retrained_without" if asked.retrained else "without",
        clusters=list(clusters),
        classes=list(classes),
        samples=list(samples),
    )
