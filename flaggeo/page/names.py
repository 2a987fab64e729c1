"""Names of weights and subspaces in what the page says: short, and a button that selects what they stand for."""

import re
from typing import Any

from markupsafe import Markup, escape

from ..findings.words import short_name

# A weight of a layer, a head of one, or an end of either; a table only with its end, since the word has other uses.
# No part of a longer name: a tensor of a checkpoint is not meant.
_NAME = re.compile(
    r"(?<![\w.])(?:[A-Za-z_]\w*\.)*?"
    r"(?:layers\.\d+\.\w+(?::\w+)?(?:\.heads\.\d+)?(?:\.(?:read|write))?|(?:un)?embed\.(?:read|write))"
    r"(?![.:]?\w)"
)


def with_names(text: Any) -> Markup:
    """A text, escaped, with a button for each name in it.

    Examples
    --------
    >>> with_names("layers.18.o.heads.6.write reads <b>.")
    Markup('<button class="name" data-name="layers.18.o.heads.6.write">L18H6.o</button> reads &lt;b&gt;.')
    """
    return Markup(_NAME.sub(_button, str(escape(text))))


def _button(name: re.Match[str]) -> str:
    return f'<button class="name" data-name="{name[0]}">{short_name(name[0])}</button>'
