"""The network whose behaviour is explained, with the way that its training took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ddm_framework.network.constants import Constants
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters


@dataclass(frozen=True, slots=True)
class Target:
    """A trained network.

    Attributes:
        network: the architecture, with the constants of θ_τ.
        trajectory: its saved parameters by epoch, from θ_0 to θ_τ.
        constants: of earlier epochs, where they differ from those of θ_τ, such as the statistics of batch norm.
    """

    network: Network
    trajectory: Mapping[int, Parameters]
    constants: Mapping[int, Constants] = field(default_factory=dict)

    def at(self, epoch: int) -> Network:
        """The architecture with the constants that θ_t was saved with."""
        return self.network.with_constants(self.constants.get(epoch, {}))

    @property
    def initial(self) -> Parameters:
        """θ_0."""
        return self.trajectory[0]

    def until(self, epoch: int) -> Target:
        """The same training, as it was after an epoch that was saved: its final network is θ_t."""
        kept = {0: self.at(0).buffers} if self.constants else {}
        return Target(self.at(epoch), {0: self.initial, epoch: self.trajectory[epoch]}, kept)

    @property
    def final(self) -> Parameters:
        """θ_τ."""
        return self.trajectory[max(self.trajectory)]
