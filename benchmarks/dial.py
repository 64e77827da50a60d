"""The dial on the digits: what each replayed epoch buys, beside exact retraining, over three seeds.

    python benchmarks/dial.py    (fifteen minutes on two cores; writes benchmarks/results/dial.json)

The length of the step is chosen for each number of epochs on the validation split, for single deletions by the LDS of
their added effects, for networks of whole sets (`sets`) by the LDS of what these say. All epochs are exact
retraining, which a test shows to the last bit, so they are not measured. Each seed uses the run folder and the bank of
`benchmarks/fidelity.py`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import stored
from ddm_studies import fidelity
from ddm_studies.comparison.grids import decided, judge_each
from ddm_studies.comparison.judging import Judge, scoring_masks

import ddm_framework
from ddm_framework.plugin.choosing import choose, choose_grid

RESULT = Path(__file__).resolve().parent / "results" / "dial.json"
SEEDS, EPOCHS = (0, 1, 2), (1, 2, 5, 10)
STEPS, SET_STEPS = [0.005, 0.01, 0.02], [0.0025, 0.005, 0.01]
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "0": ("ddm", {}),
    **{str(epochs): ("ddm_replay", {"epochs": epochs, "step_size": STEPS}) for epochs in EPOCHS},
    "exact": ("exact", {}),
}
FIGURES = ("cluster_lds", "set_lds", "spearman", "r2", "set_r2", "recovered_share", "misread_share")


def main() -> None:
    """Measure every seed, or add what networks of sets say to what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", action="store_true", help="only networks of sets, with a step of their own")
    parser.add_argument("--again", action="store_true", help="only the seconds of a second question, on the first seed")
    given = parser.parse_args()
    if given.again:
        again()
        return
    sets_alone = given.sets
    settings = {"recipe": "fidelity_digits", "epochs": list(EPOCHS), "step_size": STEPS, "step_size of sets": SET_STEPS}
    found: dict[str, Any] = {**(stored.read(RESULT) if sets_alone else {}), "settings": settings}
    for seed in SEEDS:
        asked = [f"seed={seed}", 'study.methods=[{"use": "ddm"}]']
        out = Path("runs", "results", f"fidelity_digits_{seed}")
        run = ddm_framework.run(stored.RECIPES / "fidelity_digits.yaml", asked, out=out, fresh=True)
        rows = found[str(seed)] if sets_alone else _singles(run)
        for epochs in EPOCHS:
            rows[str(epochs)]["sets"] = _sets(run, epochs)
            print(seed, epochs, rows[str(epochs)]["sets"], flush=True)
        found[str(seed)] = rows
        found["machine"] = stored.machine("cpu")
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def again() -> None:
    """Seconds of a first question, and of a second one about other images, whose networks lie in the run folder."""
    found = stored.read(RESULT)
    asked = [f"seed={SEEDS[0]}", 'study={"use": "attribution", "show": 0}', "online.keep_mb=1024"]
    run = ddm_framework.run(stored.RECIPES / "fidelity_digits.yaml", asked, out=Path("runs", "results", "dial_again"))
    margin = run.workspace.objective("margin")
    for epochs in (0, *EPOCHS):
        workspace = run.workspace.with_online(replay=epochs)
        seconds = []
        for split in ("validation", "test"):
            begun = time.monotonic()
            workspace.attribution(workspace.queries_of(split), margin)
            seconds.append(round(time.monotonic() - begun, 2))
        found[str(SEEDS[0])][str(epochs)] |= dict(zip(("seconds_first", "seconds_again"), seconds, strict=True))
        print(epochs, seconds, flush=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _judge(run: ddm_framework.Run) -> Judge:
    options = run.workspace.recipe.study.options
    return fidelity.judge_of(
        run.workspace, **{key: options[key] for key in ("queries", "masks", "deleted", "resamples")}
    )


def _singles(run: ddm_framework.Run) -> dict[str, Any]:
    """Figures of each method, its step chosen on the validation split by the LDS of added single effects."""
    options, judge, rows = run.workspace.recipe.study.options, _judge(run), dict[str, Any]()
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
        print(run.path.name, name, figures, flush=True)
    return rows


def _sets(run: ddm_framework.Run, epochs: int) -> dict[str, Any]:
    """Figures of networks of whole sets, their step chosen on the validation split by their own LDS."""
    workspace, options = run.workspace, run.workspace.recipe.study.options
    masks = scoring_masks(workspace, options["validation_masks"], options["deleted"], "validation")
    decider = Judge(workspace, workspace.queries_of("validation"), masks, resamples=100)
    choices = {
        step: choose(workspace.registry, "attributor", "ddm_replay", {"epochs": epochs, "step_size": step})
        for step in SET_STEPS
    }
    lds = {step: decider.set_figures(choice)["set_lds"] for step, choice in choices.items()}
    best = max(SET_STEPS, key=lambda step: lds[step])
    return {"step_size": best, **_judge(run).set_figures(choices[best])}


if __name__ == "__main__":
    main()
