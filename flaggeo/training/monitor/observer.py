"""What a monitor keeps from record to record: the leading directions of the last one and of the reference."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ...alignment import interfaces_of
from ...numerics.following import followed_spectrum
from ...numerics.spectrum import Spectrum
from ...settings import Settings
from .balance import interface_rows, is_watched
from .measuring import continuity_rows, drift_rows, ends_of, layer_pairs, pair_rows, weight_rows
from .records import SCHEMAS
from .reference import Moment, moment_of
from .subject import GRADIENT, UPDATE, Subject, beside

_SEED = 0


class Observer:
    """Measures a module again and again; what it keeps does not grow.

    Parameters
    ----------
    subject : Subject
    settings : Settings
    updates, gradients : bool
        Whether these are measured beside the weights.
    pairs : sequence of (str, str)
        Subspaces whose overlap is measured.
    reference : int
        Drift is measured from the first step at or after this one.

    Attributes
    ----------
    first : dict of str to Moment
        Each weight at the reference step, or at its first measurement after it.
    lacks_gradients : bool
        Whether gradients were asked for and none was there the last time.

    Raises
    ------
    ValueError
        If a pair names what is not there, or subspaces of two spaces.
    """

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        *,
        updates: bool,
        gradients: bool,
        pairs: Sequence[tuple[str, str]],
        reference: int,
    ) -> None:
        self._subject, self._rank, self._reference_step = subject, settings.rank, reference
        self._updates, self._gradients = updates, gradients
        self._weights = list(subject.weights)
        for tower, asked in ((UPDATE, updates), (GRADIENT, gradients)):
            self._weights += [beside(weight, tower) for weight in subject.weights if asked]
        self._layer_pairs = layer_pairs(self._weights, folded=settings.fold_norms)
        self._interfaces = [one for one in interfaces_of(subject.weights) if is_watched(one)]
        self._ends = dict(ends_of(self._weights))
        self._pairs = [self._checked(*pair) for pair in pairs]
        self._generator = torch.Generator().manual_seed(_SEED)
        self._starts: dict[str, Tensor] = {}
        self.first: dict[str, Moment] = {}
        self._previous: dict[str, Moment] = {}
        self.lacks_gradients = False

    @torch.no_grad()
    def measure(self, step: int) -> dict[str, pd.DataFrame]:
        """Tables of the record of a step: the module as it is now."""
        spectra, matrices = dict[str, Spectrum](), dict[str, Tensor]()
        composed = {weight.name for one in self._interfaces for weight in (*one.first, *one.second)}
        subject = self._subject
        for weight, matrix in chain(
            subject.matrices(),
            subject.updates() if self._updates else (),
            subject.gradients() if self._gradients else (),
        ):
            start = self._starts.get(weight.name)
            start = None if start is None else start.to(matrix.device)
            found, self._starts[weight.name] = followed_spectrum(matrix, self._rank, start, self._generator)
            spectra[weight.name] = _on_cpu(found)
            if weight.name in composed:
                matrices[weight.name] = matrix
        weights = subject.weights
        moments = {one.name: moment_of(spectra[one.name], step) for one in weights if one.name in spectra}
        if step >= self._reference_step:
            self.first = moments | self.first
        rows: dict[str, list[dict[str, Any]]] = {
            "continuity": continuity_rows(self._layer_pairs, spectra),
            "drift": drift_rows(weights, moments, "first", self.first)
            + drift_rows(weights, moments, "previous", self._previous),
            "weights": weight_rows(self._weights, spectra),
            "interfaces": interface_rows(self._interfaces, spectra, matrices),
            "pairs": pair_rows(self._pairs, self._ends, spectra),
        }
        self._previous = moments
        if self._updates:
            subject.remember()
        self.lacks_gradients = self._gradients and not any(name.startswith(f"{GRADIENT}.") for name in spectra)
        return {name: schema.frame(rows[name]) for name, schema in SCHEMAS.items()}

    def _checked(self, source: str, target: str) -> tuple[str, str]:
        for name in (source, target):
            if name not in self._ends:
                known = ", ".join(list(self._ends)[:3])
                raise ValueError(f"pairs: expected sides of weights that are watched, such as {known}; got {name!r}")
        spaces = [weight.space(side) for weight, side in (self._ends[source], self._ends[target])]
        if spaces[0] != spaces[1]:
            names = " and ".join(space.name for space in spaces)
            raise ValueError(f"pairs: expected two sides in one space; got {source} and {target}, which lie in {names}")
        return source, target


def _on_cpu(spectrum: Spectrum) -> Spectrum:
    """Frames are thin, and layers may lie on several devices, or move to another one."""
    tensors = {field.name: getattr(spectrum, field.name) for field in fields(spectrum)}
    moved: dict[str, Any] = {name: one.cpu() for name, one in tensors.items() if isinstance(one, Tensor)}
    return replace(spectrum, **moved)
