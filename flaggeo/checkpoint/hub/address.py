"""What names a repository on the Hub, as it is written in place of a path."""

import re
from dataclasses import dataclass

_NAME = r"[A-Za-z0-9](?:[\w-]|\.(?!\.))*"
_FILE = r"[\w-](?:[^@.]|\.(?!\.))*\.(?:safetensors|gguf)"
_ADDRESS = re.compile(rf"(?P<repository>{_NAME}/{_NAME})(?:/(?P<file>{_FILE}))?(?:@(?P<revision>\w[\w./-]*))?")
# A path to such a file is rather misspelt than the name of a repository.
_SUFFIXES = (".safetensors", ".gguf", ".json", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".h5", ".onnx")


@dataclass(frozen=True)
class Address:
    """A repository, or one file in it.

    Attributes
    ----------
    repository : str
        ``organisation/name``.
    revision : str or None
        A branch, a tag or a commit; None for the default branch.
    file : str or None
        Its path in the repository.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return self.repository + file + (f"@{self.revision}" if self.revision else "")


def address_in(text: str) -> Address | None:
    """The address that a text may be, or None.

    Examples
    --------
    >>> address_in("org/name@main")
    Address(repository='org/name', revision='main', file=None)
    >>> address_in("org/name/small.gguf")
    Address(repository='org/name', revision=None, file='small.gguf')
    >>> address_in("folder/model.safetensors")
    >>> address_in("/org/name")
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or found["repository"].endswith(_SUFFIXES):
        return None
    return Address(found["repository"], found["revision"], found["file"])
