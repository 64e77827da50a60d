"""The dial on the digits: what each replayed epoch buys, beside exact retraining, over three seeds.

    python benchmarks/dial.py    (ten minutes on two cores; writes benchmarks/results/dial.json)

The length of the step is chosen for each number of epochs on the validation split, by cluster LDS. All epochs are exact
retraining, which a test shows to the last bit, so they are not measured. Each seed uses the run folder and the bank of
`benchmarks/fidelity.py`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import stored
from ddm_studies import fidelity
from ddm_studies.comparison.grids import decided, judge_each

import ddm_framework
from ddm_framework.plugin.choosing import choose_grid

RESULT = Path(__file__).resolve().parent / "results" / "dial.json"
SEEDS, EPOCHS = (0, 1, 2), (1, 2, 5, 10)
STEPS = [0.005, 0.01, 0.02]
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "0": ("ddm", {}),
    **{str(epochs): ("ddm_replay", {"epochs": epochs, "step_size": STEPS}) for epochs in EPOCHS},
    "exact": ("exact", {}),
}
FIGURES = ("cluster_lds", "set_lds", "spearman", "r2", "set_r2", "recovered_share", "misread_share")


def main() -> None:
    """Measure every seed."""
    found: dict[str, Any] = {"settings": {"recipe": "fidelity_digits", "epochs": list(EPOCHS), "step_size": STEPS}}
    for seed in SEEDS:
        settings = [f"seed={seed}", 'study.methods=[{"use": "ddm"}]']
        out = Path("runs", "results", f"fidelity_digits_{seed}")
        run = ddm_framework.run(stored.RECIPES / "fidelity_digits.yaml", settings, out=out, fresh=True)
        options = run.workspace.recipe.study.options
        asked = {key: options[key] for key in ("queries", "masks", "deleted", "resamples")}
        judge, rows = fidelity.judge_of(run.workspace, **asked), dict[str, Any]()
        for name, (use, given) in METHODS.items():
            begun = time.monotonic()
            grid = choose_grid(run.workspace.registry, "attributor", use, given)
            settled = decided(run.workspace, [grid], options["validation_masks"], options["deleted"])
            (verdict,) = judge_each(judge, settled)
            figures = {key: value for key, value in verdict.figures.items() if key.removesuffix("_interval") in FIGURES}
            rows[name] = {
                "settings": verdict.settings,
                **figures,
                "seconds_online": verdict.figures["seconds_online"],
                "seconds_measuring": round(time.monotonic() - begun, 1),
            }
            print(seed, name, {key: rows[name].get(key) for key in FIGURES}, flush=True)
        found[str(seed)] = rows
        found["machine"] = stored.machine("cpu")
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
