"""Write the figures of README.md and docs/own_network.md from the committed result files, or check that they are those.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
OWN_NETWORK = HERE.parent / "docs" / "own_network.md"
BEGIN, END = "<!-- numbers -->", "<!-- end of numbers -->"
RETRAIN = {"exact", "datamodel"}


def result(name: str) -> dict[str, Any]:
    """One committed result file."""
    found: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def numbers() -> str:
    """The section as Markdown."""
    digits, mnist, fidelity, bank = map(result, ("digits_convnet", "mnist_quick", "fidelity_digits", "bank"))
    slice_of_mnist = _mnist(result("fidelity_mnist"))
    parts = [_runs(digits, mnist), _backbones(result("backbones")), _fidelity(fidelity), _table(fidelity)]
    parts += [slice_of_mnist, _speed(bank), _how(bank)]
    return "\n\n".join(parts)


def _runs(digits: dict[str, Any], mnist: dict[str, Any]) -> str:
    rows = [
        "| recipe | test accuracy | clusters, mean matching cosine | top cluster of the predicted class | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, found in (("digits_convnet", digits), ("mnist_quick", mnist)):
        matching, share = found["matching"], found["attribution"]["top_class_agreement"]
        rows.append(
            f"| `{name}` | {found['target']['test_accuracy']:.1%} | {len(matching['cosine'])},"
            f" {matching['mean_cosine']:.2f} | {share:.1%} of correct predictions | {found['seconds']['total']:.0f} |"
        )
    return "\n".join(rows)


def _backbones(found: dict[str, Any]) -> str:
    """Every architecture of the paper on a slice of CIFAR-10."""
    named = {name: each for name, each in found.items() if name != "settings"}
    listed = "; ".join(
        f"{name} {each['mean_cosine']:.2f} ({each['distance']}, accuracy {each['test_accuracy']:.0%})"
        for name, each in named.items()
    )
    return (
        "The paper's four architectures, made narrow, on 2,000 images of CIFAR-10 for ten epochs with Table 5's"
        f" settings of matching (`benchmarks/backbones.py`), reach a mean matching cosine of: {listed}."
    )


def _fidelity(found: dict[str, Any]) -> str:
    figures = found["fidelity"]
    return (
        "Against exact retraining (`recipes/fidelity_digits.yaml`: 100 networks retrained without one cluster each and"
        " 40 without a random fifth of the clusters). *Share* is how far each method's first choice goes from a random"
        f" cluster (Dist_1 {figures['random']['dist_1']:.2f}, times 100) to the best one"
        f" ({figures['oracle']['dist_1']:.2f}); *LDS* is the rank correlation of summed effects with the truth over the"
        " 40 networks. Settings of every rival were chosen on a validation bank of their own."
    )


def _table(found: dict[str, Any]) -> str:
    rows = [
        "| method | share of the oracle's Dist_1 | cluster LDS (95 %) | seconds once | seconds for all test images |",
        "|---|---|---|---|---|",
    ]
    methods = {name: each for name, each in found["fidelity"].items() if "recovered_share" in each}
    for name, each in sorted(methods.items(), key=lambda item: -item[1]["recovered_share"]):
        shown = f"**{name}**" if name == "ddm" else f"{name} (retrains)" if name in RETRAIN else name
        lds = "–"
        if "cluster_lds" in each:
            low, high = each["cluster_lds_interval"]
            lds = f"{each['cluster_lds']:.2f} ({low:.2f}–{high:.2f})"
        low, high = each["recovered_share_interval"]
        share = f"{each['recovered_share']:.0%} ({low:.0%}–{high:.0%})"
        rows.append(f"| {shown} | {share} | {lds} | {each['seconds_offline']:.0f} | {each['seconds_online']:.1f} |")
    return "\n".join(rows)


def _mnist(found: dict[str, Any]) -> str:
    """Where training is short, everything is harder."""
    figures = {name: each for name, each in found["fidelity"].items() if "cluster_lds" in each}
    ranked = sorted(figures.items(), key=lambda item: -item[1]["recovered_share"])
    listed = ", ".join(f"{name} {each['recovered_share']:.0%} / {each['cluster_lds']:.2f}" for name, each in ranked)
    return (
        "A network that is still moving is harder for every method. On a slice of MNIST after eight epochs"
        " (`recipes/fidelity_mnist.yaml`), where the true effects of single clusters themselves reach an LDS of"
        f" {figures['exact']['cluster_lds']:.2f}, share and LDS are: {listed}."
    )


def _speed(bank: dict[str, Any]) -> str:
    return (
        f"Retraining itself is batched: the bank of {bank['bank_networks']} networks took {bank['bank_seconds']:.0f}"
        f" seconds, {bank['times_faster_than_the_best_plain_loop']:.1f} times faster than the best plain loop of"
        f" ordinary PyTorch in one process, with {bank['workers']} worker processes against it. Leave-one-out by ddm"
        f" took {bank['ddm_leave_one_out_seconds']:.2f} seconds for 100 networks and all test images,"
        f" {bank['ddm_times_faster_than_retraining_100']:.0f} times faster than that engine."
    )


def _how(bank: dict[str, Any]) -> str:
    return (
        f"On {bank['machine']}, by `make results`; the result files lie in `benchmarks/results/`, and"
        " `benchmarks/readme.py` wrote this section from them."
    )


def own_network() -> str:
    """What a network costs that comes with few checkpoints."""
    rows = [
        "| checkpoints | mean matching cosine | share of the oracle's Dist_1 | top cluster of the predicted class |",
        "|---|---|---|---|",
    ]
    for name, found in result("own_network").items():
        share, agreement = found["recovered_share"], found["top_class_agreement"]
        rows.append(f"| {name} | {found['mean_cosine']:.2f} | {share:.1%} | {agreement:.1%} |")
    return "\n".join(rows)


def pages() -> dict[Path, str]:
    """Every page with its figures written anew."""
    return {path: _rendered(path, text) for path, text in ((README, numbers()), (OWN_NETWORK, own_network()))}


def _rendered(path: Path, text: str) -> str:
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write, or compare and leave with status 1 if they differ."""
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
        sys.exit(f"{', '.join(stale)}: not the committed results; run benchmarks/readme.py" if stale else 0)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
