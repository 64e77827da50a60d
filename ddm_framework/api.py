"""ddm from Python: run a recipe, ask a finished run a new question, unlearn clusters for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from ddm_framework.answers import auditing, unlearning
from ddm_framework.answers.answered import Answer, answered
from ddm_framework.answers.auditing import Audit, audit
from ddm_framework.answers.deletion import Without, left_out, share_kept, without
from ddm_framework.answers.member_shares import members_with_shares, rough_shares
from ddm_framework.arguments import checked_display, path_of, paths_of, texts_of
from ddm_framework.errors import DDMError
from ddm_framework.network import take
from ddm_framework.offline import Partition
from ddm_framework.online import Amounts, Objective, Queries
from ddm_framework.online.questions import checked_queries
from ddm_framework.plugin import load_plugins
from ddm_framework.plugin.choice import GIVEN
from ddm_framework.progress import SILENT, ProgressDisplay
from ddm_framework.recipe import load_recipe
from ddm_framework.report.notebook import html_table
from ddm_framework.report.pages import facts
from ddm_framework.runs import RunFolder, Workspace, artifacts, settle
from ddm_framework.runs.opening import recorded_recipe
from ddm_framework.runs.samples import Member, Sample, members_of, read_samples, samples_of
from ddm_framework.stages import pipeline, stage_inputs
from ddm_framework.truth import amounts_of
from ddm_framework.truth.retraining import retrained


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        workspace: its artifacts.
        metrics: what metrics.json holds.
    """

    workspace: Workspace
    metrics: dict[str, Any]

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.workspace.folder.path

    def _repr_html_(self) -> str:
        shown = {**facts(self.workspace, self.metrics), "report": self.report}
        return html_table(f"run {self.path.name}", [], shown.items())

    @property
    def report(self) -> Path:
        """The report, an HTML file."""
        return self.workspace.folder.file("report.html")

    def attribute(
        self, images: Tensor, labels: Tensor | None = None, objective: str | None = None, **options: Any
    ) -> Answer:
        """Ask a new question; no offline work is done.

        Args:
            images: network inputs, float32 (N, C, H, W), normalised (`run.workspace.info.normalise(pixels)`).
            labels: int64 (N,), where they are known.
            objective: name of an objective; the recipe's first one by default.
            options: of that objective.
        Returns:
            W, the intercept, and the effect of deleting each cluster, -W; `.to_pandas()` is a table of it.
        Raises:
            DDMError: for images that do not fit, or an unknown objective.
        """
        return self.ask(self.queries(images, labels), self.objective(objective, **options))

    def ask(self, queries: Queries, objective: Objective) -> Answer:
        """The attribution of prepared queries by a prepared objective."""
        return answered(self.workspace, queries, objective)

    def amounts(self, images: Tensor, labels: Tensor | None = None) -> Amounts | None:
        """The probability of what the network says without each cluster, with its interval.

        Args:
            images: network inputs, float32 (N, C, H, W), normalised.
            labels: int64 (N,), where they are known.
        Returns:
            None where nothing says how wrong amounts may be: without `certificate.singles`, or if the retrained
            networks, which lie beside the run folder, are gone.
        Raises:
            DDMError: for images that do not fit.
        """
        return amounts_of(self.workspace, self.queries(images, labels))

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What a few exact retrainings said of the estimates, as metrics.json holds it; None if there were none."""
        found: dict[str, Any] | None = self.metrics.get("certificate")
        return found

    def objective(self, name: str | None = None, **options: Any) -> Objective:
        """An objective by name, or the recipe's first."""
        if name is None:
            return self.workspace.objectives[0]
        return self.workspace.objective(name, **options)

    def queries(self, images: Tensor, labels: Tensor | None = None, ids: Sequence[str] = ()) -> Queries:
        """Check images and labels and make queries of them.

        Raises:
            DDMError: if they do not fit the run's data.
        """
        return checked_queries(images, labels, ids, self.workspace.info).to(self.workspace.device)

    @property
    def samples(self) -> list[Sample]:
        """Every sample of the run, as `samples.csv` lists them; a run of an older version reads its data for that."""
        return read_samples(self.workspace.folder) or samples_of(self.workspace)

    @overload
    def members(self, cluster: int) -> list[Sample]: ...
    @overload
    def members(self, cluster: int, *, query: int | Queries) -> list[Member]: ...
    @overload
    def members(self, cluster: int, *, shares: Literal[True], query: int | Queries | None = None) -> list[Member]: ...
    def members(
        self, cluster: int, *, shares: bool = False, query: int | Queries | None = None
    ) -> list[Sample] | list[Member]:
        """The training samples of a cluster, with their files and indices in the source's own order.

        Args:
            cluster: its id.
            shares: also each member's `rough_share` of the cluster's effect, the largest first.
            query: a test image by its position, or one of `run.queries`: shares of the effect on its prediction.
        Raises:
            DDMError: if there is no such cluster or test image.
        """
        if not shares and query is None:
            return members_of(self.samples, cluster)
        asked = self.test_query(query) if isinstance(query, int) else query
        return members_with_shares(self.samples, cluster, rough_shares(self.workspace, cluster, asked))

    def test_query(self, position: int) -> Queries:
        """One test image as a query.

        Raises:
            DDMError: if there is none at that position.
        """
        count = len(self.workspace.data.test)
        if not 0 <= position < count:
            raise DDMError(f"there is no test image {position}; they are 0 to {count - 1}")
        return self.workspace.queries_of("test").take(torch.tensor([position]))

    def audit(self) -> Audit:
        """Which training samples are suspicious: `.first(20)` are positions of the least believed, `.samples` all.

        Raises:
            DDMError: if the data are gone.
        """
        return audit(self.workspace)

    def write_audit(
        self, *, out: Path | None = None, top: int | None = None, drop: Path | None = None, before: Run | None = None
    ) -> dict[str, Any]:
        """What `ddm audit` does, also of a module that only Python can make: a page with pictures and a list.

        Args:
            out: folder of the page and the list; `audit` in the run folder by default.
            top: samples to show and to drop; by default those that the network disbelieved.
            drop: where to write a list of these samples which `dataset.drop` takes.
            before: a run with more samples, to compare with.
        Returns:
            The most important as plain values, and where the files lie.
        Raises:
            DDMError: if the data are gone or a file cannot be written.
        """
        earlier = None if before is None else before.workspace
        return auditing.told(self.workspace, top=top, out=out, drop=drop, before=earlier)

    def without(
        self, clusters: Sequence[int] = (), classes: Sequence[int | str] = (), samples: Sequence[int] = ()
    ) -> Without:
        """The network without some training data, as the recipe's `online` estimates it (Eq. 9).

        Its `.module` is the network, `.predict(images)` what it says, `.accuracy` and `.changed` what becomes of the
        test images, and `.measure(objective)` any behaviour.

        Args:
            clusters: ids from 0 to K - 1.
            classes: names or labels.
            samples: positions in the training split.
        Raises:
            DDMError: for a cluster, class or sample that does not exist, or if everything would be left out.
        """
        return without(self.workspace, clusters, classes, samples)

    def retrained_without(
        self, clusters: Sequence[int] = (), classes: Sequence[int | str] = (), samples: Sequence[int] = ()
    ) -> Without:
        """The network retrained exactly without some training data: the truth that `without` estimates.

        It is kept in the bank beside the run folder, so asking again costs nothing. Arguments as in `without`.

        Raises:
            DDMError: as `without`; if the target was trained elsewhere; if the training diverges.
        Source: Sec. 4.1, "exact-unlearn network".
        """
        gone = left_out(self.workspace, clusters, classes, samples)
        # Two clusters: what stays, and what goes.
        split = Partition(gone.long(), torch.zeros(2, dtype=torch.int64))
        bank = retrained(self.workspace, torch.tensor([[1.0, 0.0]]), partition=split)
        return Without(self.workspace, share_kept(self.workspace, gone), take(bank.load(slice(1)), 0), gone)

    def with_online(self, **settings: Any) -> Run:
        """The same run under other settings of `online`, such as `replay=5`; what is loaded is shared.

        Raises:
            DDMError: for a setting that does not exist, or a value that does not fit.
        """
        return replace(self, workspace=self.workspace.with_online(**settings))

    def unlearn(
        self,
        clusters: Sequence[int] = (),
        *,
        classes: Sequence[int | str] = (),
        repair: int | None = None,
        repair_share: float = 1.0,
        step_size: float | None = None,
    ) -> nn.Module:
        """The network with some clusters, or whole classes, unlearned for good (Eq. 9).

        Their synset's step comes first; then, if asked for, a short repair on the training data that stay.

        Args:
            clusters: ids from 0 to K - 1.
            classes: names or labels, instead of clusters.
            repair: epochs of the repair; by default 0 for clusters and `unlearning.REPAIR_EPOCHS` for classes.
            repair_share: of the data that stay, for the repair.
            step_size: of the synset's step, as a share of ‖θ_τ‖; by default the recipe's for clusters, and for classes
                what the validation split decides.
        Returns:
            The backbone with the new weights, in evaluation mode, on the run's device.
        Raises:
            DDMError: for a cluster or class that does not exist, for none or both, or a repair without training data.
        """
        asked = unlearning.request(self.workspace, clusters, classes)
        done = unlearning.unlearn(self.workspace, asked, unlearning.repair_of(asked, repair, repair_share), step_size)
        return self.workspace.module(done.parameters)


