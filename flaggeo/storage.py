"""How results are kept on disk: all or nothing, and where an interrupted run left off."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .alignment import Profile
from .spectrum import Spectrum

TABLES = ("weights", "spaces", "continuity", "nulls", "pairs", "skipped")
RESULT_FILE = "result.json"
BASES_FILE = "bases.safetensors"
GRAPH_FILE = "graph.graphml"
REPORT_FILE = "report.html"
#: Everything that a result consists of. A folder that holds anything else is never replaced.
RESULT_NAMES = frozenset({RESULT_FILE, BASES_FILE, GRAPH_FILE, REPORT_FILE}) | {
    f"{table}.{suffix}" for table in TABLES for suffix in ("csv", "parquet")
}
COMPARISON_TABLES = ("weights", "deltas", "summary", "observables", "pairs", "skipped")
COMPARISON_FILE = "comparison.json"
COMPARISON_REPORT_FILE = "comparison.html"
#: The same for a comparison of two networks: neither kind of result replaces the other.
COMPARISON_NAMES = frozenset({COMPARISON_FILE, COMPARISON_REPORT_FILE}) | {
    f"{table}.{suffix}" for table in COMPARISON_TABLES for suffix in ("csv", "parquet")
}
# Marks a run's folder inside a scratch, so that nothing else is ever removed from there.
_RUN_PREFIX = "flaggeo-run-"
_SPECTRUM_PARTS = ("values", "left", "right", "gaps", "undetermined")
_PROFILE_PARTS = ("row_norms", "column_norms", "equalised_left", "equalised_right")


def require_replaceable(folder: Path, *, overwrite: bool, names: frozenset[str] = RESULT_NAMES) -> None:
    """Raise unless a result, which consists of files of these names, may be written at `folder`.

    Raises
    ------
    FileExistsError
        If something is there and `overwrite` is False, or it is more than a result of flaggeo.
    PermissionError
        If nothing may be written there.
    """
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"{folder}: expected a place to write to, found {existing} without permission")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder, found a file")
    found = {path.name for path in folder.iterdir()}
    if found and not overwrite:
        raise FileExistsError(f"{folder}: expected a new folder, found an existing one: choose another or overwrite it")
    if found - names:
        raise FileExistsError(
            f"{folder}: expected a result of flaggeo and nothing else to overwrite, found also "
            f"{sorted(found - names)[0]!r}: choose another folder"
        )


@contextmanager
def replaced_at_once(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends without an error."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if folder.exists():
            previous = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.rename(previous / folder.name)
            try:
                temporary.rename(folder)
            except BaseException:
                (previous / folder.name).rename(folder)
                raise
            finally:
                shutil.rmtree(previous)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


class Scratch:
    """Spectra and nulls of a run in progress, one file a tensor or role, so that an interrupted run resumes.

    Parameters
    ----------
    folder : Path
        Made when first written to.
    run : str
        Whatever determines the numbers: the checkpoint, the rank, the weights chosen, draws and seed. What
        another run left in the folder is removed.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._current = folder / f"{_RUN_PREFIX}{sha256(run.encode()).hexdigest()[:16]}"
        discard_scratch(folder, except_for=self._current)

    def recall(
        self, tensor: str, names: list[str], device: torch.device
    ) -> tuple[dict[str, Spectrum], dict[str, Profile]] | None:
        """Spectra and norm profiles of a tensor's weights, if a run that was interrupted left them."""
        file = self._file(tensor)
        if not file.is_file():
            return None
        with suppress(SafetensorError, KeyError), safe_open(file, framework="pt") as stored:
            kept = set(stored.keys())
            spectra = {name: _unpack_spectrum(name, stored, device) for name in names}
            profiles = {
                name: Profile(**_parts(name, _PROFILE_PARTS, stored, device))
                for name in names
                if f"{name}/{_PROFILE_PARTS[0]}" in kept
            }
            return spectra, profiles
        return None  # cut short while it was written

    def keep(self, tensor: str, spectra: Mapping[str, Spectrum], profiles: Mapping[str, Profile]) -> None:
        """Write the spectra of a tensor's weights, and the profiles of those that have one."""
        self._current.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, torch.Tensor] = {}
        scalars = {}
        for name, spectrum in spectra.items():
            arrays |= {f"{name}/{part}": getattr(spectrum, part) for part in _SPECTRUM_PARTS}
            scalars[name] = json.dumps([spectrum.frobenius_norm, spectrum.residual])
        for name, profile in profiles.items():
            arrays |= {f"{name}/{part}": getattr(profile, part) for part in _PROFILE_PARTS}
        contiguous = {name: array.cpu().contiguous() for name, array in arrays.items()}
        save_file(contiguous, self._file(tensor), metadata=scalars)

    def recall_nulls(self, role: str) -> pd.DataFrame | None:
        """Nulls of a role, if a run that was interrupted left them."""
        file = self._current / f"nulls-{role}.parquet"
        return pd.read_parquet(file) if file.is_file() else None

    def keep_nulls(self, role: str, table: pd.DataFrame) -> None:
        """Write the nulls of a role."""
        self._current.mkdir(parents=True, exist_ok=True)
        unfinished = self._current / "unfinished"
        table.to_parquet(unfinished, index=False)
        unfinished.replace(self._current / f"nulls-{role}.parquet")

    def _file(self, tensor: str) -> Path:
        # Hashed: the name comes from the checkpoint and may be no file name.
        return self._current / f"{sha256(tensor.encode()).hexdigest()[:32]}.safetensors"


def discard_scratch(folder: Path, *, except_for: Path | None = None) -> None:
    """Remove what runs left in a scratch folder, and the folder if nothing else is in it."""
    for run in folder.glob(f"{_RUN_PREFIX}*"):
        if run != except_for:
            shutil.rmtree(run)
    with suppress(OSError):  # missing, or not empty
        folder.rmdir()


def _unpack_spectrum(name: str, stored: safe_open, device: torch.device) -> Spectrum:
    frobenius_norm, residual = json.loads(stored.metadata()[name])
    parts = _parts(name, _SPECTRUM_PARTS, stored, device)
    return Spectrum(**parts, frobenius_norm=frobenius_norm, residual=residual)


def _parts(name: str, parts: tuple[str, ...], stored: safe_open, device: torch.device) -> dict[str, torch.Tensor]:
    return {part: stored.get_tensor(f"{name}/{part}").to(device) for part in parts}
