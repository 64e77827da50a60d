"""Clusters are ordered by how much the network believed the labels of their images."""

from __future__ import annotations

import pytest
import torch
from ddm_attributors.margins import attribute

from ddm_framework.plugin.discovery import load_plugins
from ddm_framework.runs import belief
from ddm_framework.testing.small_run import SEVERAL, SINGLE, WHOLE_SET, small_workspace


@pytest.mark.parametrize(("objective", "shape"), [(SINGLE, (5, 1)), (WHOLE_SET, (1, 1)), (SEVERAL, (5, 3))])
def test_the_value_of_a_cluster_is_the_mean_margin_of_its_images(objective: object, shape: tuple[int, int]) -> None:
    workspace = small_workspace(load_plugins())
    found = attribute(workspace, workspace.queries_of("test", 5), objective)
    margin, clusters = belief(workspace).margin, workspace.partition.num_clusters
    assert found.shape == (shape[0], clusters, shape[1])
    for cluster in range(clusters):
        wanted = margin[workspace.partition.members(cluster)].mean()
        assert torch.allclose(found[:, cluster], wanted.expand_as(found[:, cluster]))
