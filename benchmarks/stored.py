"""The committed result files: how they are written, and whether they are older than their recipe."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from ddm_framework.recipe.reading import read_merged

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent / "recipes"
RESULTS = HERE / "results"


def read(path: Path) -> dict[str, Any]:
    """One result file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, result: dict[str, Any], indent: int | None = 1) -> None:
    """Keep a result, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def tree(recipe: Path) -> dict[str, Any]:
    """A recipe with everything that it extends, as plain values."""
    found: dict[str, Any] = read_merged(recipe).value
    return found


def digest(recipe: dict[str, Any]) -> str:
    """Of a recipe's values; comments and the order of keys do not matter."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:16]


def machine(device: str) -> str:
    """What a result was made on."""
    return f"{platform.machine()} ({os.cpu_count()} cores), {device}, torch {torch.__version__}"


def source(data: Path) -> list[str]:
    """Settings of a recipe for its data set's folder, or for an .npz file with (part of) the images."""
    found = data.resolve()
    return [f"dataset.root={found}"] if found.is_dir() else ["dataset.use=npz", f"dataset.path={found}"]
