"""Which training data keep a student from learning from a teacher that does not want to teach (Table 7)?"""

from ddm_studies.transferability.study import run

__all__ = ["run"]
