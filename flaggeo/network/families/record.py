"""What is known of a structure that several model types share: which tensors are its weights, and how they are cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Kinds of norms: of the root mean square, and with the mean subtracted before. One without gains is called so.
NORM_KINDS = ("rms", "layer")


@dataclass(frozen=True)
class Cut:
    """Which rows of a matrix belong to one role, where several share a tensor.

    The rows are blocks one after the other, and in each block the segments of `order` follow one another. A segment
    has the rows of one role: its heads divided among the blocks, or an equal share where it has none.

    Attributes
    ----------
    groups : str
        Number of blocks: a number, ``heads``, ``key_value_heads``, or ``rows`` for one row of each role in a block.
    order : tuple of str
        Roles of the segments; empty for rows of no weight.
    widths : tuple of str
        Settings that give the rows of one head in each segment, where these differ.
    """

    groups: str
    order: tuple[str, ...]
    widths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """One weight of a layer, or one table, as a tensor stores it.

    Attributes
    ----------
    tensor : str
        Name with ``{layer}``, ``{expert}`` and further ``{numbers}`` in their places.
    role : str
        One of `ROLES`.
    tower : str
        Whose stream it faces; empty where the network has one. May hold numbers of the name: ``stages.{stage}``.
    reads_tower : str or None
        Whose stream it reads instead: the keys and values of cross-attention.
    transposed : bool
        Stored (in, out). A table is stored (vocabulary, width) and is not called transposed.
    stacked : bool
        Stored (experts, ..., ...).
    cut : Cut or None
        The rows of this role, where it shares the tensor.
    after : str or None
        Tensor that reads the stream in its place: the matrix is the product of the two.
    after_norm : str or None
        Gain of the norm between these.
    norm : str or None
        Gain of the norm that a weight reads through, or that what it writes passes before it is added to the stream.
        ``{layer-1}`` is the layer before; `Tower.entry_norm` stands for it in the first one.
    head_norm : str or None
        Gain of the norm on queries or keys, and of one without gains on values.
    """

    tensor: str
    role: str
    tower: str = ""
    reads_tower: str | None = None
    transposed: bool = False
    stacked: bool = False
    cut: Cut | None = None
    after: str | None = None
    after_norm: str | None = None
    norm: str | None = None
    head_norm: str | None = None


@dataclass(frozen=True)
class Norm:
    """A norm beside weights.

    Attributes
    ----------
    tensor : str
        Name of its gain, as in `Piece`; its kind where it has no gains.
    kind : str
        One of `NORM_KINDS`.
    offset : float
        Added to the stored gain: 1 for Gemma.
    on_stream : bool
        Whether the stream itself passes it, as in BERT, and not only what a block reads or writes.
    """

    tensor: str
    kind: str
    offset: float = 0.0
    on_stream: bool = False


@dataclass(frozen=True)
class Tower:
    """A stream and the layers along it; settings are named as in the config, with dots for sections.

    Attributes
    ----------
    name : str
        Empty where the network has one.
    heads, key_value_heads, head_width : str or None
        Settings that count the heads; a number where it is fixed. No `key_value_heads`: as many as heads.
    activation : str or None
        Setting that names the function of the hidden layers, ``=`` and the usual one; without a setting a fixed one.
    rotary : bool or None
        Whether positions turn queries and keys; None where that is not known.
    unturned : int or None
        Every so many layers one has no rotary positions, unless a setting ``no_rope_layers`` says which.
    depth : str or None
        Setting that counts the layers.
    entry_norm : str or None
        Gain of the norm that the stream passes before the first layer.
    tied : bool
        Whether the unembedding is the embedding where the settings do not say.
    embedding_of : str or None
        Tower whose embedding it looks its tokens up in as well, where both share one table.
    """

    name: str = ""
    heads: str | None = None
    key_value_heads: str | None = None
    head_width: str | None = None
    activation: str | None = None
    rotary: bool | None = None
    unturned: int | None = None
    depth: str | None = None
    entry_norm: str | None = None
    tied: bool = False
    embedding_of: str | None = None


@dataclass(frozen=True)
class Naming:
    """The names of one structure, on disk or in a module.

    Attributes
    ----------
    pieces : tuple of Piece
    norms : tuple of Norm
    other : mapping of str to str
        Every other tensor, as in `Piece`, to the reason why it is no weight: a word that the reader explains.
    """

    pieces: tuple[Piece, ...]
    norms: tuple[Norm, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One structure.

    Attributes
    ----------
    model_types : tuple of str
        Values of ``model_type`` in a config.
    towers : tuple of Tower
        In the order in which a signal passes them.
    saved : Naming
        Names on disk.
    live : Naming or None
        Names in ``module.state_dict()``, where they differ.
    settings : mapping of str to bool, int or str
        Values that settings must have, where the names of the tensors do not tell this structure from another one of
        the same model type.
    """

    model_types: tuple[str, ...]
    towers: tuple[Tower, ...]
    saved: Naming
    live: Naming | None = None
    settings: Mapping[str, bool | int | str] = field(default_factory=dict)
