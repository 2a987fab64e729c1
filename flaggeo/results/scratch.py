"""What a run in progress has so far, so that an interrupted one goes on from there."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..alignment import NULL_SCHEMA, Nulls, Profile, ProjectionHeads
from ..engine import LayerResult
from ..numerics.spectrum import Spectrum
from .storage import replace_file

_Kept = TypeVar("_Kept")

# Marks a run's folder inside a scratch, so that nothing else is ever removed from there.
_RUN_PREFIX = "flaggeo-run-"
#: Remark of a run that found what another one had left in its scratch.
STARTED_AFRESH = "what an interrupted run of another checkpoint, other settings or versions had left was not used"
#: Remark of a run that could not use all of what an interrupted one had left.
MEASURED_AGAIN = "some of what an interrupted run had left was damaged and was measured again"
_SPECTRUM_PARTS = ("known_values", "left", "right", "gaps", "undetermined", "row_norms", "column_norms")
_SPECTRUM_SCALARS = ("frobenius_norm", "residual")
_SPECTRA = ("spectra", "refolded")
_PROFILE_PARTS = ("row_norms", "column_norms", "equalised_left", "equalised_right")
_HEAD_PARTS = ("frames", "factors")
_HEAD_FIELDS = ("layer", "role", "stream", "has_latent")
_LEVERAGES = ("leverages", "whole_head_leverages")


class Scratch:
    """What a run in progress has so far, one file a layer or role, so that an interrupted run resumes.

    Parameters
    ----------
    folder : Path
        Made when first written to.
    run : str
        Whatever determines the numbers: the checkpoint and how it is read, the settings, the kind of device, versions.
        What another run left in the folder is removed.

    Attributes
    ----------
    has_replaced_another : bool
        Whether there was something to remove.
    has_damaged : bool
        Whether something that was to be recalled could not be.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._current = folder / f"{_RUN_PREFIX}{sha256(run.encode()).hexdigest()[:16]}"
        self.has_replaced_another = any(run != self._current for run in folder.glob(f"{_RUN_PREFIX}*"))
        discard_scratch(folder, except_for=self._current)
        self.has_damaged = self._current.is_symlink() or self._current.is_file()
        if self.has_damaged:  # no run made it, and through a link anything would be written to
            self._current.unlink()

    def recall_layer(self, layer: str, device: torch.device) -> LayerResult | None:
        """What was kept of a layer, if a run that was interrupted left it."""
        return self._recalled(f"layer {layer}", device, _layer_result)

    def keep_layer(self, layer: str, result: LayerResult) -> None:
        """Write what is kept of a layer; its Gram matrices, which are large, can be formed again."""
        kinds: dict[str, tuple[Mapping[str, object], tuple[str, ...]]] = {
            "spectra": (result.spectra, _SPECTRUM_PARTS),
            "refolded": (result.refolded, _SPECTRUM_PARTS),
            "profiles": (result.profiles, _PROFILE_PARTS),
            "heads": ({heads.role: heads for heads in result.heads}, _HEAD_PARTS),
        }
        tensors = {
            f"{kind}/{name}/{part}": getattr(one, part)
            for kind, (measured, parts) in kinds.items()
            for name, one in measured.items()
            for part in parts
        }
        plain = {
            **{
                kind: {
                    name: {scalar: getattr(spectrum, scalar) for scalar in _SPECTRUM_SCALARS}
                    for name, spectrum in getattr(result, kind).items()
                }
                for kind in _SPECTRA
            },
            "profiles": list(result.profiles),
            "heads": [{field: getattr(heads, field) for field in _HEAD_FIELDS} for heads in result.heads],
            "interfaces": result.interfaces,
            "gram_cosines": result.gram_cosines,
            "rounding_errors": dict(result.rounding_errors),
            "failed": dict(result.failed),
        }
        self._save(f"layer {layer}", tensors, plain)

    def recall_nulls(self, role: str, device: torch.device) -> Nulls | None:
        """Nulls of a role, if a run that was interrupted left them."""
        return self._recalled(f"nulls {role}", device, _nulls)

    def keep_nulls(self, role: str, nulls: Nulls) -> None:
        """Write the nulls of a role."""
        tensors = {f"{kind}/{name}": found for kind in _LEVERAGES for name, found in getattr(nulls, kind).items()}
        self._save(f"nulls {role}", tensors, nulls.table.to_dict("records"))

    def _save(self, name: str, tensors: Mapping[str, Tensor], plain: Any) -> None:
        """Write tensors, and whatever JSON can hold, at once."""
        contiguous = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
        content = json.dumps(plain).encode() + b"\n" + save(contiguous)
        replace_file(self._file(name), _digest(name, content) + b"\n" + content)

    def _recalled(
        self, name: str, device: torch.device, build: Callable[[dict[str, Tensor], Any], _Kept]
    ) -> _Kept | None:
        file = self._file(name)
        if not file.exists():
            return None
        try:
            digest, _, content = (file.read_bytes() if file.is_file() else b"").partition(b"\n")
            if digest != _digest(name, content):
                raise ValueError("not what was kept")
            plain, _, stored = content.partition(b"\n")
            # Copied: a tensor of a file may begin anywhere in a cache line, which changes last bits of products.
            tensors = {key: tensor.clone().to(device) for key, tensor in load(stored).items()}
            return build(tensors, json.loads(plain))
        except Exception:  # whatever a damaged or foreign file makes of itself
            self.has_damaged = True
            _remove(file)
            return None

    def _file(self, name: str) -> Path:
        # Hashed: the name comes from the checkpoint and may be no file name.
        return self._current / f"{sha256(name.encode()).hexdigest()[:32]}.kept"


def discard_scratch(folder: Path, *, except_for: Path | None = None) -> None:
    """Remove what runs left in a scratch folder, and the folder if nothing else is in it."""
    for run in folder.glob(f"{_RUN_PREFIX}*"):
        if run != except_for:
            _remove(run)
    with suppress(OSError):  # missing, or not empty
        folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _digest(name: str, content: bytes) -> bytes:
    """Of what is kept under a name, so that no damage and no exchange of files passes for what was measured."""
    return sha256(name.encode() + b"\n" + content).hexdigest().encode()


def _layer_result(tensors: Mapping[str, Tensor], plain: Any) -> LayerResult:
    spectra, refolded = (
        {
            name: Spectrum(**_parts(tensors, f"{kind}/{name}", _SPECTRUM_PARTS), **scalars)
            for name, scalars in plain[kind].items()
        }
        for kind in _SPECTRA
    )
    profiles = {name: Profile(**_parts(tensors, f"profiles/{name}", _PROFILE_PARTS)) for name in plain["profiles"]}
    heads = [
        ProjectionHeads(**fields, **_parts(tensors, f"heads/{fields['role']}", _HEAD_PARTS))
        for fields in plain["heads"]
    ]
    rows = {name: plain[name] for name in ("interfaces", "gram_cosines", "rounding_errors", "failed")}
    return LayerResult(spectra, profiles, heads, **rows, refolded=refolded)


def _nulls(tensors: Mapping[str, Tensor], rows: Any) -> Nulls:
    return Nulls(NULL_SCHEMA.frame(rows), *(_under(tensors, kind) for kind in _LEVERAGES))


def _parts(tensors: Mapping[str, Tensor], name: str, parts: tuple[str, ...]) -> dict[str, Any]:
    return {part: tensors[f"{name}/{part}"] for part in parts}


def _under(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Tensors of one kind, by their own name."""
    return {key.removeprefix(f"{kind}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{kind}/")}
