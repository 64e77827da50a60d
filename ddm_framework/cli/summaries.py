"""What a command prints when it has finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ddm_framework.cli.listing import wide_console
from ddm_framework.resources import in_words

if TYPE_CHECKING:
    from ddm_framework.api import Run
    from ddm_framework.stages import Costs


SHARES_ARE_ROUGH = "shares are rough: first-order estimates of each image's part in the cluster's effect"
SHARES_UNKNOWN = "no shares are known: the images' gradients do not explain the cluster's effect"


def print_run(run: Run, console: Console | None = None) -> None:
    """The figures of a run and where its report lies."""
    console = console or Console(highlight=False)
    metrics = run.metrics
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("test accuracy", f"{metrics['target']['test_accuracy']:.1%}")
    matching = metrics["matching"]
    cosine = f"{matching['mean_cosine']:.3f} (mean over {len(matching['cosine'])} clusters)"
    table.add_row("matching cosine", cosine)
    asked = metrics.get("attribution", {})
    if "num_misread" in asked:
        table.add_row("misread", f"{asked['num_misread']} of {asked['num_queries']} queries")
    spent = ", ".join(f"{stage} {value:.1f}" for stage, value in metrics["seconds"].items())
    table.add_row("seconds", spent)
    console.print(table)
    if "comparison" in metrics:
        _print_comparison(metrics["comparison"], console)
    for note in metrics.get("notes", ()):
        console.print(Text(note), soft_wrap=True)
    console.print(Text(f"report: {run.report}"), soft_wrap=True)


def print_costs(expected: Costs, console: Console | None = None) -> None:
    """What a run will cost, a row for each of its parts."""
    console = console or Console(highlight=False)
    table = Table("", "seconds", "memory at most", "on disk", box=None, pad_edge=False)
    for each in expected.stages:
        table.add_row(each.name, f"{each.seconds:.1f}", in_words(each.memory), in_words(each.disk))
    table.add_row("in all", f"{expected.seconds:.1f}", in_words(expected.memory), in_words(expected.disk))
    console.print(table)
    console.print(Text(expected.sentence()), soft_wrap=True)
    for told in expected.untold:
        console.print(Text(f"not counted: {told}"), soft_wrap=True)


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


def print_unlearned(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Accuracies before and after, what it took, and where the weights lie."""
    console = console or Console(highlight=False)
    if told["accuracy"]:
        table = Table("accuracy", *next(iter(told["accuracy"].values())), box=None, pad_edge=False)
        for name, found in told["accuracy"].items():
            table.add_row(name, *(f"{value:.1%}" for value in found.values()))
        console.print(table)
    else:
        console.print("The data are not what the run was made with, or gone: no accuracy can be told.", soft_wrap=True)
    console.print(Text(_cost(told)), soft_wrap=True)
    console.print(Text(f"{told['out']}: the network without {told['without']}"), soft_wrap=True)


def _cost(told: Mapping[str, Any]) -> str:
    cost, epochs = told["cost"], told["repair_epochs"]
    passes = f"{epochs} epochs of repair ({cost['epochs_share']:.0%} of a retraining's)" if epochs else "no repair"
    share = f" ({cost['seconds_share']:.0%} of a retraining's)" if "seconds_share" in cost else ""
    return f"synset's step {told['step_size']:.2g}, {passes}; {cost['seconds']:.2f} seconds{share}"


def print_answer(answer: Mapping[str, Any], console: Console | None = None) -> None:
    """The clusters behind each prediction."""
    console = console or Console(highlight=False)
    for query in answer["queries"]:
        labelled = f", labelled {query['label']}" if query["label"] is not None else ""
        predicted = f"predicted {query['predicted']} ({query['probability']:.1%})"
        console.print(Text(f"{query['id']}: {predicted}{labelled}", "bold"))
        for told, clusters in _sides(query).items():
            table = Table(escape(told), "class", answer["objective"] + " without it", box=None, pad_edge=False)
            amounts = all("probability_without" in each for each in clusters)
            if amounts:
                table.add_column(f"probability of {escape(query['predicted'])} without it")
            for cluster in clusters:
                amount = [_amount(cluster["probability_without"])] if amounts else []
                effect = f"{cluster['effect']:+.4g}"
                table.add_row(f"cluster {cluster['cluster']}", Text(cluster["class"]), effect, *amount)
            console.print(table)
    _print_left_out(answer, console)
    for note in answer.get("notes", ()):
        console.print(Text(note), soft_wrap=True)
    console.print(Text(f"page: {answer['page']}"), soft_wrap=True)


def _print_left_out(told: Mapping[str, Any], console: Console) -> None:
    if told["left_out"]:
        console.print(Text(told["left_out"]), soft_wrap=True)


