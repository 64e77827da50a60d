"""Attribution methods: which clusters of training data caused a behaviour of the network?"""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_attributors() -> Iterator[Component]:
    """The distilled datamodel, its ablations, and every method that it is compared with (Tables 1 and 2)."""
    yield Component("ddm", "ddm_attributors.ddm:attribute", "Distilled datamodel, by the recipe's settings", "Alg. 1")
    yield Component(
        "ddm_anchored",
        "ddm_attributors.ddm:attribute_anchored",
        "As ddm, with a short training on the remaining data",
    )
    yield Component(
        "ddm_replay",
        "ddm_attributors.ddm:attribute_by_replay",
        "As ddm, with the last epochs of the training repeated",
    )
    yield Component(
        "replay_influence",
        "ddm_attributors.ddm:attribute_by_influence",
        "As ddm_replay, with the step of an influence function",
    )
    yield Component(
        "ddm_corrected",
        "ddm_attributors.corrected:attribute",
        "As ddm_replay, corrected by a few exact retrainings",
    )
    yield Component(
        "ddm_hard",
        "ddm_attributors.ddm:attribute_with_hard_labels",
        "As ddm, with hard labels on the synthetic images",
    )
    yield Component(
        "ddm_match",
        "ddm_attributors.ddm:attribute_by_forward_matching",
        "Ordinary gradient matching instead of reverse",
        "Table 1, DDM-match",
    )
    yield Component(
        "ddm_sequential",
        "ddm_attributors.ddm:attribute_sequentially",
        "Runs of samples instead of clusters",
        "Table 1, DDM w/o cluster",
    )
    yield Component(
        "gradient",
        "ddm_attributors.controls:gradient",
        "A step along each cluster's real gradient, without matching",
    )
    yield Component(
        "retained",
        "ddm_attributors.controls:retained",
        "A short training on the remaining data, without a step",
    )
    yield Component("exact", "ddm_attributors.retraining:exact", "The truth: retrain without each cluster", "Sec. 4.1")
    yield Component(
        "datamodel",
        "ddm_attributors.retraining:datamodel",
        "Regression over networks retrained on random subsets",
        "Ilyas et al. 2022",
    )
    yield Component(
        "koh",
        "ddm_attributors.koh:attribute",
        "Influence function by conjugate gradients or LiSSA",
        "Koh and Liang 2017",
    )
    yield Component(
        "source",
        "ddm_attributors.source:attribute",
        "Gradient descent unrolled in segments, each with its curvature",
        "Bae et al. 2024",
    )
    yield Component(
        "linearised",
        "ddm_attributors.linearised:attribute",
        "The exact derivative of the whole training, the ceiling of linear methods",
        "Hara et al. 2019",
    )
    yield Component(
        "graddot",
        "ddm_attributors.first_order:graddot",
        "Inner products of gradients at the target",
        "Charpiat et al. 2019",
    )
    yield Component(
        "gradcos",
        "ddm_attributors.first_order:gradcos",
        "Cosines of gradients at the target",
        "Charpiat et al. 2019",
    )
    yield Component(
        "datainf",
        "ddm_attributors.first_order:datainf",
        "Influence with the mean of single samples' inverses",
        "Kwon et al. 2024",
    )
    yield Component(
        "knn_shapley",
        "ddm_attributors.shapley:attribute",
        "Shapley values of a nearest-neighbour classifier on features",
        "Jia et al. 2019",
    )
    yield Component(
        "fastif",
        "ddm_attributors.fastif:attribute",
        "Influence among each query's nearest neighbours",
        "Guo et al. 2020",
    )
    yield Component(
        "arnoldi",
        "ddm_attributors.arnoldi:attribute",
        "Influence in the Hessian's largest eigenvalues (Scaleup)",
        "Schioppa et al. 2022",
    )
    yield Component(
        "tracin",
        "ddm_attributors.tracin:attribute",
        "Descent steps on a cluster, added up over checkpoints",
        "Pruthi et al. 2020",
    )
    yield Component(
        "trak", "ddm_attributors.trak:attribute", "Projected gradients and their kernel", "Park et al. 2023"
    )
    yield Component(
        "ekfac", "ddm_attributors.ekfac:attribute", "Influence with Kronecker-factored curvature", "Grosse et al. 2023"
    )
    yield Component(
        "prediction",
        "ddm_attributors.similarity:prediction",
        "Clusters predicted most like the query",
        "Table 1, Predict-based",
    )
    yield Component(
        "clustering",
        "ddm_attributors.similarity:clustering",
        "Clusters nearest to the query in features",
        "Table 1, Clustering-based",
    )
    yield Component(
        "aum",
        "ddm_attributors.margins:attribute",
        "Clusters whose labels the network believed least",
        "Pleiss et al. 2020",
    )
    yield Component("random", "ddm_attributors.floors:random", "Random effects", "Table 1, Random Select")
