"""What is said of Fig. 3 and 8, made from the stored figures alone."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_studies.comparison.measured import Stored, in_words, outcome_of
from ddm_studies.comparison.paper import Claim, Findings


def findings(metrics: Stored) -> Findings:
    """The verdicts of Fig. 3 or 8, and what cannot be compared, from the entry of metrics.json."""
    stored = metrics["architectures"]
    if stored["figure"] == "fig_3":
        sentences, claims = [_traced(stored), _alike(stored, "architectures")], list(_claims_of_fig_3(stored))
    else:
        sentences, claims = [_alike(stored, "initialisations"), _diversity(stored)], list(_claims_of_fig_8(stored))
    return Findings([*sentences, *_on_exact(stored)], claims)


def _claims_of_fig_3(stored: Stored) -> Iterator[Claim]:
    """That the queries are traced to their class by every network, and that all matrices are similar."""
    hits, exact, count = _counted(stored)
    measured = f"{hits} of {count} networks by DDM" + ("" if exact is None else f", {exact} by exact retraining")
    claim = "every architecture traces queries of a class to that class"
    yield Claim(claim, measured, "holds" if hits == count else "does not hold")
    yield from _similarity(stored, "the matrices of all architectures are similar")


def _claims_of_fig_8(stored: Stored) -> Iterator[Claim]:
    """That initialisations matter little, and that diversity grows with the data."""
    yield from _similarity(stored, "the matrices from several initialisations are similar")
    measured = f"diversity {1 - stored['spearman']:.2f}; the three data sets are of about one size"
    yield Claim("diversity grows with the size of the data", measured, "cannot be tested at this size")


def _similarity(stored: Stored, claim: str) -> Iterator[Claim]:
    """Judged on the classes other than each row's own, where chance gives 0."""
    reason = _untestable(stored)
    if reason:
        yield Claim(claim, reason, "cannot be tested at this size")
        return
    measured = (
        f"mean rank correlation of two networks {in_words(stored, 'off_diagonal')} off the diagonal (0 by chance),"
        f" {in_words(stored, 'spearman')} within rows ({stored['floor']:.2f} by own classes alone)"
    )
    yield Claim(claim, measured, outcome_of(stored["off_diagonal_interval"]))


def _untestable(stored: Stored) -> str:
    """Why similarity cannot be judged; empty where it can."""
    if "off_diagonal" not in stored:
        return "with two classes, there is only one other than a row's own"
    return "" if stored["off_diagonal_interval"] else "a class has only one query, so there is no interval"


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


def _alike(stored: Stored, what: str) -> str:
    """Whether the matrices are similar beyond chance, by the classes other than each row's own."""
    matrices = f"Attribution matrices from {len(stored['networks'])} {what}"
    if _untestable(stored):
        said = f"{matrices} cannot be judged for similarity ({_untestable(stored)})"
    else:
        said = {
            "holds": f"{matrices} are similar beyond chance, as the paper says",
            "does not hold": f"{matrices} are less similar than by chance (the paper: similar)",
            "not told": f"{matrices} are not measurably similar beyond chance (the paper: similar)",
        }[outcome_of(stored["off_diagonal_interval"])]
    return f"{said}: the mean rank correlation between two of them is {_similar(stored)}; the paper gives no figure."


def _similar(stored: Stored) -> str:
    """Agreement on the other classes, and agreement within rows beside what the own classes alone give."""
    interval = stored["spearman_interval"]
    beside = {"holds": "above", "does not hold": "below", "not told": "not measurably other than"}
    than = "beside" if interval is None else beside[outcome_of(interval, stored["floor"])]
    own = f"{than} the {stored['floor']:.2f} that their own classes alone give"
    within = f"{in_words(stored, 'spearman')} within rows, {own}"
    if "off_diagonal" not in stored:
        return within
    return f"{in_words(stored, 'off_diagonal')} for the other classes, 0 by chance, and {within}"


def _diversity(stored: Stored) -> str:
    """The second claim of Fig. 8."""
    return (
        "The paper's claim that diversity grows with the size of the data (MNIST, CIFAR-10, CIFAR-100) cannot be judged"
        " from one data set, and the three have 60,000, 50,000 and 50,000 training images, so their number does not"
        f" grow: the diversity, one minus the correlation within rows, is {1 - stored['spearman']:.2f} for these"
        f" {stored['num_training']:,} training images of {stored['num_classes']} classes."
    )


def _on_exact(stored: Stored) -> Iterator[str]:
    """How accurate the estimates are, and how much the exact matrices of two networks agree."""
    if "with_exact" not in stored:
        return
    yield (
        "The mean rank correlation between an estimated matrix and that from exact retraining of the same network is"
        f" {in_words(stored, 'with_exact')} within rows, of which {stored['with_exact_floor']:.2f} is due to their own"
        f" classes alone{_others(stored, 'with_exact_off_diagonal')}."
    )
    yield (
        "The exact matrices of two networks have a mean rank correlation of"
        f" {in_words(stored, 'both_exact')} within rows{_others(stored, 'both_exact_off_diagonal')}; accurate estimates"
        f" cannot be expected to agree more than that{', but these do' if _agree_too_much(stored) else ''}."
    )


def _agree_too_much(stored: Stored) -> bool:
    """Whether the estimates of two networks clearly agree more than their exact matrices do."""
    estimated, exact = stored["spearman_interval"], stored["both_exact_interval"]
    return estimated is not None and exact is not None and bool(estimated[0] > exact[1])


def _others(stored: Stored, name: str) -> str:
    """Agreement on the other classes, where there are enough of them."""
    return f", and {in_words(stored, name)} for the other classes" if name in stored else ""
