from .account import Ledger, open_account
from .opening import num_cores, settle
from .provenance import StageInputs
from .real_training import replayed_epochs
from .run_folder import STAGES, RunFolder
from .safe_files import PARTIAL, json_text, load_json, save_json, save_text
from .samples import Belief, Member, Sample, belief, members_of
from .tensor_files import load_tensors, save_tensors
from .workspace import Workspace

__all__ = [
    "PARTIAL",
    "STAGES",
    "Belief",
    "Ledger",
    "Member",
    "RunFolder",
    "Sample",
    "StageInputs",
    "Workspace",
    "belief",
    "json_text",
    "load_json",
    "load_tensors",
    "members_of",
    "num_cores",
    "open_account",
    "replayed_epochs",
    "save_json",
    "save_tensors",
    "save_text",
    "settle",
]
