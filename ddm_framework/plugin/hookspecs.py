"""The seven hooks of a ddm plugin: one per kind of component, no arguments, each yields `Component` records.

A plugin is a module with `@hookimpl` functions. A package registers it through an entry point in the group `ddm`:

    [project.entry-points.ddm]
    my_plugin = "my_package.plugin"

A single file needs no package: `ddm run recipe.yaml --plugin my_file.py` loads it, and its targets are written
`f"{__name__}:measure"`. Hooks are called once, when ddm starts. The targets are imported only when a recipe uses them,
so keep heavy imports out of the module with the hooks. `ddm new-plugin` writes a working package, and `ddm check` tests
whether components keep the contracts below.

The positional-only arguments of a target come from the core. Its keyword-only arguments are the options that a recipe
may set; each has an annotation and a default. `**kwargs` is refused, because the signature is the schema.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from ddm_framework.plugin.components import Component

PROJECT = "ddm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""


@hookspec
def ddm_register_datasets() -> Iterable[Component]:  # type: ignore[empty-body]
    """Data sets: `load(*, ...) -> DataSplits`.

    Images are float32 (N, C, H, W), normalised, labels int64 (N,). The validation split is cut from the training
    set, never from the test set. Nothing is downloaded unless the recipe says `download: true`. If files are
    missing, raise a `DataError` that names them. A third entry beside images and labels, an `Origin`, says which file
    each sample is, or which place it has in the source's own order, so that answers lead back to it.

        def load(*, size: int = 120, validation: float = 0.1) -> DataSplits:
            \"\"\"Bright and dark squares under noise; `size` images, of which `validation` is held out.\"\"\"
            labels = torch.arange(size) % 2
            noise = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(0))
            pixels = (noise + labels.view(-1, 1, 1, 1)) / 2
            train, test = (pixels[20:], labels[20:]), (pixels[:20], labels[:20])
            return DataSplits.from_pixels(train, test, class_names=("dark", "bright"), validation=validation)

        @hookimpl
        def ddm_register_datasets():
            yield Component("squares", "my_package.squares:load", "Bright and dark squares")
    """


@hookspec
def ddm_register_backbones() -> Iterable[Component]:  # type: ignore[empty-body]
    """Networks: `build(data: DataInfo, /, *, ...) -> nn.Module`, from (B, C, H, W) to logits (B, classes).

    The module must work with B = 1, be twice differentiable, and hold no state that mixes the samples of a batch
    (instance, group or layer norm instead of batch norm). It always runs in evaluation mode, without dropout, so that
    retraining without a cluster differs from the original training only by that cluster. With `features: target`,
    samples are clustered on the input of its last linear layer.

        def build(data: DataInfo, /, *, hidden: int = 64) -> nn.Module:
            \"\"\"A perceptron with one layer of `hidden` units.\"\"\"
            return nn.Sequential(nn.Flatten(), nn.Linear(data.num_values, hidden), nn.ReLU(),
                                 nn.Linear(hidden, data.num_classes))

        @hookimpl
        def ddm_register_backbones():
            yield Component("mlp", "my_package.mlp:build", "Two-layer perceptron")
    """


@hookspec
def ddm_register_clusterers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Clusterers: `assign(features, num_clusters, generator, /, *, ...) -> Tensor`.

    Called once per class with the features of its samples, float32 (N, D). Returns int64 (N,), in which every id from
    0 to num_clusters - 1 is used. The given `torch.Generator` must be the only source of randomness.

        def assign(features: Tensor, num_clusters: int, generator: torch.Generator, /) -> Tensor:
            \"\"\"Random clusters of equal size.\"\"\"
            return torch.randperm(len(features), generator=generator) % num_clusters

        @hookimpl
        def ddm_register_clusterers():
            yield Component("shuffled", "my_package.shuffled:assign", "Clusters of random samples")
    """


