from .comparison_report import render_comparison as render_comparison
from .report import render_report as render_report
from .reproduction_report import claim_figures as claim_figures
from .reproduction_report import render_reproduction as render_reproduction
from .trace_report import render_trace as render_trace
