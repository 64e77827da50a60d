"""What a few exact retrainings add to the estimates on the digits, beside exact retraining, over three seeds.

    python benchmarks/corrected.py    (fifteen minutes on two cores; writes benchmarks/results/corrected.json)
    python benchmarks/corrected.py --seeds 1    (one seed alone; the others stay as they are)

`ddm_corrected` stands beside the replay that it corrects and an ordinary datamodel of the same retrainings. The
networks that judge lack other random clusters than those that correct, and nothing is chosen on them. Amounts are
what a certificate of 20 sets and 6 or 10 single clusters says of the first cluster that made the network say what it
says, for every test image, beside the network that was retrained without that cluster. The form of the intervals was
chosen on seeds 10 to 12. Each seed uses the run folder and the bank of `benchmarks/fidelity.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import stored
import torch
from ddm_studies import fidelity
from ddm_studies.comparison.judging import Judge

import ddm_framework
from ddm_framework.online import log_odds, sides
from ddm_framework.plugin import choose
from ddm_framework.truth import amounts_of, calibrate

RESULT = stored.RESULTS / "corrected.json"
SEEDS, RETRAININGS, SINGLES, EPOCHS = (0, 1, 2), 20, (6, 10), 5
REPLAYED = (0, 2, 5)
"""Epochs of `online.replay` for which amounts are told."""
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "datamodel": ("datamodel", {"num_retrainings": RETRAININGS}),
    "ddm_replay": ("ddm_replay", {"epochs": EPOCHS}),
    "replay_influence": ("replay_influence", {"epochs": EPOCHS}),
    "ddm_corrected": ("ddm_corrected", {"retrainings": RETRAININGS}),
    "ddm_corrected, influence": ("ddm_corrected", {"retrainings": RETRAININGS, "direction": "influence"}),
}
FIGURES = ("cluster_lds", "set_lds", "spearman", "r2", "set_r2", "recovered_share", "misread_share")


SETTINGS = {"recipe": "fidelity_digits", "retrainings": RETRAININGS, "singles": SINGLES, "epochs": EPOCHS}


def main() -> None:
    """Measure every seed that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    for seed in parser.parse_args().seeds:
        asked = [f"seed={seed}", 'study.methods=[{"use": "ddm"}]']
        out = Path("runs", "results", f"fidelity_digits_{seed}")
        run = ddm_framework.run(stored.RECIPES / "fidelity_digits.yaml", asked, out=out, fresh=True)
        options = run.workspace.recipe.study.options
        judge = fidelity.judge_of(
            run.workspace, **{key: options[key] for key in ("queries", "masks", "deleted", "resamples")}
        )
        amounts = {
            str(epochs): {str(singles): _amounts(judge, epochs, singles) for singles in SINGLES} for epochs in REPLAYED
        }
        rows = {**{name: _figures(judge, name) for name in METHODS}, "amounts": amounts}
        before = stored.read(RESULT) if RESULT.is_file() else {}
        measured = {key: each for key, each in before.items() if key in map(str, SEEDS)} | {str(seed): rows}
        stored.write(RESULT, {"settings": SETTINGS, **dict(sorted(measured.items())), "machine": stored.machine("cpu")})


def _figures(judge: Judge, name: str) -> dict[str, Any]:
    use, options = METHODS[name]
    figures = judge.verdict(name, choose(judge.workspace.registry, "attributor", use, options), "").figures
    kept = {key: value for key, value in figures.items() if key.removesuffix("_interval") in FIGURES}
    print(judge.workspace.root.path.name, name, kept, flush=True)
    return kept


def _amounts(judge: Judge, epochs: int, singles: int) -> dict[str, Any]:
    """How often and how narrowly the intervals of the first clusters hold the truth."""
    workspace, queries = judge.workspace.with_online(replay=epochs), judge.queries
    objective = workspace.objectives[0]
    certificate = calibrate(workspace, queries, objective, RETRAININGS, singles).metrics()
    workspace.certificate = certificate
    told, attribution = amounts_of(workspace, queries), workspace.attribution(queries, objective)
    assert told is not None
    firsts = [found.made[0] if (found := sides(attribution, row)) and found.made else 0 for row in range(len(queries))]
    rows, at = torch.arange(len(queries)), torch.tensor(firsts)
    said = workspace.target_logits(queries.images).argmax(1)
    odds = log_odds(judge.leave_one_out_logits(workspace.partition), said)[at, rows]
    truth, low, high = odds.sigmoid(), told.low[rows, at], told.high[rows, at]
    held, known, misread = (low <= truth) & (truth <= high), told.retrained[at], judge.misread
    held |= known  # the same network, but for rounding
    width, moved = high - low, (truth - told.before).abs()
    wide, far = torch.logit(high) - torch.logit(low), (odds - torch.logit(told.before)).abs()
    found = {
        "retrained": int(known.sum()),
        "coverage": float(held.double().mean()),
        "coverage_not_retrained": float(held[~known].double().mean()),
        "misread": int(misread.sum()),
        "misread_held": int(held[misread].sum()),
        "median_width": float(width.median()),
        "median_width_not_retrained": float(width[~known].median()),
        "median_true_effect": float(moved.median()),
        "median_width_log_odds": float(wide.median()),
        "median_true_effect_log_odds": float(far.median()),
        "certificate": certificate,
    }
    print(workspace.root.path.name, epochs, singles, found, flush=True)
    return found


if __name__ == "__main__":
    main()
