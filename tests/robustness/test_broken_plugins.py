"""A plugin that breaks its contract is named by the core when it does so, and not only by `ddm check`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_fixtures import plugin, refused, tiny

import ddm_framework
from ddm_framework.errors import PluginError

HEAD = '@objective(more_influential="larger")\ndef target(logits, reference, /):\n    """A broken one."""\n'
OBJECTIVES = {
    "nan": ("return (logits * float('nan'))[:, :1]", "returned NaN for logits that hold none"),
    "whole numbers": ("return logits[:, :1].long()", "must return float32 or float64, returned torch.int64"),
    "half": ("return logits[:, :1].half()", "must return float32 or float64, returned torch.float16"),
    "device": (
        "return torch.empty(len(logits), 1, device='meta')",
        "must return a tensor on cpu, returned one on meta",
    ),
    "grad": ("return logits[:, :1] * torch.ones(1, requires_grad=True)", "requires a gradient"),
    "in place": ("return logits.sub_(1)[:, :1]", "changes in place the logits"),
    "target in place": ("reference.target_logits.zero_(); return logits[:, :1]", "changes in place the logits"),
    "shape": ("return logits[:, 0]", "must return a tensor of shape"),
    "no tensor": ("return 3", "must return a tensor of shape"),
}
BACKBONE = '''
class Net(torch.nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer = torch.nn.Linear(data.num_values, data.num_classes)
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0
    def forward(self, images):
        {line}
        return self.layer(images.flatten(1)) {more}

def target(data, /):
    """A broken one."""
    {before}
    return Net(data)
'''
BACKBONES = {
    "buffer": (BACKBONE.format(line="self.seen.add_(1)", more="", before=""), "a call changes 'seen'"),
    "attribute": (BACKBONE.format(line="self.calls += 1", more="+ self.calls", before=""), "other logits at a second"),
    "noise": (BACKBONE.format(line="", more="+ torch.rand(1)", before=""), "draws random numbers in evaluation mode"),
    "raises": (BACKBONE.format(line="", more="", before="[][1]"), "fails on these data: IndexError"),
    "endless": (BACKBONE.format(line="", more="", before="torch.empty(10**14)"), "would need more than 400 TB"),
}
DATA = '''
from ddm_framework import DataInfo, DataSplits, ImageSet

def target():
    """A broken one."""
    info = DataInfo((1, 6, 6), 3, (0.5,), (0.5,), ("a", "b", "c"))
    images, labels = torch.zeros(30, 1, 6, 6), torch.arange(30) % 3
    {line}
    split = ImageSet(images, labels)
    return DataSplits(split, split, split, info)
'''
DATASETS = {
    "labels": ("labels = labels + 1", "labels run from 1 to 3, and there are 3 classes"),
    "negative": ("labels = labels - 1", "labels run from -1 to 1"),
    "float labels": ("labels = labels.float()", "labels are torch.float32"),
    "nan": ("images[3] = float('nan')", "images hold NaN or infinity"),
    "double": ("images = images.double()", "images are torch.float64, not float32"),
    "shape": ("images = images[:, :, :5]", "images are (30, 1, 5, 6), not (N, 1, 6, 6)"),
    "names": ("info = DataInfo((1, 6, 6), 3, (0.5,), (0.5,), ('a',))", "one name per class"),
    "memory": ("torch.empty(10**15)", "ran out of memory"),
}


@pytest.mark.parametrize("fault", OBJECTIVES)
def test_objective(fault: str, tmp_path: Path, finished: Path) -> None:
    line, message = OBJECTIVES[fault]
    file = plugin(tmp_path / "mine.py", "objective", "broken", f"{HEAD}    {line}\n")
    run = ddm_framework.open_run(finished, plugins=[file])
    with pytest.raises(PluginError) as caught:
        run.attribute(torch.zeros(2, *run.workspace.info.shape), objective="broken")
    assert f"objective 'broken' of plugin {file}" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("fault", BACKBONES)
def test_backbone(fault: str, tmp_path: Path) -> None:
    source, message = BACKBONES[fault]
    file = plugin(tmp_path / "mine.py", "backbone", "broken", source)
    told = refused("run", tiny(tmp_path, backbone="{use: broken}"), "--out", tmp_path / "run", "--plugin", file)
    assert message in told
    assert "backbone" in told
    assert fault == "endless" or f"backbone 'broken' of plugin {file}" in told


@pytest.mark.parametrize("fault", DATASETS)
def test_dataset(fault: str, tmp_path: Path) -> None:
    line, message = DATASETS[fault]
    file = plugin(tmp_path / "mine.py", "dataset", "broken", DATA.format(line=line))
    told = refused("run", tiny(tmp_path, dataset="{use: broken}"), "--out", tmp_path / "run", "--plugin", file)
    assert f"dataset 'broken' of plugin {file}" in told
    assert message in told
