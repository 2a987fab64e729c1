"""What should be in a tower by its other layers and by the settings, and what is said or raised where it is not."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice

from ...checkpoint import CheckpointError, shortened
from ..families.names import Placed, words_in
from ..roles import COMPOSED, ROLE_RECORDS, ROLES, BlockKind, in_tower
from ..spaces import SpaceKind
from .tower_tensors import WIDTHS, Place, TowerTensors

# Of layers that are missing so many are named.
_SHOWN = 4
# Settings by which layers lack keys or values, which they have in common with other layers or with each other.
_SHARING = ("num_kv_shared_layers", "attention_k_eq_v")
# Settings that give the width of hidden layers.
_HIDDEN_WIDTHS = ("intermediate_size", "ffn_dim", "d_ff", "n_inner")
# Model types whose code makes another width of the setting, or none.
_OTHER_HIDDEN_WIDTHS = frozenset({"lfm2", "lfm2_moe", "tipsv2"})


def require_whole_blocks(tensors: TowerTensors) -> None:
    """A block that has all tensors but one of those that it has in other layers is damaged.

    One that lacks several may be so by design, as where layers share keys and values.
    """
    if any(tensors.settings(name) for name in _SHARING):
        return
    blocks: dict[tuple[int, BlockKind, int | None], dict[str, Placed]] = {}
    usual: dict[BlockKind, dict[str, set[str]]] = {}
    for place, one in tensors.at.items():
        (layer, role, expert), record, template = place, tensors.role(place), tensors.piece(place).tensor
        if layer is not None and (record.heads or record.inner is SpaceKind.HIDDEN):
            blocks.setdefault((layer, record.block, expert), {})[role] = one
            usual.setdefault(record.block, {}).setdefault(template, set()).add(role)
    for (layer, kind, _), members in blocks.items():
        # A role may have its rows in another tensor here.
        missing = [template for template, roles in usual[kind].items() if roles.isdisjoint(members)]
        if len(missing) == 1:
            name = tensors.structure.names.name(missing[0], next(iter(members.values())).numbers)
            there = shortened(list(dict.fromkeys(one.tensor for one in members.values())))
            raise CheckpointError(
                f"{tensors.checkpoint.location}: tensor {name!r}: expected in layer {layer} beside {there}, "
                "as in other layers, found none"
            )


def require_declared_depth(tensors: TowerTensors) -> None:
    """The settings say how many layers there are, or the highest number does."""
    setting = tensors.tower.depth or (None if tensors.structure.known else "num_hidden_layers")
    setting = setting if tensors.is_described else None
    declared = tensors.settings.count(setting, tensors.numbers.get("stage", 0)) if setting else None
    # A layer may be there without weights of its tower: it leads from one stage to the next.
    templates = [piece.tensor for piece in tensors.pieces if "layer" in words_in(piece.tensor)]
    there = {
        layer
        for layer in range(len(tensors.layers) + 1)
        if any(tensors.structure.names.find(template, {**tensors.numbers, "layer": layer}) for template in templates)
    }.union(tensors.layers)
    found = len(there)
    expected = declared or max(there, default=0) + 1
    missing = (number for number in range(expected) if number not in there)
    first = [str(number) for number in islice(missing, _SHOWN)]
    if not first and found <= expected:
        return
    said = f"{expected} layers ({setting} of the settings)" if declared else f"layers 0 to {expected - 1}"
    more = expected - sum(number < expected for number in there) - len(first)
    which = ", ".join(first) + (f" and {more} more" if more else "")
    lacking = f": layer{'s' if len(first) > 1 else ''} {which} missing" if first else ""
    where = f" in {tensors.label}" if tensors.label else ""
    raise CheckpointError(f"{tensors.checkpoint.location}: expected {said}{where}, found {found}{lacking}")


def require_declared_widths(tensors: TowerTensors) -> list[str]:
    """The settings give the widths of the stream and of hidden layers, and how many words the embedding has.

    Returns
    -------
    remarks : list of str
        Tables that have more rows than there are words.
    """
    if tensors.numbers or not tensors.is_described:  # the settings are of the last stage, or of another tower
        return []
    section, remarks = (tensors.tower.depth or tensors.tower.heads or "").rpartition(".")[0], []
    for place in tensors.at:
        layer, role, expert = place
        if layer is not None and expert is None and (declared := tensors.settings.size(section, WIDTHS, layer)):
            if not tensors.piece(place).reads_tower:
                setting, width = declared
                tensors.require(place, "a stream width", width, tensors.facing(place), f"{setting} of the settings")
            if role == "up":
                _require_declared_hidden_width(tensors, place, section)
        if role == "embed" and tensors.is_lookup(place):
            remarks += _require_declared_words(tensors, place, section)
    return remarks


def _require_declared_hidden_width(tensors: TowerTensors, place: Place, section: str) -> None:
    names = (*_HIDDEN_WIDTHS, f"{tensors.label}_ffn_dim")
    declared = tensors.settings.size(section, names, place[0] or 0)
    model_types = {tensors.structure.name, *tensors.settings.model_types}
    if declared is None or not _OTHER_HIDDEN_WIDTHS.isdisjoint(model_types):
        return
    # Gates may stand in the same tensor, and other hidden layers may be those that the setting means.
    if declared[1] not in {size for one in tensors.at for size in tensors.shape(one)}:
        found = tensors.inner_width(place, {})
        tensors.require(place, "a hidden width", declared[1], found, f"{declared[0]} of the settings")


def _require_declared_words(tensors: TowerTensors, place: Place, section: str) -> list[str]:
    declared, (rows, _) = tensors.settings.size(section, ("vocab_size",), 0), tensors.matrix(place)
    if declared is None or rows == declared[1]:
        return []
    setting, words = declared
    if rows < words:
        tensors.require(place, "a height", words, rows, f"{setting} of the settings")
    name = tensors.at[place].tensor
    return [f"{name} has {rows} rows for the {words} words of the settings: others may be padding"]


def absent_roles(tensors: TowerTensors) -> Iterator[str]:
    """Weights may be absent by design, or because their names are not known: readers of the numbers should know."""
    roles: dict[int, set[str]] = {layer: set() for layer in tensors.layers}
    for place in tensors.at:
        if place[0] is not None:
            roles[place[0]].add(tensors.piece(place).role)
    blocks = {layer: {ROLE_RECORDS[role].block for role in there} for layer, there in roles.items()}
    present = [role for role in ROLES if any(role in there for there in roles.values())]
    lacking: dict[tuple[int, ...], list[str]] = {}
    for role in present:
        partners = [one if other == role else other for one, other in COMPOSED if role in (one, other)]
        if partners and not set(present) & set(partners):
            yield f"no layer has {' or '.join(partners)}, with which {role} composes"
        of_block = [layer for layer in tensors.layers if ROLE_RECORDS[role].block in blocks[layer]]
        without = tuple(layer for layer in of_block if role not in roles[layer])
        if without:
            lacking.setdefault(without, []).append(in_tower(tensors.label, role))
    if len(set(map(frozenset, blocks.values()))) > 1:
        yield in_tower(tensors.label, f"layers are of several kinds: {_kinds(blocks)}")
    for layers, names in lacking.items():
        have = "has" if len(layers) == 1 else "have"
        yield f"{_spelt(layers)} {have} no {', '.join(names)}, which other layers have"


def _kinds(blocks: Mapping[int, set[BlockKind]]) -> str:
    """Layers with the same blocks together: ``layers 0-2: mixer, mlp; layer 3: attention, mlp``."""
    alike: dict[tuple[BlockKind, ...], list[int]] = {}
    for layer, there in blocks.items():
        alike.setdefault(tuple(kind for kind in BlockKind if kind in there), []).append(layer)
    return "; ".join(f"{_spelt(layers)}: {', '.join(kind.value for kind in kinds)}" for kinds, layers in alike.items())


def _spelt(layers: Sequence[int]) -> str:
    """Ascending numbers of layers, those one after the other as a range: ``layers 0-2, 4``."""
    runs = [[*run] for _, run in groupby(enumerate(layers), lambda item: item[1] - item[0])]
    spelt = [f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else f"{run[0][1]}" for run in runs]
    return f"layer{'s' * (len(layers) > 1)} {', '.join(spelt)}"
