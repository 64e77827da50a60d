"""The command `ddm`. Imports that take long happen inside the commands that need them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import ddm_framework
from ddm_framework.cli import completion, summaries
from ddm_framework.engine import end_all
from ddm_framework.errors import DDMError
from ddm_framework.files import why
from ddm_framework.plugin import load_plugins
from ddm_framework.progress import ProgressDisplay
from ddm_framework.resources import memory_told
from ddm_framework.runs import json_text

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which training data made this network do that, and what would it do without them?",
)

INTERRUPTED = 130
"""The exit status after Ctrl-C; Typer uses it too."""

Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A Python file to load as a plugin.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Override, as in matching.steps=50.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or auto.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the numbers as JSON to standard output, and nothing else.")]
RunPath = Annotated[
    Path, typer.Argument(help="The folder of a finished run.", metavar="RUN", autocompletion=completion.runs)
]
RecipeName = Annotated[
    str,
    typer.Argument(help="A recipe file, or the name of one that comes with ddm.", autocompletion=completion.recipes),
]
Browser = Annotated[bool, typer.Option(help="Open it in a browser.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where in the code an error was raised.")]


def _print_version(asked: bool) -> None:
    if asked:
        from ddm_framework.runs.provenance import own_version

        typer.echo(f"ddm {own_version()}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of ddm.")
]


@app.callback()
def _options(traceback: Traceback = False, version: Version = False) -> None:
    """`--traceback` is for `main`, which reads it from the command line."""


@app.command()
def run(
    recipe: RecipeName,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="The run folder [runs/<recipe>].")] = None,
    plugin: Plugins = None,
    device: Device = None,
    engine: Annotated[str | None, typer.Option(help="loky, on this machine, or ray, on many [the recipe's].")] = None,
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster; auto on one of its machines.")] = None,
    fresh: Annotated[bool, typer.Option(help="Redo the stages whose settings changed, and what follows.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell seconds and bytes to expect, by a few timed steps; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe to its report; what the run folder already holds is reused.

    `ddm run digits_convnet --set matching.steps=100 --out runs/quick`

    `ddm run mnist_convnet --dry-run`
    """
    given = {"device": device, "engine": engine, "ray_address": address}
    chosen = [*(settings or []), *(f"{key}={value}" for key, value in given.items() if value)]
    if dry_run:
        _foretell(recipe, chosen, out, plugin or [], fresh=fresh, as_json=as_json)
        return
    display = ProgressDisplay(quiet=as_json)
    done = ddm_framework.run(recipe, chosen, out=out, plugins=plugin or [], fresh=fresh, display=display)
    _tell(as_json, done.metrics, partial(summaries.print_run, done))


def _foretell(
    recipe: str, settings: list[str], out: Path | None, plugins: list[Path], *, fresh: bool, as_json: bool
) -> None:
    from ddm_framework.recipe import load_recipe
    from ddm_framework.stages import dry_run

    registry = load_plugins(plugins)
    checked = load_recipe(recipe, registry, settings)
    expected = dry_run(checked, registry, out or Path("runs") / checked.name, fresh=fresh)
    _tell(as_json, expected.as_dict(), partial(summaries.print_costs, expected))


@app.command()
def validate(
    recipe: RecipeName,
    settings: Settings = None,
    plugin: Plugins = None,
) -> None:
    """Check a recipe, every key of it, without running anything."""
    from ddm_framework.recipe.reading import find_recipe, load_recipe

    checked = load_recipe(recipe, load_plugins(plugin or []), settings or [])
    typer.echo(f"{find_recipe(recipe)} is a valid recipe: {checked.in_words()}")


