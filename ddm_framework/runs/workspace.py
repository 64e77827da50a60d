"""What the core passes to studies and attributors: the artifacts of a run, each loaded when it is first used."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ddm_framework.data import DataInfo, DataSplits, Images, ImageSet, load_data
from ddm_framework.engine import ALONE, Engine
from ddm_framework.errors import DDMError, PluginError, RunFolderError
from ddm_framework.network import Budget, Constants, LogitsModule, Network, Parameters, Target, build_network, chunks
from ddm_framework.network.memory import halved
from ddm_framework.offline import Divided, Partition, Synset
from ddm_framework.online import (
    Attribution,
    Estimate,
    Objective,
    Queries,
    Reference,
    beta_weights,
    chunks_of,
    declared,
    design,
    fit,
    fit_attribution,
)
from ddm_framework.online.questions import EVERY_LOGIT
from ddm_framework.plugin import Choice, Method, Registry, choose, method_of
from ddm_framework.progress import SILENT, ProgressDisplay
from ddm_framework.randomness import generator
from ddm_framework.recipe import Recipe
from ddm_framework.resources import num_cores
from ddm_framework.runs import account, artifacts
from ddm_framework.runs.kept_networks import estimated_networks
from ddm_framework.runs.own_training import OwnTraining
from ddm_framework.runs.run_folder import RunFolder
from ddm_framework.runs.streaming import SHARE, Streamed, fits, objective_key, stream

Made = TypeVar("Made")


@dataclass
class Workspace:
    """A run, as studies and attributors see it.

    Nothing is computed twice, and nothing is written but networks that are kept for the next question.
    """

    recipe: Recipe
    folder: RunFolder
    registry: Registry
    device: torch.device
    display: ProgressDisplay = SILENT
    loaded_data: DataSplits | None = None
    parent: Workspace | None = None
    certificate: Mapping[str, Any] | None = None
    """What the certificate of this run found, as metrics.json will hold it, while its study is at work."""
    own_training: OwnTraining | None = None
    """The user's own training of a network that was trained elsewhere, if it came with one."""
    _answered: dict[tuple[str, str], Tensor] = field(default_factory=dict, init=False)
    _streamed: dict[tuple[str, str], Streamed] = field(default_factory=dict, init=False)
    _made: dict[str, tuple[float, Any]] = field(default_factory=dict, init=False)

    @property
    def root(self) -> RunFolder:
        """The folder with the target and its trajectory; for a variant of a run, that of its parent."""
        return self.parent.root if self.parent else self.folder

    @cached_property
    def data(self) -> DataSplits:
        """The data set, on the device.

        Raises:
            RunFolderError: if the data are no longer those of the run.
        """
        given = self.loaded_data
        data = load_data(self.recipe) if given is None else given
        if given is None and data.fingerprint() != self.root.input("training", "data"):
            raise RunFolderError(
                f"the data set {self.recipe.dataset.name} is not what it was when {self.root.path} was made; "
                "bring the old files back, or run the recipe again with --fresh"
            )
        return data.to(self.device)

    @cached_property
    def info(self) -> DataInfo:
        """Shape, classes and normalisation, without loading the data."""
        return artifacts.load_info(self.root)

    @cached_property
    def _built(self) -> tuple[Network, Parameters]:
        return self.build(self.recipe.general.seed)

    @property
    def built(self) -> tuple[Network, Parameters]:
        """The backbone as it is built, with its own constants, and θ_0 from the seed."""
        return self._built

    def build(self, seed: int) -> tuple[Network, Parameters]:
        """The backbone and its initial weights from a seed."""
        training = self.recipe.training
        network, initial = build_network(
            self.recipe.backbone,
            self.info,
            seed,
            self.device,
            parameters=training.parameters,
            brought=self.recipe.target.checkpoint is not None,
        )
        return replace(network, smoothing=training.label_smoothing), initial

    @property
    def untrained(self) -> Parameters:
        """θ_0, from the backbone and the seed."""
        return self._built[1]

    @cached_property
    def network(self) -> Network:
        """The architecture, with the constants of θ_τ where the target was trained elsewhere, once it is adopted."""
        if "trained" in vars(self):
            return self.trained.network
        own = self._constants
        return self._built[0].with_constants(own.get(artifacts.saved_epochs(self.root)[-1], {}) if own else {})

    @cached_property
    def _constants(self) -> Mapping[int, Constants]:
        """Constants of checkpoints that were saved elsewhere, by epoch."""
        brought = self.recipe.target.checkpoint is not None
        return artifacts.load_constants(self.root, self.device) if brought else {}

    @cached_property
    def trained(self) -> Target:
        """The target: its network and its trajectory, of which each checkpoint is loaded when it is first used."""
        trajectory = artifacts.load_trajectory(self.root, self.device, self.untrained)
        return Target(self.network, trajectory, self._constants)

    @property
    def trajectory(self) -> Mapping[int, Parameters]:
        """Parameters by epoch, θ_0 to θ_τ."""
        return self.trained.trajectory

    @property
    def initial(self) -> Parameters:
        """θ_0."""
        return self.trained.initial

    @property
    def target(self) -> Parameters:
        """θ_τ."""
        return self.trained.final

    @property
    def budget(self) -> Budget:
        """The memory for one chunk."""
        return Budget(self.recipe.general.chunk_mb)

    @cached_property
    def engine(self) -> Engine:
        """Who does the work that can be shared: other processes, if there are cores for them, or a Ray cluster."""
        general, on_card = self.recipe.general, self.device.type != "cpu"
        threads = general.threads
        if threads != "auto" and general.engine == "ray":
            from ddm_framework.engine import Cluster

            return Cluster(threads, general.ray_address, gpus=int(on_card))
        if threads == "auto" or on_card:
            return ALONE
        from ddm_framework.engine import Processes  # it takes a moment, and a question often needs no worker

        return Processes(max(1, num_cores() // threads), threads)

    @cached_property
    def partition(self) -> Partition:
        """Clusters of the training split."""
        own = self.folder.is_done("partition")
        partition = artifacts.load_partition(self.folder if own else self.root, self.device)
        if int(partition.classes.max()) >= self.info.num_classes:
            raise RunFolderError(f"the partition in {self.folder.path} is of other classes than the run's data")
        return partition

    @property
    def divided(self) -> Divided:
        """The training split and its clusters."""
        return Divided(self.data.train, self.partition)

    @property
    def class_partition(self) -> Partition:
        """The training split with each class as one cluster."""
        return self.partition.class_wise(self.info.num_classes)

    @cached_property
    def synset(self) -> Synset:
        """The cluster-wise synset."""
        return self._synset("cluster", self.partition.num_clusters)

    @cached_property
    def class_synset(self) -> Synset:
        """The class-wise synset (Sec. 6.2)."""
        return self._synset("class", self.info.num_classes)

    def _synset(self, level: str, count: int) -> Synset:
        """One of the synsets, which must be of this run's clusters and data."""
        synset = artifacts.load_synset(self.folder, level, self.device)
        found = (len(synset), tuple(synset.images.shape[2:]), synset.labels.shape[2])
        if found != (count, self.info.shape, self.info.num_classes):
            raise RunFolderError(f"the {level}-wise synset in {self.folder.path} is of other clusters or other data")
        return synset

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """The recipe's objectives."""
        return tuple(declared(choice) for choice in self.recipe.objectives)

    def objective(self, name: str, **options: Any) -> Objective:
        """Another objective, by name.

        Raises:
            DDMError: for an unknown name or wrong options.
        """
        return declared(choose(self.registry, "objective", name, options))

    def surrogate(self, objective: Objective) -> Objective:
        """What a method that needs a gradient at the target, and estimates no logits, attributes in its place."""
        named = objective.declaration.surrogate
        if named is None:
            return objective
        return replace(self.objective(named.objective, **named.options), sought=named.more_influential)

    def method(self, attributor: str | Choice) -> Method:
        """What an attributor declares about itself."""
        return method_of(self._attributor(attributor, {}).target)

    def _attributor(self, attributor: str | Choice, options: Mapping[str, Any]) -> Choice:
        if isinstance(attributor, Choice):
            return attributor
        return choose(self.registry, "attributor", attributor, options)

    def effects_by(
        self,
        queries: Queries,
        objective: Objective,
        attributor: str | Choice,
        by_surrogate: bool = False,
        **options: Any,
    ) -> Estimate:
        """Effects by any attributor.

        A linear method cannot answer an objective without a gradient at the target. Its effects on all logits are
        asked for instead, and the objective is measured on the target's logits plus these. A method that estimates no
        logits is given the objective's surrogate.

        Args:
            queries: N of them.
            objective: whose effects are asked for.
            attributor: a name, or one that was chosen with its options.
            by_surrogate: give every linear method the surrogate, where the objective has one.
            options: of the attributor that is named.
        Raises:
            DDMError: for an unknown attributor or wrong options.
            PluginError: if it returns something else than effects.
        """
        choice = self._attributor(attributor, options)
        method = method_of(choice.target)
        if not method.linear:
            return self._asked(queries, objective, choice, method)
        named, reference = objective.declaration.surrogate is not None, self.reference(queries)
        if not named and objective.has_gradient(reference):
            return self._asked(queries, objective, choice, method)
        if not method.logits or (named and by_surrogate):
            return self._asked(queries, self.surrogate(objective), choice, method)
        changes, num_classes = self._asked(queries, EVERY_LOGIT, choice, method), self.info.num_classes
        if changes.effect.shape[2] != num_classes:
            raise PluginError(
                f"attributor {choice.name!r} declares `logits=True`, but returned effects on {changes.effect.shape[2]}"
                f" of {num_classes} logits; return one for each behaviour, (N, K, m), or leave the declaration out"
            )
        # In float64: a squared shift of probabilities would drown in the rounding of float32.
        exact = replace(reference, target_logits=reference.target_logits.double())
        logits = exact.target_logits + changes.effect.transpose(0, 1).to(self.device)
        return replace(changes, objective=objective, effect=objective.effect_on(logits, exact))

    def set_effects(self, perturbations: Tensor, queries: Queries, objective: Objective, description: str) -> Tensor:
        """Behaviour of each network that is estimated as a whole, minus that of the target, float64 (P, N, m)."""
        logits = self.perturbed_logits(queries, perturbations, self.synset, description)
        return objective.effect_on(logits, self.reference(queries)).transpose(0, 1)

    def set_effects_by(
        self, queries: Queries, objective: Objective, attributor: Choice, perturbations: Tensor
    ) -> Tensor | None:
        """What a method says of whole sets of clusters, float64 (P, N, m); None if it says nothing of sets.

        Args:
            queries: N of them; a set-level objective is one row, N = 1.
            objective: with m behaviours.
            attributor: the method with its options.
            perturbations: (P, K); 0 = the cluster is deleted.
        Raises:
            PluginError: if it returns something else.
        """
        method = method_of(attributor.target)
        if method.sets is None:
            return None
        effect = method.sets(self, queries, objective, perturbations, **attributor.options)
        wanted = (len(perturbations), 1 if objective.declaration.set_level else len(queries))
        if not isinstance(effect, Tensor) or effect.ndim != 3 or tuple(effect.shape[:2]) != wanted:
            shape = tuple(effect.shape) if isinstance(effect, Tensor) else type(effect).__name__
            raise PluginError(
                f"`sets` of attributor {attributor.name!r} must return effects of shape ({wanted[0]}, {wanted[1]}, m),"
                f" returned {shape}"
            )
        return effect.detach().double().cpu()

    def _asked(self, queries: Queries, objective: Objective, choice: Choice, method: Method) -> Estimate:
        """What an attributor answers, after checking its shape."""
        partition = self.partition if method.partition is None else method.partition(self)
        effect = self._called(choice, queries, objective)
        rows = 1 if objective.declaration.set_level else len(queries)
        wanted = (rows, partition.num_clusters)
        if not isinstance(effect, Tensor) or effect.ndim != 3 or tuple(effect.shape[:2]) != wanted:
            shape = tuple(effect.shape) if isinstance(effect, Tensor) else type(effect).__name__
            raise PluginError(
                f"attributor {choice.name!r} must return effects of shape ({rows}, {partition.num_clusters}, m),"
                f" returned {shape}"
            )
        return Estimate(objective, effect.detach().double().cpu(), partition, method.partition is None)

    def _called(self, choice: Choice, queries: Queries, objective: Objective) -> Any:
        """What an attributor returns; one that asks too much of an unusual network is refused with the reason."""
        try:
            return choice(self, queries, objective)
        except (RuntimeError, NotImplementedError) as error:
            if not self.network.alone:
                raise
            raise DDMError(
                f"attributor {choice.name!r} computes many samples or networks at once, which PyTorch refuses for this"
                f" module ({self.network.alone}); ask one that does not, such as `ddm`"
            ) from error

    @contextmanager
    def offline_work(self) -> Iterator[None]:
        """Mark what an attributor does once for all queries, so that its cost is kept apart from that of a question."""
        begun = time.monotonic()
        try:
            yield
        finally:
            account.enter(time.monotonic() - begun)

    def made_once(self, name: str, make: Callable[[], Made]) -> Made:
        """What an attributor makes once for all queries, as offline work; kept until another such thing is made.

        Args:
            name: of the attributor, with all options that the result depends on.
            make: makes it.
        """
        if name not in self._made:
            begun = time.monotonic()
            found = make()
            account.enter(seconds := time.monotonic() - begun, once=name)
            self._made.clear()  # it can be as large as a network for each cluster
            self._made[name] = seconds, found
        else:
            seconds, found = self._made[name]
            account.enter(0.0, seconds, once=name)
        return found

    def generator(self, *purpose: str | int) -> torch.Generator:
        """A generator for one purpose, from the recipe's seed."""
        return generator(self.recipe.general.seed, *purpose)

    def queries_of(self, split: str, count: int | None = None) -> Queries:
        """The first `count` images (or all) of the `test` or `validation` split as queries."""
        images: ImageSet = getattr(self.data, split)
        number = len(images) if count is None else min(count, len(images))
        return Queries(images.images[:number], images.labels[:number], tuple(f"{split} {i}" for i in range(number)))

    def charge(self, *stages: str) -> None:
        """Count stages of this run as offline work of an attributor, each once."""
        spent = self.folder.seconds()
        for stage in stages:
            account.enter(0.0, spent.get(stage, 0.0), once=str(self.folder.file(stage)))

    def target_logits(self, images: Images) -> Tensor:
        """Logits (N, classes) of the target, computed in the same way as those of the perturbed networks."""
        return self.network.logits_of(self.target, images)

    @property
    def num_epochs(self) -> int:
        """τ: epochs of the training; of one elsewhere, the checkpoints before the last."""
        brought = self.recipe.target.checkpoint is not None
        return max(self.trajectory) if brought else self.recipe.training.epochs

    @property
    def can_retrain(self) -> bool:
        """Whether the network can be trained again without some samples."""
        return self.recipe.target.checkpoint is None or self.own_training is not None

    @property
    def training_id(self) -> str:
        """What tells the training of the target, and of networks without some samples, from others."""
        own = "" if self.own_training is None else f" {self.own_training.digest}"
        return str(self.root.manifest["stages"]["training"]["hash"]) + own

    @property
    def same_rounding(self) -> bool:
        """Whether a network has the same bits in every stack: on one thread of a processor."""
        return self.device.type == "cpu" and self.recipe.general.threads == 1

    def stack_logits(self, stack: Parameters, images: Images) -> Tensor:
        """Logits (R, N, classes) of a stack of networks; a network equal to the target has exactly its logits."""

        def some(part: slice) -> Tensor:
            networks = {name: each[part] for name, each in stack.items()}
            if self.same_rounding:
                return self.network.logits(networks, images)
            return self.network.controlled_logits(networks, self.target, images)

        count = len(next(iter(stack.values())))
        return torch.cat([logits for _, logits in halved(count, some, "networks that are asked")])

    def accuracy(self, split: str) -> float:
        """Share of a split that the target classifies correctly."""
        return self.accuracy_of(self.target, getattr(self.data, split))

    def accuracy_of(self, parameters: Parameters, images: ImageSet) -> float:
        """Share of the images that a network classifies correctly."""
        return float((self.network.logits_of(parameters, images.images).argmax(1) == images.labels).double().mean())

    @property
    def perturbations(self) -> Tensor:
        """The recipe's design, (P, K); the first row deletes nothing."""
        return design(len(self.synset), self.recipe.online, self.recipe.general.seed)

    def perturbed_logits(
        self,
        queries: Queries,
        perturbations: Tensor,
        synset: Synset,
        description: str = "online: fine-tuning",
        partition: Partition | None = None,
    ) -> Tensor:
        """Logits (P, N, classes) of the networks estimated for each perturbation (Eq. 9); arguments as `perturbed`."""
        rows = chunks_of(self.network, len(perturbations), self.recipe)
        collected = []
        with self.display.bar(description, len(rows)) as advance:
            for _, stack in self.perturbed(perturbations, synset, partition):
                collected.append(self.stack_logits(stack, queries.images))
                advance()
        return torch.cat(collected)

    def each_logits(
        self,
        queries: Queries,
        perturbations: Tensor,
        synset: Synset,
        description: str = "online: fine-tuning",
        partition: Partition | None = None,
    ) -> Iterator[Tensor]:
        """Logits (N, classes) of one estimated network after the other; only a few of them exist at a time."""
        size = self.budget.items(2 * SHARE * len(queries) * self.info.num_classes)
        with self.display.bar(description, len(chunks_of(self.network, len(perturbations), self.recipe))) as advance:
            for rows, stack in self.perturbed(perturbations, synset, partition):
                for part in chunks(rows.stop - rows.start, size):
                    some = {name: each[part] for name, each in stack.items()}
                    yield from self.stack_logits(some, queries.images)
                advance()

    def perturbed(
        self,
        perturbations: Tensor,
        synset: Synset,
        partition: Partition | None = None,
        kept: Tensor | None = None,
    ) -> Iterator[tuple[slice, Parameters]]:
        """The estimated networks (Eq. 9), stacked, one chunk of rows at a time.

        Args:
            perturbations: (P, K); 0 = deleted, a fraction = so much of the cluster is kept.
            synset: of the K clusters, or of the classes.
            partition: which column each training sample belongs to; the run's clusters by default.
            kept: samples that `online.replay` trains each network on, (P, N); by default those of the clusters that it
                keeps.
        """
        return estimated_networks(self, perturbations, synset, partition or self.partition, kept)

    def with_online(self, **settings: Any) -> Workspace:
        """The same run under other settings of `online`; what is loaded is shared."""
        other = copy.copy(self)
        other.recipe = replace(self.recipe, online=self.recipe.online.changed(settings))
        return other

    def module(self, parameters: Parameters, network: Network | None = None) -> nn.Module:
        """The backbone as an ordinary module with these weights, in evaluation mode.

        Args:
            parameters: that are trained.
            network: whose constants it gets; those of θ_τ by default.
        """
        module = copy.deepcopy(self.network.module)
        module.load_state_dict({**(network or self.network).buffers, **parameters}, strict=False)
        return module.eval()

    def logits_module(self, parameters: Parameters, network: Network | None = None) -> nn.Module:
        """The same, but it returns logits (B, classes), whatever the backbone's own module returns."""
        module = self.module(parameters, network)
        return module if self.network.is_plain else LogitsModule(module, self.network.output, self.network.kernels)

    def forget_queries(self) -> None:
        """Drop the cached logits of the last queries, so that the next question is answered from the start."""
        self._answered.clear()
        self._streamed.clear()

    def design_logits(self, queries: Queries) -> Tensor:
        """Logits (P, N, classes) of the networks of the recipe's perturbations; cached for the last queries.

        Several objectives are so answered by the same networks.
        """
        # Workspaces that differ in `online` alone share what is cached.
        question = self.recipe.online.model_dump_json(), queries.digest()
        if question not in self._answered:
            self._answered.clear()  # logits can be large, so only those of one question are kept
            self._answered[question] = self.perturbed_logits(queries, self.perturbations, self.synset)
        return self._answered[question]

    def reference(self, queries: Queries) -> Reference:
        """What objectives measure against."""
        return Reference(queries.images, queries.labels, self.target_logits(queries.images), self.info)

    def attribution(self, queries: Queries, objective: Objective, keep: Sequence[int] = ()) -> Attribution:
        """The attribution matrix of an objective by the recipe's design (Alg. 1, online).

        Where the logits of all networks do not fit in the budget at once, every network is measured by all objectives
        of the recipe and let go.

        Args:
            queries: N of them.
            objective: with m behaviours.
            keep: positions of queries whose `prediction_matrix` will be asked for.
        """
        if not fits(self, queries):
            return self._pass(queries, objective, keep).attributions[objective_key(objective)]
        online = self.recipe.online
        found = fit(
            objective,
            self.reference(queries),
            self.perturbations,
            self.design_logits(queries),
            beta_weights(self.perturbations, online.beta),
            online.ridge,
        )
        return found if objective.declaration.set_level else replace(found, support=self._support(queries))

    def _pass(self, queries: Queries, objective: Objective, keep: Sequence[int]) -> Streamed:
        """One pass over the networks for this objective and those of the recipe; cached for the last two questions.

        Two, because a study asks about single queries and about a whole set.
        """
        question = self.recipe.online.model_dump_json(), queries.digest(with_labels=True)
        known = self._streamed.get(question)
        if known and objective_key(objective) in known.attributions and set(keep) <= set(known.kept):
            return known
        for oldest in [each for each in self._streamed if each != question][:-1]:
            del self._streamed[oldest]
        others = (each for each in self.objectives if each.declaration.set_level == objective.declaration.set_level)
        asked = {objective_key(objective): objective}
        for each in others:
            if queries.labels is not None or not each.declaration.needs_labels:
                asked.setdefault(objective_key(each), each)
        self._streamed[question] = stream(self, queries, list(asked.values()), keep)
        return self._streamed[question]

    def _support(self, queries: Queries) -> Tensor:
        """What each cluster adds to the probability of the class that the target predicts, float64 (N, K)."""
        predicted = self.target_logits(queries.images).argmax(1)
        rows = torch.arange(len(queries), device=predicted.device)
        probabilities = self.design_logits(queries).softmax(2)[:, rows, predicted, None]
        return self._matrix(probabilities)[:, :, 0]

    def logit_effects(self, queries: Queries, chosen: Sequence[int] | None = None) -> Tensor:
        """Estimated change of every logit without each cluster, float64 (K, N, classes), of all or some queries."""
        logits = self.design_logits(queries) if chosen is None else self._chosen_logits(queries, chosen)
        return -self._matrix(logits).transpose(0, 1)

    def prediction_matrix(self, queries: Queries, chosen: Sequence[int]) -> Tensor:
        """W of the predicted probabilities of some of the queries (Eq. 7), float64 (len(chosen), K, classes)."""
        return self._matrix(self._chosen_logits(queries, chosen).softmax(2))

    def _chosen_logits(self, queries: Queries, chosen: Sequence[int]) -> Tensor:
        """Logits (P, len(chosen), classes) of some of many queries: those that were kept, or else of these alone."""
        if fits(self, queries):
            return self.design_logits(queries)[:, torch.tensor(list(chosen), dtype=torch.int64, device=self.device)]
        known = self._streamed.get((self.recipe.online.model_dump_json(), queries.digest(with_labels=True)))
        if known and set(chosen) <= set(known.kept):
            return known.logits[:, [known.kept.index(each) for each in chosen]]
        return self.perturbed_logits(queries.take(torch.tensor(list(chosen))), self.perturbations, self.synset)

    def _matrix(self, behaviours: Tensor) -> Tensor:
        """W of behaviours (P, N, m) of the networks of the recipe's design, float64 (N, K, m)."""
        online = self.recipe.online
        weights = beta_weights(self.perturbations, online.beta)
        return fit_attribution(self.perturbations, behaviours, weights, online.ridge)[0]
