"""The pages: HTML files that need neither a network nor the checkpoints."""

from .comparison_findings import SAME_ANGLE as SAME_ANGLE
from .comparison_findings import comparison_findings as comparison_findings
from .comparison_report import render_comparison as render_comparison
from .findings import findings as findings
from .report import render_report as render_report
from .trace_findings import trace_findings as trace_findings
from .trace_report import render_trace as render_trace
