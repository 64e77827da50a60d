"""What a few exact retrainings add to the estimates on the digits, beside exact retraining, over three seeds.

    python benchmarks/corrected.py    (fifteen minutes on two cores; writes benchmarks/results/corrected.json)

`ddm_corrected` stands beside the replay that it corrects and an ordinary datamodel of the same retrainings. The
networks that judge lack other random clusters than those that correct, and nothing is chosen on them. Each seed uses
the run folder and the bank of `benchmarks/fidelity.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import stored
from ddm_studies import fidelity
from ddm_studies.comparison.judging import Judge

import ddm_framework
from ddm_framework.plugin import choose

RESULT = stored.RESULTS / "corrected.json"
SEEDS, RETRAININGS, EPOCHS = (0, 1, 2), 20, 5
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "datamodel": ("datamodel", {"num_retrainings": RETRAININGS}),
    "ddm_replay": ("ddm_replay", {"epochs": EPOCHS}),
    "ddm_replay, step of sets": ("ddm_replay", {"epochs": EPOCHS, "step_size": 0.005}),
    "ddm_corrected": ("ddm_corrected", {"retrainings": RETRAININGS}),
}
FIGURES = ("cluster_lds", "set_lds", "spearman", "r2", "set_r2", "recovered_share", "misread_share")
SECONDS = ("seconds_offline", "seconds_online")


def main() -> None:
    """Measure every seed."""
    found: dict[str, Any] = {"settings": {"recipe": "fidelity_digits", "retrainings": RETRAININGS, "epochs": EPOCHS}}
    for seed in SEEDS:
        asked = [f"seed={seed}", 'study.methods=[{"use": "ddm"}]']
        out = Path("runs", "results", f"fidelity_digits_{seed}")
        run = ddm_framework.run(stored.RECIPES / "fidelity_digits.yaml", asked, out=out, fresh=True)
        options = run.workspace.recipe.study.options
        judge = fidelity.judge_of(
            run.workspace, **{key: options[key] for key in ("queries", "masks", "deleted", "resamples")}
        )
        found[str(seed)] = {name: _figures(judge, name) for name in METHODS}
        found["machine"] = stored.machine("cpu")
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _figures(judge: Judge, name: str) -> dict[str, Any]:
    use, options = METHODS[name]
    figures = judge.verdict(name, choose(judge.workspace.registry, "attributor", use, options), "").figures
    kept = {key: value for key, value in figures.items() if key.removesuffix("_interval") in FIGURES or key in SECONDS}
    print(judge.workspace.root.path.name, name, kept, flush=True)
    return kept


if __name__ == "__main__":
    main()
