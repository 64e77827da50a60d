from .agreement import (
    Agreement,
    Judged,
    agreement_interval,
    bootstrap_interval,
    cluster_lds,
    cluster_lds_interval,
    displacement_cosine,
    empirical_error_agreement,
    judge,
    leave_one_out_spearman,
    recovered_share,
    recovered_share_interval,
    sampled_spearman_interval,
    top_overlap,
)
from .bank import Bank, Coupling, Retraining
from .certificate import Certificate, certify
from .retraining import bank_logits, retrained

__all__ = [
    "Agreement",
    "Bank",
    "Certificate",
    "Coupling",
    "Judged",
    "Retraining",
    "agreement_interval",
    "bank_logits",
    "bootstrap_interval",
    "certify",
    "cluster_lds",
    "cluster_lds_interval",
    "displacement_cosine",
    "empirical_error_agreement",
    "judge",
    "leave_one_out_spearman",
    "recovered_share",
    "recovered_share_interval",
    "retrained",
    "sampled_spearman_interval",
    "top_overlap",
]
