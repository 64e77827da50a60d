"""A figure survives the way to `metrics.json` and back."""

from __future__ import annotations

import json

import pytest
import torch
from ddm_studies.comparison.measured import Measured, bootstrapped

from ddm_framework.truth import bootstrap_interval


@pytest.mark.parametrize("figure", [Measured(0.5, (0.25, 0.75)), Measured(1.0), Measured(None)])
def test_metrics_are_read_back(figure: Measured) -> None:
    written = json.loads(json.dumps(figure.metrics("lds")))
    assert list(written) == ["lds", "lds_interval"]
    assert Measured.read(written, "lds") == figure


def test_a_figure_without_an_interval_in_the_file_has_none() -> None:
    assert Measured.read({"lds": 0.5}, "lds") == Measured(0.5)


def test_the_mean_has_its_bootstrap_interval() -> None:
    values = torch.arange(20).double()
    found = bootstrapped(values, torch.Generator().manual_seed(1), resamples=100)
    assert found == (9.5, bootstrap_interval(values, torch.Generator().manual_seed(1), resamples=100))
