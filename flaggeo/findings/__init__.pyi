from .analysis import findings as findings
from .cards import Card as Card
from .cards import cards as cards
from .comparison import SAME_ANGLE as SAME_ANGLE
from .comparison import comparison_findings as comparison_findings
from .finding import Finding as Finding
from .graph import graph_findings as graph_findings
from .trace import trace_findings as trace_findings
