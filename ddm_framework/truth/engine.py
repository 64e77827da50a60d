"""Train the networks that a bank lacks, in chunks of stacked networks, by one worker process for each share of cores.

Small networks gain nothing from a second thread, so a run with `threads: 1` trains one chunk on every core. A worker is
this module run as a program. It opens the run folder itself, so only numbers pass between the processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from ddm_framework.errors import DDMError
from ddm_framework.network import TRAINING, Parameters, chunks, start_each, take, train
from ddm_framework.runs import Workspace, load_tensors, num_cores, save_tensors, workspace_of
from ddm_framework.runs.safe_files import temporary_folder
from ddm_framework.truth.bank import Retraining, save_network


def train_missing(workspace: Workspace, missing: Mapping[Path, Retraining]) -> None:
    """Train networks and save each to its file.

    Raises:
        DDMError: if a training diverges or a file cannot be written.
    """
    listed = list(missing.items())
    parts = _parts(workspace, len(listed))
    total = len(parts) * workspace.recipe.training.epochs
    workers = min(num_workers(workspace), len(parts))
    with workspace.display.bar("retraining exactly (epochs)", total) as advance:
        if workers == 1:
            for part in parts:
                train_chunk(workspace, listed[part], 1, advance)
        else:
            _in_processes(workspace, listed, parts, workers, advance)


def num_workers(workspace: Workspace) -> int:
    """Processes that share the cores, each with the threads of the run; one on a GPU."""
    threads = workspace.recipe.general.threads
    return 1 if workspace.device.type != "cpu" or threads == "auto" else max(1, num_cores() // threads)


def _parts(workspace: Workspace, count: int) -> list[slice]:
    """Chunks of networks that are trained side by side; the same, however many processes share them.

    Their number is even, so that two processes have the same work.
    """
    fitting = workspace.budget.fitting(workspace.network, TRAINING, workspace.recipe.training.batch_size)
    pairs = -(-count // (2 * fitting))
    return list(chunks(count, max(2, -(-count // (2 * pairs)))))


def train_chunk(
    workspace: Workspace, chunk: Sequence[tuple[Path, Retraining]], workers: int, advance: Callable[[], None]
) -> None:
    """Train one chunk of networks side by side and save them."""
    begun = time.monotonic()
    files, wanted = zip(*chunk, strict=True)
    data, seeds = workspace.data.train, [each.seed for each in wanted]
    weights = torch.stack([each.kept for each in wanted]).float().to(workspace.device)
    independent = set(seeds) != {workspace.recipe.general.seed}
    controlled = not (independent or workspace.same_rounding)
    if controlled:  # the target, trained again in this stack, shows what its rounding does
        seeds, weights = [*seeds, seeds[0]], torch.cat([weights, torch.ones_like(weights[:1])])
    state = start_each([_initial(workspace, seed) for seed in seeds])
    seed = seeds if independent else workspace.recipe.general.seed
    for reached in train(workspace.network, state, data, weights, workspace.recipe.training, seed):
        state = reached
        advance()
    seconds = (time.monotonic() - begun) / len(files) / workers
    networks = state.parameters
    if controlled:
        networks = {name: each - each[-1] + workspace.target[name] for name, each in networks.items()}
    for row, file in enumerate(files):
        save_network(file, take(networks, row), seconds)


def _initial(workspace: Workspace, seed: int) -> Parameters:
    """θ_0 of a seed."""
    if seed == workspace.recipe.general.seed:
        return workspace.initial
    return workspace.build(seed)[1]


def _in_processes(
    workspace: Workspace,
    listed: Sequence[tuple[Path, Retraining]],
    parts: Sequence[slice],
    workers: int,
    advance: Callable[[], None],
) -> None:
    """Distribute the chunks among worker processes and wait for all of them."""
    with temporary_folder(listed[0][0].parent) as folder, ThreadPoolExecutor(workers) as watchers:
        processes: list[subprocess.Popen[str]] = []
        try:
            for number in range(workers):
                job = folder / f"job_{number}.safetensors"
                processes.append(_start_worker(workspace, job, listed, parts[number::workers], workers))
            ends = list(watchers.map(lambda process: _watch(process, advance), processes))
        finally:
            for process in processes:
                process.terminate()
    if failed := [message for status, message in ends if status]:
        raise DDMError(failed[0])


def _start_worker(
    workspace: Workspace, job: Path, listed: Sequence[tuple[Path, Retraining]], parts: Sequence[slice], workers: int
) -> subprocess.Popen[str]:
    rows = [row for part in parts for row in range(part.start, part.stop)]
    tensors = {
        "kept": torch.stack([listed[row][1].kept for row in rows]),
        "seeds": torch.tensor([listed[row][1].seed for row in rows]),
        "sizes": torch.tensor([part.stop - part.start for part in parts]),
    }
    save_tensors(job, tensors)
    job.with_suffix(".txt").write_text("\n".join(str(listed[row][0]) for row in rows), encoding="utf-8")
    plugins = [f"--plugin={file}" for file in workspace.registry.files]
    arguments = [str(workspace.root.path), str(job), f"--workers={workers}", *plugins]
    # -P: the current folder may be a stranger's, and its modules must not come before those that are meant.
    command = [sys.executable, "-P", "-m", __name__, *arguments]
    threads = str(workspace.recipe.general.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": _python_path()}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _python_path() -> str:
    """Where a worker finds modules besides what is installed: as this process does, ddm's own folder included."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([*filter(None, given), str(Path(__file__).resolve().parents[2])])


def _watch(process: subprocess.Popen[str], advance: Callable[[], None]) -> tuple[int, str]:
    """Follow a worker, which prints one line per epoch, to its end. Returns its exit status and its error message."""
    assert process.stdout is not None
    for _ in process.stdout:
        advance()
    _, complaint = process.communicate()
    if process.returncode == -9:
        told = "the system ended a retraining worker, most likely because the memory ended; lower memory_mb, or raise"
        return process.returncode, f"{told} `threads`, which makes workers fewer"
    last = complaint.strip().splitlines()[-1:] if process.returncode != 2 else [complaint.strip()]
    return process.returncode, "".join(last) or f"a retraining worker ended with status {process.returncode}"


def main() -> None:
    """The worker: train the chunks of a job, printing a line after each epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("job", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    asked = parser.parse_args()
    try:
        workspace = workspace_of(asked.run, asked.plugin)
        job = load_tensors(asked.job, ("kept", "seeds", "sizes"))
        files = [Path(line) for line in asked.job.with_suffix(".txt").read_text(encoding="utf-8").splitlines()]
        wanted = [Retraining(kept, seed) for kept, seed in zip(job["kept"], job["seeds"].tolist(), strict=True)]
        chunk = list(zip(files, wanted, strict=True))
        for size in job["sizes"].tolist():
            train_chunk(workspace, chunk[:size], asked.workers, lambda: print(flush=True))
            chunk = chunk[size:]
    except DDMError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
