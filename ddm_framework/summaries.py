"""What a command prints when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ddm_framework.api import Run


def print_run(run: Run, console: Console | None = None) -> None:
    """The figures of a run and where its report lies."""
    console = console or Console(highlight=False)
    metrics = run.metrics
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("test accuracy", f"{metrics['target']['test_accuracy']:.1%}")
    table.add_row(
        "matching cosine", f"{metrics['matching']['mean_cosine']:.3f} (mean over {_clusters(metrics)} clusters)"
    )
    agreement = metrics.get("attribution", {}).get("top_class_agreement")
    if agreement is not None:
        table.add_row("top cluster", f"of the predicted class for {agreement:.1%} of the correctly classified queries")
    spent = ", ".join(f"{stage} {value:.1f}" for stage, value in metrics["seconds"].items())
    table.add_row("seconds", spent)
    console.print(table)
    if "comparison" in metrics:
        _print_comparison(metrics["comparison"], console)
    for note in metrics.get("notes", ()):
        console.print(Text(note), soft_wrap=True)
    console.print(Text(f"report: {run.report}"), soft_wrap=True)


def _print_comparison(compared: Mapping[str, Any], console: Console) -> None:
    """A table or figure of the paper, its numbers beside ours."""
    table = Table("", "figure", "paper", "ours", title=f"{compared['source']}: {compared['title']}", box=None)
    for each in compared["figures"]:
        low, high = each["interval"] or (None, None)
        interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
        ours = "–" if each["ours"] is None else f"{each['ours']:.4g}{interval}"
        paper = "–" if each["paper"] is None else f"{each['paper']:.4g}"
        table.add_row(Text(each["row"]), Text(each["column"]), paper, ours)
    console.print(table)
    for sentence in compared["sentences"]:
        console.print(Text(sentence), soft_wrap=True)


def _clusters(metrics: Mapping[str, Any]) -> int:
    return len(metrics["matching"]["cosine"])


def print_answer(answer: Mapping[str, Any], console: Console | None = None) -> None:
    """The clusters behind each prediction."""
    console = console or Console(highlight=False)
    for query in answer["queries"]:
        labelled = f", labelled {query['label']}" if query["label"] is not None else ""
        console.print(
            Text(f"{query['id']}: predicted {query['predicted']} ({query['probability']:.1%}){labelled}", "bold")
        )
        table = Table("cluster", "class", answer["objective"] + " without it", box=None, pad_edge=False)
        for cluster in query["clusters"]:
            table.add_row(str(cluster["cluster"]), Text(cluster["class"]), f"{cluster['effect']:+.4g}")
        console.print(table)
    console.print(Text(f"page: {answer['page']}"), soft_wrap=True)
