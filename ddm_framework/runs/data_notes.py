"""What a reader of the results must know of the data: what was left out, images that occur twice, odd clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddm_framework.runs.workspace import Workspace


def data_notes(workspace: Workspace) -> list[str]:
    """Sentences, each about one thing."""
    return list(workspace.data.notes)
