"""Recognises the structure of a checkpoint, and reads it tower by tower."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ...checkpoint import Checkpoint, CheckpointError, Progress
from ..families.lookup import Structure, find_structure, why_not_by_type
from ..families.names import Numbers, Placed, words_in
from ..families.record import Piece, Record, Tower
from ..quiver import Network, Weight
from ..roles import BlockKind, roles_in
from .settings_by_name import SettingsByName
from .skipped_tensors import skipped_tensors
from .tower import TowerReader
from .tower_tensors import TowerTensors, mismatch, piece_of


class UnknownArchitectureError(CheckpointError):
    """The names of the tensors are those of no known structure."""


def read_network(
    checkpoint: Checkpoint, *, records: Sequence[Record] | None = None, progress: Progress | None = None
) -> Network:
    """Recognise the structure and build the quiver from names, shapes and settings.

    Parameters
    ----------
    checkpoint : Checkpoint
        Only its headers are used.
    records : sequence of Record, optional
        Structures that it may have; by default those of the table, and what transformers gives for a type it lacks.
    progress : callable, optional
        Is told where the structure has to be derived from the code of transformers, which takes some ten seconds.

    Returns
    -------
    network : Network
        Weights in order of depth by layer number, whatever their order in the file.

    Raises
    ------
    UnknownArchitectureError
        If the names are those of no known structure.
    CheckpointError
        If shapes disagree with each other or with the settings, a layer is missing, a norm has not as many
        gains as there are coordinates, or a weight is stored in a quantised dtype that cannot be undone.
    """
    settings = SettingsByName(checkpoint)
    structure = find_structure(checkpoint, settings.model_types, settings, records=records, progress=progress)
    if structure is None:
        raise _unknown(checkpoint, next(iter(settings.model_types), ""))
    towers = _towers(checkpoint, structure, settings)
    streams = {tower.label: tower.stream for tower in towers}
    weights = tuple(weight for tower in towers for weight in tower.weights(streams))
    for weight in weights:
        checkpoint.require_readable(weight.tensor)
    _require_spaces(checkpoint, weights)
    remarks = [*structure.remarks, *(remark for tower in towers for remark in tower.remarks), *_shared_tables(towers)]
    reasons = {tensor: reason for tower in towers for tensor, reason in tower.tensors.reasons.items()}
    skipped = tuple(skipped_tensors(checkpoint, structure, weights, reasons))
    return Network(structure.name, checkpoint, weights, skipped, tuple(dict.fromkeys(remarks)), structure)


def _require_spaces(checkpoint: Checkpoint, weights: Iterable[Weight]) -> None:
    """Weights that meet in a space are equally wide there."""
    known: dict[str, int] = {}
    for weight in weights:
        # Embedding and unembedding may count different words.
        for space in (weight.source, weight.target) if weight.layer is not None else ():
            expected = known.setdefault(space.name, space.dim)
            if expected != space.dim:
                what = f"a width of {expected} in {space.name}"
                raise mismatch(checkpoint, weight.tensor, what, f"{space.dim}")


def _unknown(checkpoint: Checkpoint, model_type: str) -> UnknownArchitectureError:
    names = list(checkpoint.headers)
    if not names:
        return UnknownArchitectureError(f"{checkpoint.location}: expected tensors, found none")
    return UnknownArchitectureError(
        f"{checkpoint.location}: expected tensor names of a known architecture, found {len(names)} tensors, "
        f"{names[0]!r} first: {why_not_by_type(checkpoint, model_type)}; name a model type that has them in a "
        "config.json beside them, or load the module in Python with flaggeo.load(module, example=input)"
    )


def _towers(checkpoint: Checkpoint, structure: Structure, settings: SettingsByName) -> list[TowerReader]:
    """Towers in order of depth."""
    order = {tower.name: place for place, tower in enumerate(structure.towers)}
    known = {tower.name: tower for tower in structure.towers}
    placed: dict[str, list[Placed]] = {}
    for one in (*structure.names.placed, *_under_second_names(checkpoint, structure)):
        if isinstance(one.part, Piece):
            placed.setdefault(one.part.tower.format(**one.numbers), []).append(one)
    found: list[tuple[Tower, str, Numbers]] = []
    for label, members in placed.items():
        # A table names the stage that it belongs to; the tower itself has a place for its number.
        first = next((one for one in members if piece_of(one).tower in known), members[0])
        name = piece_of(first).tower
        numbers = {word: first.numbers[word] for word in words_in(name)}
        tower = known.get(name, Tower(name))
        # The first stage alone begins with the norm that stands before all.
        found.append((replace(tower, entry_norm=None) if numbers.get("stage") else tower, label, numbers))
    found.sort(key=lambda one: (order.get(one[0].name, len(order)), tuple(one[2].values()), one[1]))
    return [
        TowerReader(TowerTensors(checkpoint, structure, settings, *one, placed[one[1]]), before)
        for before, one in enumerate(found)
    ]


def _under_second_names(checkpoint: Checkpoint, structure: Structure) -> Iterator[Placed]:
    """Weights that have their part under a second name alone: an embedding behind its tied unembedding."""
    unembeddings = roles_in(BlockKind.UNEMBEDDING)
    placed = [one for one in structure.names.placed if isinstance(one.part, Piece)]
    has_a_part = {one.tensor for one in placed if piece_of(one).role not in unembeddings}
    for name, first in checkpoint.aliases.items():
        if first not in has_a_part:
            for one in structure.names.place(name):
                if isinstance(one.part, Piece) and one.part.role not in unembeddings:
                    yield replace(one, tensor=first)


def _shared_tables(towers: Iterable[TowerReader]) -> Iterator[str]:
    """Towers without an embedding of their own that read that of another one."""
    embeddings = {tower.tensors.tower.name: tower.embedding for tower in towers}
    for tower in towers:
        shared = embeddings.get(tower.tensors.tower.embedding_of or "")
        if tower.embedding is None and shared is not None:
            yield f"{tower.label} reads the embedding {shared} too: both towers share the one table"
