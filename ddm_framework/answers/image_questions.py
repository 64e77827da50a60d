"""A new question to a finished run: images from files, answered without any offline work."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddm_framework.answers.class_names import class_id, listed_names
from ddm_framework.answers.deletion import without
from ddm_framework.data import SUFFIXES, DataInfo, fitted, open_image, to_pixels
from ddm_framework.errors import DDMError, RunFolderError
from ddm_framework.files import FileError, check_file, is_file, is_folder
from ddm_framework.online import Amounts, Attribution, Objective, Queries, sides
from ddm_framework.online.questions import checked_queries
from ddm_framework.report import Report, Section, Text, page, query_cards
from ddm_framework.runs import Workspace, artifacts, save_text

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_MOST_NAMED = 5


def _no_amounts(_workspace: Workspace, _queries: Queries) -> Amounts | None:
    return None


def answer(
    workspace: Workspace,
    paths: Sequence[Path],
    labels: Sequence[str],
    objective: str | None,
    *,
    top: int,
    out: Path | None,
    attributor: str | None = None,
    amounts_of: Callable[[Workspace, Queries], Amounts | None] = _no_amounts,
) -> dict[str, Any]:
    """Attribute predictions on image files to clusters, and write a page.

    Args:
        workspace: of a finished run.
        paths: image files, or folders of them.
        labels: classes by name or id, each text of one or several with commas between them; one in all, or one per
            image; none if they are not known.
        objective: name, or None for the recipe's first.
        top: how many clusters to name for each image.
        out: the page; `RUN/questions/<n>.html` by default.
        attributor: the method that answers; None for the recipe's own matching and online settings.
        amounts_of: tells amounts where the run's certificate knows how wrong they may be; those of other methods are
            never told.
    Returns:
        The answer as plain values: for each query its prediction and top clusters.
    Raises:
        DDMError: for missing or unreadable images, unknown labels, an objective of sets, or an attributor that is
            unknown or has clusters of its own.
    """
    info = workspace.info
    names, pixels = read_images(paths, info)
    queries = checked_queries(info.normalise(pixels), _labels(labels, len(names), info), names, info)
    queries = queries.to(workspace.device)
    chosen = workspace.objectives[0] if objective is None else workspace.objective(objective)
    if chosen.declaration.set_level:
        raise DDMError(
            f"objective {chosen.name!r} measures whole sets; choose one of single images, such as output_shift"
        )
    attribution = _attributed(workspace, queries, chosen, attributor)
    target = out or _next_page(workspace.folder.file("questions"))
    amounts = amounts_of(workspace, queries) if attributor is None else None
    answered = {**_as_values(workspace, queries, attribution, top, target, amounts), "left_out": left_out(paths)}
    text = _page(workspace, queries, attribution, attributor, amounts)
    try:
        save_text(target, text)
    except RunFolderError as error:
        raise RunFolderError(f"{error}; --out writes the page elsewhere") from error
    return answered


def answer_without(workspace: Workspace, clusters: Sequence[int], paths: Sequence[Path]) -> dict[str, Any]:
    """What the network would say without some clusters, all of them together.

    Args:
        workspace: of a finished run.
        clusters: ids from 0 to K - 1.
        paths: image files, or folders of them; there may be none.
    Returns:
        Test accuracy before and after, test images whose prediction changes, and the prediction of each image.
    Raises:
        DDMError: for unknown clusters, or missing or unreadable images.
    """
    found, names = without(workspace, clusters), workspace.info.class_names
    test = workspace.data.test
    told: dict[str, Any] = {
        "without": list(clusters),
        "accuracy": {"before": workspace.accuracy_of(workspace.target, test), "after": found.accuracy},
        "num_test": len(test),
        "changed": found.changed.tolist(),
        "images": [],
        "left_out": left_out(paths),
    }
    if paths:
        ids, pixels = read_images(paths, workspace.info)
        images = workspace.info.normalise(pixels).to(workspace.device)
        before, after = workspace.target_logits(images).softmax(1), found.predict(images)
        for name, *rows in zip(ids, before, after, strict=True):
            said = [{"predicted": names[int(row.argmax())], "probability": float(row.max())} for row in rows]
            told["images"].append({"id": name, "before": said[0], "after": said[1]})
    return told


def _attributed(workspace: Workspace, queries: Queries, objective: Objective, attributor: str | None) -> Attribution:
    """The attribution by the recipe's settings, or by another method."""
    if attributor is None:
        return workspace.attribution(queries, objective)
    if workspace.method(attributor).partition is not None:
        raise DDMError(f"attributor {attributor!r} has clusters of its own, which the page cannot show; choose another")
    estimate = workspace.effects_by(queries, objective, attributor)
    reference = workspace.reference(queries)
    own = estimate.objective.measure(reference.target_logits, reference).double().cpu()
    slope = estimate.objective.slope(reference)
    support = -estimate.effect[:, :, 0] * slope[:, None] if slope.any() else None
    return Attribution(estimate.objective, -estimate.effect, own + estimate.effect.sum(1), own, support)


