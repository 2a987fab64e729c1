"""What every checkpoint can do, whatever its format."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor


#: Told a name, how much of something is done, and of how much.
Progress = Callable[[str, int, int], None]

# Sums of squares of larger numbers overflow in single precision.
_LARGEST = 1e15


class CheckpointError(Exception):
    """A checkpoint that cannot be read, or whose contents are not what they claim to be.

    The message is one line that names the file, the tensor if there is one, what was expected and
    what was found.
    """


@dataclass(frozen=True)
class TensorHeader:
    """What a checkpoint says of one tensor without reading it.

    Attributes
    ----------
    name : str
        As stored.
    shape : tuple of int
        In torch's order: rows first.
    dtype : str
        As stored, in the format's own spelling (``F32``, ``BF16``, ``Q4_1`` ...).
    file : str
        Where its numbers are, for messages.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str


class Checkpoint(ABC):
    """Named tensors whose headers are known and whose numbers are read on demand.

    Attributes
    ----------
    location : str
        What was opened, for messages and provenance.
    headers : mapping of str to TensorHeader
        Every tensor, in the order of storage.
    config : mapping
        The architecture's settings under the names of a Hugging Face ``config.json``; empty where
        there are none.
    aliases : mapping of str to str
        Further names of tensors that `headers` has already, such as a tied unembedding.
    metadata : mapping of str to str
        What the format says of itself: where the numbers come from and how they were stored.
    """

    #: How the names are spelt: ``"huggingface"`` or ``"gguf"``.
    naming: ClassVar[str] = "huggingface"

    #: The dtypes, in the format's spelling, whose numbers can be had.
    readable_dtypes: ClassVar[frozenset[str]] = frozenset({"F64", "F32", "F16", "BF16"})

    #: How `fetch` begins what it tells.
    FETCHING: ClassVar[str] = "fetching"

    location: str
    headers: Mapping[str, TensorHeader]
    aliases: Mapping[str, str] = MappingProxyType({})
    config: Mapping[str, Any]
    metadata: Mapping[str, str]
    _versions: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def read(self, name: str, *, rows: slice = slice(None), device: "torch.device | str" = "cpu") -> "Tensor":
        """Numbers of one tensor, or of a block of its rows, in a floating dtype no narrower than stored.

        Parameters
        ----------
        name : str
            One of `headers`.
        rows : slice, optional
            A contiguous block of the first axis; all of it by default.
        device : torch.device or str, optional
            Where the result lies.

        Returns
        -------
        tensor : Tensor, shape=[rows, ...]
            float64, float32, float16 or bfloat16.

        Raises
        ------
        CheckpointError
            If the tensor is missing, quantised in a way that cannot be undone, cut short, or holds
            NaN, infinity or numbers above 1e15, whose sums of squares overflow in single precision.
        """
        import torch

        header = self._known(name)
        self.require_readable(name)
        tensor = self.stored(name, rows).to(device)
        if not tensor.numel():
            return tensor
        # The extremes are found in one pass without a copy, and NaN is one if it is there.
        extremes = [abs(float(extreme)) for extreme in torch.aminmax(tensor)]
        where = f"{header.file}: tensor {name!r} of shape {tuple(header.shape)}"
        if not all(map(isfinite, extremes)):
            found = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(f"{where}: expected finite numbers, found {found} NaN or infinite")
        if max(extremes) > _LARGEST:
            raise CheckpointError(f"{where}: expected numbers of at most {_LARGEST:.0e}, found {max(extremes):.0e}")
        return tensor

    def stored(self, name: str, rows: slice = slice(None)) -> "Tensor":
        """Numbers of one tensor, or of a block of its rows, in whatever dtype they are stored.

        Raises
        ------
        CheckpointError
            If the tensor is missing or cut short.
        """
        header = self._known(name)
        try:
            return self._read(name, rows)
        except CheckpointError:
            raise
        except Exception as error:  # whatever a format's library raises, it knows neither file nor tensor
            raise CheckpointError(f"{header.file}: cannot read tensor {name!r}: {reason(error)}") from error

    def _known(self, name: str) -> TensorHeader:
        if name not in self.headers:
            raise CheckpointError(
                f"{self.location}: expected a tensor {name!r}, found {len(self.headers)} others and no such name"
            )
        return self.headers[name]

    def fetch(self, names: Iterable[str], progress: Progress | None = None) -> None:  # noqa: B027
        """Bring the numbers of these tensors onto this machine, where they are not; `read` does so too, in silence.

        Parameters
        ----------
        names : iterable of str
            Of `headers`.
        progress : callable, optional
            Told what is fetched, how many of the megabytes are here, and how many there are.

        Raises
        ------
        CheckpointError
            If they cannot be had.
        """

    def stamp(self) -> list[Any]:
        """What changes when the numbers do: sizes and times of the files, in a form for JSON.

        Raises
        ------
        ValueError
            If the numbers are in no file.
        """
        files = sorted({header.file for header in self.headers.values()})
        if not all(Path(file).is_file() for file in files):
            raise ValueError("analyze can resume from a scratch only where the checkpoint is on disk.")
        return [(file, *_version(file)) for file in files]

    def remember_files(self) -> None:
        """Note the sizes and times of the files, for `require_unchanged`."""
        files = sorted({header.file for header in self.headers.values()})
        self._versions = {file: _version(file) for file in files if Path(file).is_file()}

    def require_unchanged(self) -> None:
        """Raise if a file is not what it was when the checkpoint was opened.

        Raises
        ------
        CheckpointError
            What was read may then be of two versions.
        """
        for file, version in self._versions.items():
            if not Path(file).is_file():
                raise CheckpointError(f"{file}: expected the file that was opened, found nothing at this path any more")
            if _version(file) != version:
                raise CheckpointError(f"{file}: expected the file that was opened, found one of another size or time")

    def require_readable(self, name: str) -> None:
        """Raise, from the header alone, if the numbers of a tensor cannot be had.

        Raises
        ------
        CheckpointError
            If the dtype is quantised or integer.
        """
        header = self.headers[name]
        if header.dtype not in self.readable_dtypes:
            raise CheckpointError(
                f"{header.file}: tensor {name!r}: expected one of the dtypes "
                f"{', '.join(sorted(self.readable_dtypes))}, found {header.dtype}: de-quantise the checkpoint first"
            )

    @abstractmethod
    def _read(self, name: str, rows: slice) -> "Tensor":
        """Numbers as stored; any exception is given its context by `stored`."""


def _version(file: str) -> tuple[int, int]:
    """Size and time of a file."""
    found = Path(file).stat()
    return found.st_size, found.st_mtime_ns


def reason(error: Exception) -> str:
    """What a library says of a failure, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shortened(names: Sequence[str]) -> str:
    """The first few of many names, for a message.

    Examples
    --------
    >>> shortened(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
