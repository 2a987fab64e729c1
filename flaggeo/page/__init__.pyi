from .comparison_report import render_comparison as render_comparison
from .notebook import chart as chart
from .notebook import render_cards as render_cards
from .report import render_report as render_report
from .report import report_cards as report_cards
from .reproduction_report import claim_figures as claim_figures
from .reproduction_report import render_reproduction as render_reproduction
from .trace_report import render_trace as render_trace