def read_images(paths: Sequence[Path], info: DataInfo) -> tuple[list[str], Tensor]:
    """Names and pixels (N, C, H, W) in [0, 1], fitted to the size of the data as in data sets of image files.

    An image goes by the name of its file, and by its path where several have that name.

    Raises:
        DDMError: naming the file that is missing or cannot be read.
    """
    files = [file for path in paths for file in _image_files(path)]
    alike = Counter(file.name for file in files)
    told = [file.name if alike[file.name] == 1 else str(file) for file in files]
    names = [os.fsencode(each).decode(errors="replace") for each in told]
    return names, torch.stack([_read(file, info) for file in files])


def _image_files(path: Path) -> list[Path]:
    if is_folder(path):
        found = sorted(file for file in _files_within(path) if _is_image(file))
        if not found:
            raise DDMError(f"{path} holds no image ({', '.join(SUFFIXES)})")
        return found
    try:
        check_file(path)
    except FileError as error:
        raise DDMError(f"there is no image {path}: {error.reason}") from None
    return [path]


def _files_within(folder: Path) -> Iterator[Path]:
    """Files in a folder and the folders in it, through links but never twice, without names that start with a dot."""
    seen: set[str] = set()
    for within, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(within)
        folders[:] = [] if real in seen else [each for each in folders if not each.startswith(".")]
        yield from (Path(within, each) for each in files if real not in seen and not each.startswith("."))
        seen.add(real)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and is_file(file)


def left_out(paths: Sequence[Path]) -> str:
    """A sentence on the files in these folders that are not asked about; empty if there are none."""
    others = [file for path in paths if is_folder(path) for file in _files_within(path) if not _is_image(file)]
    endings = Counter(file.suffix.lower() or "no ending" for file in others).most_common(_MOST_NAMED)
    named = ", ".join(f"{ending} {count}" for ending, count in endings)
    what = "1 file is" if len(others) == 1 else f"{len(others)} files are"
    return f"{what} left out, of another format ({named})" if others else ""


def _read(file: Path, info: DataInfo) -> Tensor:
    channels, height, width = info.shape
    if channels not in _MODES:
        raise DDMError(f"no image file has {channels} channels; ask from Python, with run.attribute")
    pixels = to_pixels(fitted(open_image(file, _MODES[channels]), height, width))
    return torch.from_numpy(np.ascontiguousarray(pixels)) / 255


def _labels(texts: Sequence[str], count: int, info: DataInfo) -> Tensor | None:
    if not texts:
        return None
    named = listed_names(texts, info.class_names)
    if len(named) not in (1, count):
        raise DDMError(f"--labels names {len(named)} classes for {count} images; give one, or one for each image")
    ids = [class_id(each, info.class_names) for each in named]
    return torch.tensor(ids * count if len(ids) == 1 else ids)


def _next_page(folder: Path) -> Path:
    taken = [int(path.stem) for path in folder.glob("*.html") if path.stem.isdecimal()]
    return folder / f"{max(taken, default=0) + 1}.html"


def _as_values(
    workspace: Workspace,
    queries: Queries,
    attribution: Attribution,
    top: int,
    target: Path,
    amounts: Amounts | None,
) -> dict[str, Any]:
    probabilities = workspace.target_logits(queries.images).softmax(1).cpu()
    ranking = attribution.objective.ranking(attribution.effect)
    names, classes = workspace.info.class_names, workspace.partition.classes.tolist()
    answered = []
    for index, name in enumerate(queries.ids):
        predicted = int(probabilities[index].argmax())
        found = sides(attribution, index)

        def listed(clusters: list[int], row: int = index) -> list[dict[str, Any]]:
            effect = attribution.effect[row, :, 0].tolist()
            return [
                {
                    "cluster": each,
                    "class": names[classes[each]],
                    "effect": effect[each],
                    **({} if amounts is None else {"probability_without": amount_as_values(amounts, row, each)}),
                }
                for each in clusters[:top]
            ]

        answered.append(
            {
                "id": name,
                "predicted": names[predicted],
                "probability": float(probabilities[index, predicted]),
                "label": None if queries.labels is None else names[int(queries.labels[index])],
                "clusters": listed(ranking[index].tolist()),
                "made_it_say_this": None if found is None else listed(found.made),
                "spoke_against_it": None if found is None else listed(found.against),
            }
        )
    return {"objective": attribution.objective.name, "queries": answered, "page": str(target)}


def amount_as_values(amounts: Amounts, query: int, cluster: int) -> dict[str, Any]:
    """The probability of what the network says without one cluster, as plain values."""
    value, low, high = (float(each[query, cluster]) for each in (amounts.without, amounts.low, amounts.high))
    known = bool(amounts.retrained[cluster])
    return {"value": value, "interval": [low, high], "level": amounts.level, "retrained": known}


def _page(
    workspace: Workspace,
    queries: Queries,
    attribution: Attribution,
    attributor: str | None,
    amounts: Amounts | None,
) -> str:
    # Other methods have effects without a unit, or none on probabilities: their cards name clusters alone.
    matrix = workspace.prediction_matrix(queries, range(len(queries))) if attributor is None else None
    cards = query_cards(workspace, queries, attribution, matrix, range(len(queries)), amounts)
    by = "" if attributor is None else f", answered by {attributor}"
    asked = Text(f"{len(queries)} images, objective {attribution.objective.name}{by}.")
    report = Report(
        sections=[Section("Queries", [asked, *cards])],
        question="Which training data made this network see that in these images?",
    )
    return page(workspace, report, {}, artifacts.load_metrics(workspace.folder))
