"""Most memory of a run that asks about 100 images and of one that asks about 6,000: 480 clusters of 60 classes.

    python benchmarks/queries.py   (some minutes; writes benchmarks/results/queries.json)

Both runs are processes of their own, with the same made-up data, the same offline stages and the same `memory_mb`; the
second has `study.queries: all`. What they have more of is what their question takes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import stored

RESULT = stored.RESULTS / "queries.json"
CLASSES, PER_CLASS, TRAINED, ASKED, FEW = 60, 8, 12, 6000, 100
"""Classes, clusters and training images of each; test images, and how many the first run asks about."""
RECIPE = """\
seed: 0
device: cpu
threads: 1
memory_mb: {memory_mb}
dataset: {{use: npz, path: data.npz, validation: 0}}
backbone: {{use: convnet, width: 8, depth: 2}}
clusterer: {{use: kmeans, clusters_per_class: {per_class}, restarts: 1}}
distance: {{use: cosine}}
training: {{epochs: 2, lr: 0.05, checkpoint_every: 1}}
matching: {{steps: 2, step_length: 1}}
online: {{perturbations: leave_one_out}}
objectives: [{{use: output_shift}}]
study: {{use: attribution, queries: {queries}, show: 2}}
"""


def make_data(path: Path, classes: int, asked: int) -> None:
    """Noisy pictures of one pattern for each class."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 255, (classes, 8, 8))

    def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(classes), count)
        noisy = patterns[labels] + random.normal(0, 40, (len(labels), 8, 8))
        return np.clip(noisy, 0, 255).astype(np.uint8), labels

    (images, labels), (test, answers) = pictures(TRAINED), pictures(asked // classes)
    np.savez(path, x_train=images, y_train=labels, x_test=test, y_test=answers)


def most_memory(folder: Path, queries: str, per_class: int, memory_mb: int) -> float:
    """Peak of a fresh process in MiB that runs the recipe with so many queries.

    Args:
        folder: with `data.npz`.
        queries: `all`, or their number.
        per_class: clusters of each class.
        memory_mb: the run's budget.
    """
    recipe = folder / f"queries_{queries}.yaml"
    recipe.write_text(RECIPE.format(memory_mb=memory_mb, per_class=per_class, queries=queries))
    command = [sys.executable, __file__, "--one", str(recipe)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(told.split()[-1]) / 1024


def main() -> None:
    """Measure both, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=Path)
    one = parser.parse_args().one
    if one is not None:
        import ddm_framework

        ddm_framework.run(one, out=one.with_suffix(""))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder / "data.npz", CLASSES, ASKED)
        few, many = (most_memory(folder, each, PER_CLASS, 256) for each in (str(FEW), "all"))
    shape = {"clusters": CLASSES * PER_CLASS, "classes": CLASSES, "memory_mb": 256}
    found = {
        **shape,
        f"{FEW} queries, MiB": round(few),
        f"{ASKED} queries, MiB": round(many),
        "more": round(many - few),
    }
    stored.write(RESULT, {**found, "machine": stored.machine("cpu")})
    print(found)


if __name__ == "__main__":
    main()