@hookspec
def ddm_register_distances() -> Iterable[Component]:  # type: ignore[empty-body]
    """Matching distances (Eq. 6): `distance(synthetic, target, /, *, ...) -> Tensor`.

    Compares two gradients of one network, each a dict from parameter name to tensor. Returns a scalar that is
    differentiable in the first. The target is already reversed, so a distance need not know the direction of matching.
    It runs inside `torch.func.vmap`: use tensor operations, no `.item()` and no branches on values. One that follows
    from inner products alone, as a cosine does, may declare its formula with `@of_inner_products`, and is faster then.

        def distance(synthetic: Gradient, target: Gradient, /) -> Tensor:
            \"\"\"Sum of absolute differences.\"\"\"
            return sum((synthetic[name] - target[name]).abs().sum() for name in target)

        @hookimpl
        def ddm_register_distances():
            yield Component("l1", "my_package.l1:distance", "Sum of absolute differences")
    """


@hookspec
def ddm_register_objectives() -> Iterable[Component]:  # type: ignore[empty-body]
    """Evaluation objectives (Eq. 7, 10, 14): `measure(logits, reference, /, *, ...) -> Tensor`.

    Measures a behaviour of one network from its logits (N, classes) on the queries. `reference` holds the queries'
    images and labels (or None), the target network's logits and the `DataInfo`. Returns (N, m), or (1, m) if the
    objective describes the whole set of queries. The decorator `objective` declares how clusters are ranked by the
    effect of deleting them, behaviour(without the cluster) - behaviour(target).

        @objective(more_influential="larger")
        def measure(logits: Tensor, reference: Reference, /) -> Tensor:
            \"\"\"Entropy of the prediction, in nats.\"\"\"
            return torch.distributions.Categorical(logits=logits).entropy()[:, None]

        @hookimpl
        def ddm_register_objectives():
            yield Component("entropy", "my_package.entropy:measure", "How unsure the network becomes")
    """


@hookspec
def ddm_register_attributors() -> Iterable[Component]:  # type: ignore[empty-body]
    """Attribution methods: `attribute(workspace, queries, objective, /, *, ...) -> Tensor`.

    Returns the effect (N, K, m) of deleting each cluster on each query: behaviour without it minus behaviour of the
    target, so -W of Eq. 8. The workspace holds the recipe, data, partition, target, trajectory and synsets. Declare a
    method that differentiates the objective at the target, or adds up effects of samples, with
    `@attributor(linear=True)`; for an objective without a gradient there it is then given the objective's surrogate, or
    with `logits=True` asked for its effects on every logit instead. Put work that is done once for all queries
    inside `with workspace.offline_work():`, so that a comparison can report its cost apart from that of a question, or
    let `workspace.made_once(name, make)` keep it for the next question.

        def attribute(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
            \"\"\"Random effects.\"\"\"
            reference = workspace.reference(queries)
            num_behaviours = objective.measure(reference.target_logits, reference).shape[1]
            rows = 1 if objective.declaration.set_level else len(queries)
            shape = (rows, workspace.partition.num_clusters, num_behaviours)
            return torch.rand(shape, generator=workspace.generator("coin"))

        @hookimpl
        def ddm_register_attributors():
            yield Component("coin", "my_package.coin:attribute", "A floor: random effects")
    """


@hookspec
def ddm_register_studies() -> Iterable[Component]:  # type: ignore[empty-body]
    """Studies: `run(workspace, /, *, ...) -> Report`, an experiment that answers a recipe's question.

    A study asks the workspace for effects and returns sections of text, tables and pictures as data. It writes
    nothing itself: the core stores and renders the report.

        def run(workspace: Workspace, /, *, queries: int = 10) -> Report:
            \"\"\"The mean effect over the first `queries` test images.\"\"\"
            effect = workspace.attribution(workspace.queries_of("test", queries), workspace.objectives[0]).effect
            return Report(metrics={"mean_effect": effect.mean().item()},
                          sections=[Section("Effects", [Text("How much each cluster matters.")])])

        @hookimpl
        def ddm_register_studies():
            yield Component("mean_effect", "my_package.mean_effect:run", "The mean effect of a cluster")
    """
