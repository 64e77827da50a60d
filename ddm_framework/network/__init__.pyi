from .checkpoints import misfit, read_state, shape_of
from .memory import chunk_size, chunks, network_chunks
from .networks import Network, build_network
from .stacks import (
    Gradient,
    Parameters,
    broadcast,
    concatenate,
    flat,
    is_finite,
    negative,
    norms,
    num_weights,
    scaled,
    take,
)
from .training import TARGET_COPIES, TrainingState, learning_rate, start, start_each, train

__all__ = [
    "TARGET_COPIES",
    "Gradient",
    "Network",
    "Parameters",
    "TrainingState",
    "broadcast",
    "build_network",
    "chunk_size",
    "chunks",
    "concatenate",
    "flat",
    "is_finite",
    "learning_rate",
    "misfit",
    "negative",
    "network_chunks",
    "norms",
    "num_weights",
    "read_state",
    "scaled",
    "shape_of",
    "start",
    "start_each",
    "take",
    "train",
]
