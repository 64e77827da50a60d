"""One recipe of each backbone on a slice of CIFAR-10, small enough for a processor.

python benchmarks/backbones.py CIFAR10   (about five minutes; writes benchmarks/results/backbones.json)

CIFAR10 is the folder that holds cifar-10-batches-py, or an .npz file with (part of) the images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import stored

import ddm_framework

RESULT = Path(__file__).resolve().parent / "results" / "backbones.json"
SLICE = ["dataset.train_size=2000", "dataset.test_size=500", "training.epochs=10", "threads=1"]
SMALL = {
    "convnet": ["backbone.width=16"],
    "alexnet": ["backbone.width=8"],
    "resnet": ["backbone.width=4", "backbone.blocks=[1,1,1,1]"],
    "vit": ["backbone.width=32", "backbone.depth=2", "backbone.heads=2"],
}


def main() -> None:
    """Run the four recipes and keep their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar10", type=Path)
    source = stored.source(parser.parse_args().cifar10)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for backbone, small in SMALL.items():
            run = ddm_framework.run(f"cifar10_{backbone}", [*source, *SLICE, *small], out=Path(folder, backbone))
            found[backbone] = {
                "test_accuracy": run.metrics["target"]["test_accuracy"],
                "mean_cosine": run.metrics["matching"]["mean_cosine"],
                "top_class_agreement": run.metrics["attribution"]["top_class_agreement"],
                "distance": run.workspace.recipe.distance.name,
                "seconds": run.metrics["seconds"]["total"],
            }
            print(backbone, found[backbone])
    RESULT.write_text(json.dumps({"settings": {"slice": SLICE, **SMALL}, **found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
