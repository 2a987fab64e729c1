"""Which structure a checkpoint has: by its model type, or by the names and shapes of its tensors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...checkpoint import Checkpoint, CheckpointError, Progress
from .gguf_names import ENTRY_NORM, gguf_naming
from .inference import infer
from .names import Endings, Names
from .on_the_spot import derive_on_the_spot
from .record import Naming, Norm, Piece, Record, Tower
from .shapes import Headers, explains_its_layers, explains_most, stored_the_other_way
from .table import load_records, load_table

#: What a structure is called that no table has.
INFERRED = "inferred"


#: A record, one of its namings and its names as a checkpoint has them.
_Match = tuple[Record, Naming, Names]

# Of structures that explain a checkpoint equally well, the one whose name people know.
_BEST_KNOWN = ("llama", "bert", "roberta", "gpt2", "gpt_neox", "mixtral", "t5")
# Of a model type that is not known so much is shown.
_LONGEST = 80
# Every record of the table is held against all names then, which takes milliseconds a name.
_MOST_WITHOUT_TYPE = 20_000


@dataclass(frozen=True)
class Structure:
    """What was found out about a checkpoint from its names and settings.

    Attributes
    ----------
    name : str
        The model type whose structure it is.
    towers : tuple of Tower
    naming : Naming
    names : Names
        The same as the checkpoint has them.
    known : bool
        Whether the settings name a model type of this structure: only then are norms, activation and positions known.
    remarks : tuple of str
        What was derived on the spot or guessed.
    """

    name: str
    towers: tuple[Tower, ...]
    naming: Naming
    names: Names
    known: bool
    remarks: tuple[str, ...] = ()


def read_as(family: str) -> str:
    """How the tensors of a checkpoint were understood, in words."""
    return "structure inferred from names and shapes" if family == INFERRED else f"read as {family}"


def find_structure(
    checkpoint: Checkpoint,
    model_types: Sequence[str],
    settings: Callable[[str], object],
    *,
    records: Sequence[Record] | None = None,
    progress: Progress | None = None,
) -> Structure | None:
    """The structure of a checkpoint, or None if nothing says what its names mean.

    Parameters
    ----------
    checkpoint : Checkpoint
        Only the names and shapes of its tensors are used.
    model_types : sequence of str
        As its settings say, that of the whole before that of its language model.
    settings : callable
        From the name of a setting to its value.
    records : sequence of Record, optional
        Those to choose from; by default the table, and what transformers gives for a type that it lacks.
    progress : callable, optional
        Is told where a structure has to be derived first.
    """
    table = load_records() if records is None else records
    model_type = next((name for name in model_types if _of(name, table)), next(iter(model_types), ""))
    own, origin = _of(model_type, table), ""
    if checkpoint.naming == "gguf":
        return _of_gguf(checkpoint, model_type, _fitting(own, model_type, settings))
    if not own and records is None:
        own, origin = _derived(checkpoint, model_type, progress)
    best = _best(_fitting(own, model_type, settings), checkpoint.headers, known=True)
    if best is not None:
        remarks = [origin] if origin else []
        if records is None and (unread := _unread(best[2], checkpoint)):
            best, remark = _with_own_switches(best, unread, checkpoint, model_type, settings, progress)
            remarks.append(remark)
        record, naming, names = best
        name = model_type if model_type in record.model_types else record.model_types[0]
        found = Structure(name, record.towers, naming, names, True, tuple(remarks))
        return _as_stored(found, checkpoint.headers)
    if len(checkpoint.headers) > _MOST_WITHOUT_TYPE:
        raise CheckpointError(
            f"{checkpoint.location}: expected at most {_MOST_WITHOUT_TYPE} tensors where no config.json has a known "
            f"model_type, found {len(checkpoint.headers)}"
        )
    best = _best(table, checkpoint.headers, known=False)
    if best is not None:
        record, naming, names = best
        name = _name(record)
        remark = f"{why_not_by_type(checkpoint, model_type)}: read as {name} from the tensor names"
        return _as_stored(Structure(name, record.towers, naming, names, False, (remark,)), checkpoint.headers)
    return _guessed(checkpoint, model_type)


def _as_stored(structure: Structure, headers: Headers) -> Structure:
    """The structure with its matrices the other way round, if the shapes of the checkpoint say so."""
    naming = stored_the_other_way(structure.naming, structure.names, headers)
    if naming is None:
        return structure
    remark = f"by their shapes, the matrices of its layers are stored transposed, not as {structure.name} has them"
    return replace(structure, naming=naming, names=Names(naming, headers), remarks=(*structure.remarks, remark))


def why_not_by_type(checkpoint: Checkpoint, model_type: str) -> str:
    """Why a checkpoint cannot be read by its model type."""
    records, origin = (_of(model_type, load_records()), "") if model_type else ((), "")
    if not records:
        records, origin = _derived(checkpoint, model_type)
    if not records:
        return origin
    names = f"its tensors do not have the names of model type {model_type!r}"
    return f"{origin}, and {names}" if origin else names


def _of(model_type: str, records: Iterable[Record]) -> Sequence[Record]:
    return [record for record in records if model_type in record.model_types]


def _derived(checkpoint: Checkpoint, model_type: str, progress: Progress | None = None) -> tuple[Sequence[Record], str]:
    """Records of a model type that the table lacks, and what is to be said of them."""
    if not model_type:
        return (), "no settings name the model type"
    origin, config = _not_in_table(model_type), checkpoint.config
    attempt = derive_on_the_spot(model_type, config, progress)
    text = config.get("text_config")
    inner = str(text.get("model_type") or "") if isinstance(text, Mapping) else ""
    if inner and not attempt.records:
        of_text = derive_on_the_spot(inner, config, progress)
        if of_text.records:
            return of_text.records, f"{origin}, and neither is its language model {inner!r}: {of_text.remark}"
    return attempt.records, f"{origin}, and {attempt.remark}"


def _unread(names: Names, checkpoint: Checkpoint) -> list[str]:
    """Matrices of a model, other than heads on top of it, whose names a structure does not have."""
    placed: set[str | None] = {one.tensor for one in names.placed}
    placed |= {names.find(one.part.after, one.numbers) for one in names.placed if isinstance(one.part, Piece)}
    return [
        name
        for name, header in checkpoint.headers.items()
        if len(header.shape) > 1 and name not in placed and not name.endswith("bias")
        if names.is_in_layers(name) or names.is_inside(name)
        if not names.is_elsewhere(name)
    ]


def _with_own_switches(
    best: _Match,
    unread: Sequence[str],
    checkpoint: Checkpoint,
    model_type: str,
    settings: Callable[[str], object],
    progress: Progress | None,
) -> tuple[_Match, str]:
    """A structure that has all names, derived with what the settings switch on or off; or what is to be said."""
    count = f"{len(unread)} matrices" if len(unread) > 1 else "a matrix"
    remark = f"{count} left unread, {unread[0]!r} first: the structure of {model_type} does not have such names"
    usual = load_table().switches.get(model_type, {})
    found = {name: settings(name) for name in usual}
    own = [name for name, value in found.items() if isinstance(value, bool) and value is not usual[name]]
    if not own:
        return best, remark
    attempt = derive_on_the_spot(model_type, checkpoint.config, progress)
    better = _best(attempt.records, checkpoint.headers, known=True)
    said = ", ".join(f"{name} = {str(found[name]).lower()}" for name in own)
    if better is not None and len(_unread(better[2], checkpoint)) < len(unread):
        return better, f"the table does not have {model_type} with {said}: {attempt.remark}"
    return best, f"{remark}; its settings say {said}" + ("" if attempt.records else f", and {attempt.remark}")


def _fitting(records: Iterable[Record], model_type: str, settings: Callable[[str], object]) -> list[Record]:
    """Of the records of a model type those that its settings give it, or where they say nothing its usual ones."""
    usual = load_table().switches.get(model_type, {})

    def value(name: str) -> object:
        found = settings(name)
        return usual.get(name) if found is None else found

    return [record for record in records if all(value(name) == own for name, own in record.settings.items())]


def _not_in_table(model_type: str) -> str:
    return f"model type {model_type[:_LONGEST]!r} is not in the table"


def _guessed(checkpoint: Checkpoint, model_type: str) -> Structure | None:
    """A structure that no table has, from names and shapes."""
    guess = infer({name: header.shape for name, header in checkpoint.headers.items()})
    if guess is None:
        return None
    names = Names(guess.naming, checkpoint.headers, as_written=True)
    towers = tuple(
        Tower(name, heads="num_attention_heads", key_value_heads="num_key_value_heads") for name in guess.towers
    )
    remarks = (
        f"{why_not_by_type(checkpoint, model_type)}; its tensors have the names of no known model",
        *guess.remarks,
    )
    return Structure(INFERRED, towers, guess.naming, names, False, remarks)


def _name(record: Record) -> str:
    return next((name for name in _BEST_KNOWN if name in record.model_types), record.model_types[0])


def _best(records: Iterable[Record], headers: Headers, *, known: bool) -> _Match | None:
    """The record and naming that explain most weights and norms; of equals the best known, then what explains most.

    A weight of a layer has to be there: names such as ``lm_head`` are in many structures. Where the model type is
    known, what explains most tensors is best: only its other structures are held against it. Where it is not, names
    alone are a weak witness, and a structure that knows only some of the matrices of a layer is another one.
    """
    best, most = None, (0, 0, 0, False, 0, 0)
    endings = Endings(headers)
    for record in records:
        for naming in (record.saved, record.live):
            if naming is None:
                continue
            names = Names(naming, endings)
            weights = {one.tensor for one in names.placed if isinstance(one.part, Piece)}
            norms = {one.tensor for one in names.placed if isinstance(one.part, Norm)}
            placed = {one.tensor for one in names.placed}
            well_known = not {*_BEST_KNOWN}.isdisjoint(record.model_types)
            explained = len(placed) if known else 0
            score = (explained, len(weights), len(norms), well_known, len(placed), -len(naming.pieces))
            inside = any(one.numbers for one in names.placed if one.tensor in weights)
            if not inside or score <= most:
                continue
            if known or (explains_most(names, headers) and explains_its_layers(names, headers)):
                best, most = (record, naming, names), score
    return best


def _of_gguf(checkpoint: Checkpoint, model_type: str, own: list[Record]) -> Structure | None:
    """A GGUF file has names of its own, whatever the architecture, and the norms and positions of the model type."""
    tower, kind = _language_tower(own[0]) if own else (Tower(key_value_heads="num_key_value_heads"), "rms")
    on_stream = any("attn_output_norm" in name for name in checkpoint.headers)
    naming = gguf_naming(on_stream=on_stream, kind=kind)
    names = Names(naming, checkpoint.headers)
    if not any(isinstance(one.part, Piece) for one in names.placed):
        return None
    tower = replace(
        tower,
        name="",
        heads="num_attention_heads",
        key_value_heads=tower.key_value_heads and "num_key_value_heads",
        head_width=None,
        depth="num_hidden_layers",
        entry_norm=ENTRY_NORM,
    )
    origin = _not_in_table(model_type) if model_type else "no settings name the model type"
    remarks = () if own else (f"{origin}: read by the names that all GGUF files have",)
    return Structure(model_type or "gguf", (tower,), naming, names, bool(own), remarks)


def _language_tower(record: Record) -> tuple[Tower, str]:
    """The tower that reads the vocabulary, and the kind of its norms."""
    pieces = record.saved.pieces
    name = next((piece.tower for piece in pieces if piece.role == "embed"), record.towers[0].name)
    beside = {piece.norm for piece in pieces if piece.tower == name}
    kinds = [norm.kind for norm in record.saved.norms if norm.tensor in beside]
    tower = next((tower for tower in record.towers if tower.name == name), record.towers[0])
    return tower, kinds[0] if kinds else "rms"
