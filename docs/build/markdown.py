"""Plain text as MyST Markdown."""


def escaped(plain: str) -> str:
    """Keep Markdown from reading the plain signs of a sentence as markup."""
    return "".join(f"\\{sign}" if sign in "*_<>|[]$^" else sign for sign in plain)
