"""Norms of the condensation networks: what they compute, and every refusal."""

from __future__ import annotations

import pytest
import torch
from ddm_backbones.norms import norm_maker
from torch import nn

from ddm_framework.errors import DDMError


def test_instance_norm_is_one_group_a_channel() -> None:
    maps = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(norm_maker("x", "instance", 4, [6])(6)(maps), nn.InstanceNorm2d(6)(maps))


def test_group_norm_has_the_groups() -> None:
    norm = norm_maker("x", "group", 4, [8, 12])(12, eps=0.5)
    assert (norm.num_groups, norm.num_channels, norm.eps) == (4, 12, 0.5)


def test_batch_norm_is_refused_with_the_reason() -> None:
    with pytest.raises(
        DDMError, match=r"^backbone x: `norm: batch` is refused, because a synset has one image per clus"
    ):
        norm_maker("x", "batch", 4, [8])


@pytest.mark.parametrize(
    ("widths", "wanted"),
    [
        ([6, 12], "`width: 6` cannot be divided into `groups: 4`; take another `width` or other `groups`"),
        ([4, 6, 8], "`width: 4` makes layers of 6 channels, which cannot be divided into `groups: 4`"),
    ],
)
def test_groups_must_divide_every_layer(widths: list[int], wanted: str) -> None:
    with pytest.raises(DDMError, match=wanted):
        norm_maker("x", "group", 4, widths)
    norm_maker("x", "instance", 4, widths)
