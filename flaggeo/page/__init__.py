"""The report: one HTML file that needs neither a network nor the checkpoint."""

from .findings import findings as findings
from .report import render_report as render_report