@app.command("ls")
def list_components(
    kind: Annotated[
        str | None,
        typer.Argument(help="dataset, backbone, clusterer, ...; all by default.", autocompletion=completion.kinds),
    ] = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print kinds, names, summaries and targets as JSON.")] = False,
) -> None:
    """List the components that recipes can use."""
    from ddm_framework.cli.listing import components_as_dict, print_components

    registry = load_plugins(plugin or [])
    _tell(as_json, components_as_dict(registry, kind), partial(print_components, registry, kind))


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="dataset, backbone, clusterer, ...", autocompletion=completion.kinds)],
    name: Annotated[str, typer.Argument(help="As `ddm ls` prints it.", autocompletion=completion.components)],
    plugin: Plugins = None,
) -> None:
    """Explain one component: its options, their types and defaults, and what it does."""
    from ddm_framework.cli.listing import print_component

    print_component(load_plugins(plugin or []), kind, name)


@app.command()
def plugins(plugin: Plugins = None) -> None:
    """List the plugins found, and why any of them could not be loaded."""
    from ddm_framework.cli.listing import print_plugins

    print_plugins(load_plugins(plugin or []))


@app.command("runs")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where to look for run folders.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List run folders, how far each is and what came out."""
    from ddm_framework.cli.run_listing import print_runs, runs_in

    found = runs_in(folder)
    _tell(as_json, found, partial(print_runs, found, folder))


@app.command()
def report(run_path: RunPath, browser: Browser = True) -> None:
    """Open the report of a finished run; it needs no server.

    `ddm report runs/digits_convnet`
    """
    import webbrowser

    from ddm_framework.runs import RunFolder

    page = RunFolder.existing(run_path).file("report.html")
    if not page.is_file():
        raise DDMError(f"{page} is missing; `ddm run` with the same recipe and --fresh makes it again")
    typer.echo(page)
    if browser:
        webbrowser.open(page.resolve().as_uri())


@app.command()
def attribute(
    run_path: RunPath,
    images: Annotated[
        list[Path] | None, typer.Option(help="An image file, or a folder of them; may be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Ids of clusters, as in 3,17: what would it say without all of them? May be repeated."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Their classes, by name or id, as in 3,cat; may be repeated.")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="Name of an objective [the recipe's first].")] = None,
    by: Annotated[str | None, typer.Option(help="Another attributor, by its defaults [the recipe's ddm].")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many clusters to print for each image [5].")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the page [RUN/questions/<n>.html].")] = None,
    plugin: Plugins = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Ask a finished run a new question: which clusters made the network see this in these images?

    `ddm attribute runs/digits_convnet --images my_five.png --labels 5`

    `ddm attribute runs/digits_convnet --images my_five.png --by koh`

    `ddm attribute runs/digits_convnet --without 3,17 --images my_five.png`
    """
    ids = _ids(without, "--without")
    if images is None and without is None:
        raise DDMError("name images to ask about, --images, or clusters to do without, --without 3,17")
    attributing = {"--labels": labels, "--objective": objective, "--by": by, "--top": top, "--out": out}
    if without is not None and (unused := [name for name, value in attributing.items() if value is not None]):
        raise DDMError(
            f"{', '.join(unused)} would change nothing: --without names no clusters for an image and writes no page, it"
            " tells what the network would say without some; leave one or the other out"
        )
    from ddm_framework.answers.image_questions import answer, answer_without
    from ddm_framework.report.pages import NO_BETTER
    from ddm_framework.truth import amounts_of

    display = ProgressDisplay(quiet=as_json)
    opened = ddm_framework.open_run(run_path, plugins=plugin or [], display=display, device=device or "auto")
    notes = [note for note in opened.metrics.get("notes", []) if NO_BETTER in note]
    if without is not None:
        told = answer_without(opened.workspace, ids, images or []) | ({"notes": notes} if notes else {})
        _tell(as_json, told, partial(summaries.print_without, told))
        return
    assert images is not None
    answered = answer(
        opened.workspace, images, labels or [], objective, top=top or 5, out=out, attributor=by, amounts_of=amounts_of
    )
    answered |= {"notes": notes} if notes else {}
    _tell(as_json, answered, partial(summaries.print_answer, answered))


