"""What first-order methods refuse to differentiate."""

from __future__ import annotations

import pytest
import torch
from ddm_attributors.slopes import slopes
from ddm_objectives.predictions import predictions
from known_runs import regression

from ddm_framework import DDMError
from ddm_framework.online.questions import declared
from ddm_framework.plugin.choice import Choice


def test_an_objective_of_several_behaviours_is_refused() -> None:
    known = regression()
    reference = known.workspace.reference(known.queries)
    asked = declared(Choice("objective", "predictions", {}, predictions))
    with pytest.raises(DDMError, match="'predictions' has 3 behaviours; a first-order attributor takes one"):
        slopes(asked, torch.zeros(8, 3), reference)
