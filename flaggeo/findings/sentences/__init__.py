"""The sentences. One function a kind of finding, named like it; it takes the verdict and the numbers.

Each sentence gives the answer first, then the number beside its baseline, then the detail.
"""

from collections.abc import Callable, Mapping
from inspect import isfunction

from . import analysis, comparison, continuity, graph, trace

#: The function of each kind.
SENTENCES: Mapping[str, Callable[..., str]] = {
    name: function
    for subject in (continuity, analysis, graph, comparison, trace)
    for name, function in vars(subject).items()
    if isfunction(function) and function.__module__ == subject.__name__ and not name.startswith("_")
}
