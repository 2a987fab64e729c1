"""How values show themselves in a console and in a notebook: in short, and safely whatever names a file holds."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape

# Characters of one fact: a name may be as long as the file that it comes from.
_LONGEST = 80


def printable(text: str) -> str:
    r"""Text with whatever a terminal or a spreadsheet may take for a command spelt out.

    Examples
    --------
    >>> print(printable("clears \x1b[2J, turns \u202e"))
    clears \x1b[2J, turns \u202e
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Displayed:
    """Shows a few facts in place of all the numbers that it holds."""

    def _facts(self) -> Mapping[str, object]:
        """Where it comes from and how much it holds, by name; nothing that would have to be computed."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={_short(value)}" for name, value in self._facts().items())
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align: left">{escape(name)}</th>'
            f'<td style="text-align: left">{escape(_short(value))}</td></tr>'
            for name, value in self._facts().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


def _short(value: object) -> str:
    """Text of a value without its middle where it is long; characters that cannot be printed are spelt out."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 + 3 :]}"


@contextmanager
def progress_shown() -> Iterator[Callable[[str, int, int], None]]:
    """A bar in a notebook or on a terminal; it is told a name, how many are done, and of how many."""
    from tqdm.auto import tqdm

    with tqdm(leave=False) as bar:

        def show(name: str, done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(printable(name))

        yield show