def print_samples(rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Samples, one a line; names as text in which nothing can steer the terminal."""
    console = console or wide_console()
    named = any(row["file"] for row in rows)
    shared = any("rough_share" in row for row in rows)
    columns = ["sample", *(["file"] if named else []), *(["rough_share"] if shared else [])]
    _print_columns(rows, [*columns, "class", "training_loss", "margin", "suspicion"], console)
    if shared:
        unknown = all(row["rough_share"] is None for row in rows)
        console.print(SHARES_UNKNOWN if unknown else SHARES_ARE_ROUGH, soft_wrap=True)


def _print_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_plain_cell(row[column]) for column in columns))
    console.print(table)


def print_audit(told: Mapping[str, Any], console: Console | None = None) -> None:
    """The most suspicious samples, the clusters that hold many, and where the page and the lists lie."""
    console = console or wide_console()
    console.print(
        f"the network disbelieved {told['num_disbelieved']} of {told['num_samples']} training samples (margin below 0)",
        soft_wrap=True,
    )
    console.print(told["measured"], soft_wrap=True)
    if told["detection_auc"] is not None:
        console.print(f"labels that the recipe spoilt come first with an AUC of {told['detection_auc']:.4f}")
    if told["samples"]:
        columns = ["sample", "file", "class", "predicted", "training_loss", "margin", "loss_without"]
        named = any(each["file"] for each in told["samples"])
        _print_columns(told["samples"], [each for each in columns if each != "file" or named], console)
    if told["clusters"]:
        _print_columns(told["clusters"], ["cluster", "class", "images", "disbelieved"], console)
    if told["compared"] is not None:
        _print_compared(told["compared"], console)
    console.print(Text(f"list: {told['list']}"), soft_wrap=True)
    if told["drop"] is not None:
        console.print(Text(f"to drop: {told['drop']['file']} ({told['drop']['num_samples']} samples)"), soft_wrap=True)
    console.print(Text(f"page: {told['page']}"), soft_wrap=True)


def _print_compared(compared: Mapping[str, Any], console: Console) -> None:
    table = Table("", "before", "after", box=None, pad_edge=False)
    count = compared["num_training"]
    table.add_row("training samples", str(count["before"]), str(count["after"]))
    for split in ("validation", "test"):
        if split in compared:
            before, after = compared[split]["before"], compared[split]["after"]
            table.add_row(f"{split} accuracy", f"{before['accuracy']:.1%}", f"{after['accuracy']:.1%}")
            table.add_row(f"{split} loss", f"{before['loss']:.4g}", f"{after['loss']:.4g}")
    console.print(table)


def _plain_cell(value: Any) -> Text:
    if value is None:
        return Text("–")
    if isinstance(value, float):
        return Text(f"{value:.4g}")
    return Text("".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value)))


def _amount(told: Mapping[str, Any]) -> str:
    """A probability with its interval."""
    from ddm_framework.report import in_percent  # imports torch, which an answer has needed anyway

    value = in_percent(told["value"])
    if told["retrained"]:
        return f"{value} (retrained without it)"
    low, high = map(in_percent, told["interval"])
    return f"about {value} ({told['level']:.0%} interval: {low} to {high})"


def _sides(query: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Lists of clusters under what they did: those for the prediction before those against it."""
    if query["made_it_say_this"] is None:
        return {"moved it most": query["clusters"]}
    both = {
        f"made it say {query['predicted']}": query["made_it_say_this"],
        "spoke against it": query["spoke_against_it"],
    }
    return {told: clusters for told, clusters in both.items() if clusters}


def print_without(told: Mapping[str, Any], console: Console | None = None) -> None:
    """What the network would say without some clusters."""
    console = console or Console(highlight=False)
    accuracy, changed = told["accuracy"], told["changed"]
    clusters = ", ".join(map(str, told["without"]))
    console.print(
        f"without cluster{'s' if len(told['without']) > 1 else ''} {clusters}, by this estimate: test accuracy"
        f" {accuracy['after']:.1%} instead of {accuracy['before']:.1%}; another class for {len(changed)} of"
        f" {told['num_test']} test images{': ' + ', '.join(map(str, changed[:20])) if changed else ''}",
        soft_wrap=True,
    )
    for image in told["images"]:
        said = [f"{each['predicted']} ({each['probability']:.1%})" for each in (image["before"], image["after"])]
        console.print(Text(f"{image['id']}: {said[1]} instead of {said[0]}"), soft_wrap=True)
    _print_left_out(told, console)
    for note in told.get("notes", ()):
        console.print(Text(note), soft_wrap=True)
