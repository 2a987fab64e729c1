"""Texts that Python ships, for a language model to read."""

from collections.abc import Callable, Mapping

from ...training.tasks import library_source

# About as much as the documentation has.
_SOURCE_BYTES = 500_000


def documentation() -> str:
    """The language reference as `help` shows it, by topic."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def source() -> str:
    """Source of the standard library."""
    return library_source(_SOURCE_BYTES).decode(errors="replace")


#: By name.
TEXTS: Mapping[str, Callable[[], str]] = {"documentation": documentation, "source": source}