def run(
    recipe: str | Path,
    settings: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    fresh: bool = False,
    display: ProgressDisplay = SILENT,
) -> Run:
    """Run a recipe, reusing what its folder already holds.

    Args:
        recipe: a path, or the name of a recipe that comes with ddm.
        settings: overrides, such as `matching.steps=50`.
        out: the run folder; `runs/<recipe>` by default.
        plugins: local files to load as plugins.
        fresh: redo the first stage whose inputs changed, and what follows from it, instead of refusing.
        display: where progress is shown.
    Raises:
        DDMError: for a mistake of the user's.
    """
    checked_display(display)
    registry = load_plugins(paths_of(plugins, "plugins"))
    checked = load_recipe(str(recipe), registry, texts_of(settings, "settings"))
    folder = path_of(out, "out") if out is not None else Path("runs") / checked.name
    return Run(*pipeline.execute(checked, registry, folder, fresh=fresh, display=display))


def open_run(
    folder: str | Path, *, plugins: Sequence[str | Path] = (), display: ProgressDisplay = SILENT, device: str = "auto"
) -> Run:
    """Open a finished run, to ask it something new.

    Args:
        folder: of the run.
        plugins: local files to load as plugins, those that the run was made with among them.
        display: where progress is shown.
        device: `cpu`, `cuda`, or `auto` for the one that the run was made on, where there is one.
    Raises:
        DDMError: if the folder holds no finished run, or the inputs of its offline stages have changed since.
    """
    checked_display(display)
    found = RunFolder.existing(path_of(folder, "folder"))
    if f"use: {GIVEN}" in found.recipe_text():
        raise DDMError(
            f"{folder} holds a run of a module from Python, which only you can make again: call from_module with the"
            " same module and data, which takes up what the folder holds, and ask the run that it returns"
        )
    registry = load_plugins(paths_of(plugins, "plugins"))
    asked = recorded_recipe(found, registry, [f"device={device}", "engine=loky"])
    recipe, chosen = settle(replace(asked, name=str(found.manifest.get("recipe", found.path.name))), found)
    made = recipe.general.model_copy(update={"device": found.input("training", "device")})
    inputs = stage_inputs(recipe.with_general(made), registry, found.input("training", "data"))
    found.check({stage: inputs[stage] for stage in ("training", "partition", "matching")})
    return Run(Workspace(recipe, found, registry, chosen, display), artifacts.load_metrics(found))
