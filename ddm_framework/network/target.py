"""The network whose behaviour is explained, with the way that its training took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters


@dataclass(frozen=True, slots=True)
class Target:
    """A trained network.

    Attributes:
        network: the architecture.
        trajectory: its saved parameters by epoch, from θ_0 to θ_τ.
    """

    network: Network
    trajectory: Mapping[int, Parameters]

    @property
    def initial(self) -> Parameters:
        """θ_0."""
        return self.trajectory[0]

    def until(self, epoch: int) -> Target:
        """The same training, as it was after an epoch that was saved: its final network is θ_t."""
        return Target(self.network, {0: self.initial, epoch: self.trajectory[epoch]})

    @property
    def final(self) -> Parameters:
        """θ_τ."""
        return self.trajectory[max(self.trajectory)]
