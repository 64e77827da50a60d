"""What is said of Fig. 3 and 8, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ddm_studies.comparison.paper import Claim, Findings, outcome_of

Stored = Mapping[str, Any]


def findings(metrics: Stored) -> Findings:
    """The verdicts of Fig. 3 or 8, and what cannot be compared, from the entry of metrics.json."""
    stored = metrics["architectures"]
    if stored["figure"] == "fig_3":
        sentences, claims = [_traced(stored), _similar_networks(stored)], list(_claims_of_fig_3(stored))
    else:
        sentences, claims = [_robust(stored), _diversity(stored)], list(_claims_of_fig_8(stored))
    return Findings([*sentences, *_on_exact(stored)], claims)


def _claims_of_fig_3(stored: Stored) -> Iterator[Claim]:
    hits, exact, count = _counted(stored)
    measured = f"{hits} of {count} networks by DDM" + ("" if exact is None else f", {exact} by exact retraining")
    claim = "every architecture traces queries of a class to that class"
    yield Claim(claim, measured, "holds" if hits == count else "does not hold")
    yield from _similarity(stored, "the matrices of all architectures are similar")


def _claims_of_fig_8(stored: Stored) -> Iterator[Claim]:
    yield from _similarity(stored, "the matrices from several initialisations are similar")
    measured = f"diversity {1 - stored['spearman']:.2f}; the three data sets are of about one size"
    yield Claim("diversity grows with the size of the data", measured, "cannot be tested at this size")


def _similarity(stored: Stored, claim: str) -> Iterator[Claim]:
    """Judged on the classes other than each row's own, where chance gives 0."""
    if stored.get("off_diagonal_interval") is None:
        yield Claim(claim, "a class has only one query, so there is no interval", "cannot be tested at this size")
        return
    measured = f"rank correlation {_figure(stored, 'off_diagonal')} off the diagonal, 0 by chance"
    yield Claim(claim, measured, outcome_of(stored["off_diagonal_interval"]))


def _counted(stored: Stored) -> tuple[int, int | None, int]:
    """Networks that trace the queries to their class, by DDM and by exact retraining, and all of them."""
    networks = list(stored["networks"].values())
    exact = [each["traced_exact"] for each in networks]
    return sum(each["traced"] for each in networks), None if None in exact else sum(exact), len(networks)


def _traced(stored: Stored) -> str:
    """Whether the queries of a class are traced to it, as in Fig. 3, and whether they should be."""
    hits, exact, count = _counted(stored)
    astray = [name for name, each in stored["networks"].items() if not each["traced"]]
    named = f'"{stored["query_class_name"]}"'
    said = f"Queries {named} are traced to the class {named} by "
    said += (
        f"all {count} networks, as in the paper"
        if not astray
        else f"{hits} of {count} networks (the paper: all), not by {', '.join(astray)}"
    )
    return said + ("." if exact is None else f"; exact retraining traces them to it for {exact} of {count}.")


def _similar_networks(stored: Stored) -> str:
    return (
        f"The mean rank correlation between the attribution matrices of two networks is {_similar(stored)}; the paper"
        " calls the matrices of all architectures similar and gives no figure."
    )


def _robust(stored: Stored) -> str:
    """The first claim of Fig. 8."""
    interval = stored.get("off_diagonal_interval")
    outcome = "not told" if interval is None else outcome_of(interval)
    verdict = {
        "holds": "are similar beyond chance, as the paper says",
        "does not hold": "are less similar than by chance (the paper: similar)",
        "not told": "are not measurably similar beyond chance (the paper: similar)",
    }[outcome]
    return (
        f"Attribution matrices from {len(stored['networks'])} initialisations {verdict}: the mean rank correlation"
        f" between two of them is {_similar(stored)}."
    )


def _similar(stored: Stored) -> str:
    """Agreement within rows beside what the own classes alone give, and agreement on the other classes."""
    said = (
        f"{_figure(stored, 'spearman')} within rows, of which {stored['floor']:.2f} is due to their own classes alone"
    )
    return said + (f", and {_figure(stored, 'off_diagonal')} for the other classes" if "off_diagonal" in stored else "")


def _diversity(stored: Stored) -> str:
    return (
        "The paper's claim that diversity grows with the size of the data (MNIST, CIFAR-10, CIFAR-100) cannot be judged"
        f" from one data set: the diversity, one minus that correlation, is {1 - stored['spearman']:.2f} for these"
        f" {stored['num_training']:,} training images of {stored['num_classes']} classes. The three data sets have"
        " 60,000, 50,000 and 50,000 training images, so their number does not grow."
    )


def _on_exact(stored: Stored) -> Iterator[str]:
    """How accurate the estimates are, and how much the exact matrices of two networks agree."""
    if "with_exact" not in stored:
        return
    yield (
        "The mean rank correlation between an estimated matrix and that from exact retraining of the same network is"
        f" {_figure(stored, 'with_exact')} within rows, of which {stored['with_exact_floor']:.2f} is due to their own"
        f" classes alone{_others(stored, 'with_exact_off_diagonal')}."
    )
    yield (
        "The exact matrices of two networks have a mean rank correlation of"
        f" {_figure(stored, 'both_exact')} within rows{_others(stored, 'both_exact_off_diagonal')}; accurate estimates"
        " cannot be expected to agree more than that."
    )


def _others(stored: Stored, name: str) -> str:
    return f", and {_figure(stored, name)} for the other classes" if name in stored else ""


def _figure(stored: Stored, name: str) -> str:
    """A figure with its interval, where it has one."""
    told, interval = f"{stored[name]:.2f}", stored[f"{name}_interval"]
    return told if interval is None else f"{told} ({interval[0]:.2f} to {interval[1]:.2f})"
