"""Every sentence about results: a finding is a record, worded in one place."""

from .analysis import findings as findings
from .comparison import SAME_ANGLE as SAME_ANGLE
from .comparison import comparison_findings as comparison_findings
from .graph import sentences as sentences
from .trace import trace_findings as trace_findings
