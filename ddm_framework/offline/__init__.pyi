from .directions import Distance
from .features import extract_features, penultimate
from .matching import cluster_chunks, match, start_images
from .pairing import Pair, possible_pairs
from .partition import Divided, Partition, make_partition, numbers_of_clusters
from .real_gradients import class_gradients, cluster_gradients, trajectory_gradients
from .synset import Synset, paired_gradients, synset_gradients

__all__ = [
    "Distance",
    "Divided",
    "Pair",
    "Partition",
    "Synset",
    "class_gradients",
    "cluster_chunks",
    "cluster_gradients",
    "extract_features",
    "make_partition",
    "match",
    "numbers_of_clusters",
    "paired_gradients",
    "penultimate",
    "possible_pairs",
    "start_images",
    "synset_gradients",
    "trajectory_gradients",
]