@app.command()
def unlearn(
    run_path: RunPath,
    out: Annotated[Path, typer.Option(help="Where to write the weights, a safetensors file.")],
    clusters: Annotated[
        list[str] | None, typer.Option(help="Ids of the clusters to forget, as in 3,17; may be repeated.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Whole classes instead, by name or label, as in 3,cat; may be repeated."),
    ] = None,
    repair: Annotated[
        int | None, typer.Option(help="Epochs of training on the data that stay [0; 3 for classes].", min=0)
    ] = None,
    repair_share: Annotated[float, typer.Option(help="Share of the data that stay, for the repair.")] = 1.0,
    step_size: Annotated[
        float | None, typer.Option(help="Of the synset's step [the recipe's; for classes by the validation split].")
    ] = None,
    plugin: Plugins = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Write the network without some clusters or classes: a step on their synthetic images, then perhaps a repair.

    `ddm unlearn runs/digits_convnet --clusters 3,17 --out net.safetensors`

    `ddm unlearn runs/digits_convnet --classes 3 --out net.safetensors`
    """
    if (clusters is None) == (classes is None):
        raise DDMError("name what to forget: either --clusters, as in 3,17, or --classes, as in 3,cat")
    ids = _ids(clusters, "--clusters")
    from ddm_framework.answers.class_names import listed_names
    from ddm_framework.answers.unlearning import unlearn_to

    opened = ddm_framework.open_run(run_path, plugins=plugin or [], device=device or "auto")
    named = listed_names(classes or [], opened.workspace.info.class_names)
    told = unlearn_to(out, opened.workspace, ids, named, repair=repair, share=repair_share, step_size=step_size)
    _tell(as_json, told, partial(summaries.print_unlearned, told))


def _ids(texts: list[str] | None, option: str) -> list[int]:
    """The ids of clusters that an option lists, which may be repeated."""
    for text in texts or ():
        if not all(each.strip().isdecimal() and len(each.strip()) < 10 for each in text.split(",")):
            raise DDMError(f"{option} takes ids separated by commas, as in 3,17, found {text!r}")
    return [int(each) for text in texts or () for each in text.split(",")]


@app.command()
def members(
    run_path: RunPath,
    cluster: Annotated[int, typer.Argument(help="Its id, as reports and answers name it.")],
    shares: Annotated[bool, typer.Option("--shares", help="Each one's rough share of the cluster's effect.")] = False,
    query: Annotated[
        int | None, typer.Option(min=0, help="A test image, by its position: rough shares of the effect on it.")
    ] = None,
    plugin: Plugins = None,
    device: Device = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows of samples.csv, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the training samples of a cluster: file, place in the data set, class, and how suspicious each is.

    `ddm members runs/digits_convnet 51`

    `ddm members runs/photos 51 --query 17`

    `ddm members runs/photos 51 --csv > members.csv`
    """
    if as_csv and as_json:
        raise DDMError("--csv and --json are two ways to print the same; leave one of them out")
    from ddm_framework.runs import samples

    measured = shares or query is not None
    known = None if measured else samples.known_samples(run_path)
    if known is not None:
        found = samples.members_of(known, cluster)
    else:  # or a run of an older version
        run = ddm_framework.open_run(run_path, plugins=plugin or [], device=device or "auto")
        found = [*(run.members(cluster, shares=True, query=query) if measured else run.members(cluster))]
    if as_csv:
        sys.stdout.write(samples.as_csv(found))
    else:
        rows = [samples.as_dict(each) for each in found]
        _tell(as_json, rows, partial(summaries.print_samples, rows))


@app.command()
def audit(
    run_path: RunPath,
    top: Annotated[
        int | None, typer.Option(min=1, help="How many samples to show and to drop [those with a margin below 0].")
    ] = None,
    drop: Annotated[Path | None, typer.Option(help="Write a list of these samples, which dataset.drop takes.")] = None,
    before: Annotated[
        Path | None, typer.Option(help="A run with more samples, to compare with, as before some were dropped.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the page and the list [RUN/audit].")] = None,
    plugin: Plugins = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Name the training samples whose labels the network did not believe, with a page and a list to check them.

    `ddm audit runs/photos --drop mask.csv`

    `ddm run photos.yaml --set dataset.drop=mask.csv --out runs/without`

    `ddm audit runs/without --before runs/photos`
    """
    from ddm_framework.answers.auditing import told

    opened, *earlier = (
        ddm_framework.open_run(path, plugins=plugin or [], device=device or "auto").workspace
        for path in (run_path, before)
        if path is not None
    )
    found = told(opened, top=top, out=out, drop=drop, before=earlier[0] if earlier else None)
    _tell(as_json, found, partial(summaries.print_audit, found))


@app.command()
def serve(
    run_path: RunPath,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 0,
    browser: Browser = True,
    plugin: Plugins = None,
    device: Device = None,
) -> None:
    """Open a finished run in the browser: tick training data to leave out, and see what becomes of its predictions.

    `ddm serve runs/digits_convnet`
    """
    # Threads that wait by spinning take the cores from the browser and from retrainings; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from ddm_framework.app import serve as serve_page
    except ImportError as error:
        raise DDMError(f"`ddm serve` needs {error.name}; install it with: pip install 'ddm-framework[app]'") from None

    opened = ddm_framework.open_run(run_path, plugins=plugin or [], device=device or "auto")
    serve_page(opened, host=host, port=port, browser=browser)


@app.command()
def check(
    package: Annotated[str, typer.Argument(help="An installed package with plugins, or a Python file.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="An option to check with, as in dataset.mnist.root=data.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a package's components, or a file's, keep the contracts of their kinds; status 1 if any does not.

    `ddm check my_objective.py`
    """
    from ddm_framework.testing.command import check_package
    from ddm_framework.testing.printing import as_dict, print_results

    results = check_package(package, settings or [], ProgressDisplay(quiet=as_json))
    _tell(as_json, as_dict(results, package), partial(print_results, results, package))
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(1)


@app.command("new-plugin")
def new_plugin(
    kind: Annotated[str, typer.Argument(help="dataset, backbone, clusterer, distance, objective, attributor, study.")],
    name: Annotated[str, typer.Argument(help="What recipes will write after `use:`.")],
    out: Annotated[Path | None, typer.Option(help="The folder to make [ddm-<name>].")] = None,
) -> None:
    """Write a package with a plugin that works, its tests, and all that is needed to install it.

    `ddm new-plugin objective surprise`
    """
    from ddm_framework.cli.scaffold import check_name, write_package

    check_name(kind, name, load_plugins())
    folder = out or Path(f"ddm-{name.replace('_', '-')}")
    for path in write_package(kind, name, folder):
        typer.echo(path)
    typer.echo(f"\npip install -e '{folder}[test]' && python -m pytest {folder}")


def _tell(as_json: bool, value: Any, show: Callable[[], None]) -> None:
    """Print a result as JSON, or show it in words."""
    if as_json:
        sys.stdout.write(json_text(value))
    else:
        show()


def main() -> None:
    """The entry point: a user's mistake is one message and status 2."""
    if "--traceback" in sys.argv:
        sys.argv.remove("--traceback")
        app()
        return
    try:
        with terminated_like_interrupted(), memory_told("ddm", "lower memory_mb, or whatever is large"):
            app()
    except DDMError as error:
        _fail(str(error), 2)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{os.fsdecode(error.filename)}: {why(error)}", 2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        _fail("interrupted; what was finished is kept, run the same command again to go on", INTERRUPTED)
    finally:
        end_all()


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let `kill` and a closed terminal end ddm as Ctrl-C does, so that workers end too and nothing stays behind."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [each for each in known if signal.getsignal(each) == signal.SIG_DFL]  # nohup has them ignored
    before = {each: signal.signal(each, stop) for each in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(message: str, status: int) -> None:
    typer.echo(f"ddm: {message}", err=True)
    sys.exit(status)
