"""Which group of basis changes each space allows, decided from the architecture.

Where the settings do not tell, the largest group that may apply is assumed, and `Space.assumed` says so: it is only
safe to call a number basis-independent if every change of basis that the network allows has been considered.
Of the gains of a norm it is taken that they differ; where they are all equal, as before training, more is allowed.
"""

from collections.abc import Iterable

from .spaces import Symmetry

# Entrywise functions by their names in a config. One with an offset of its own (sigmoid) is left out: a constant would
# have to be undone elsewhere.
_BY_ACTIVATION = {
    **dict.fromkeys(("linear", "identity", "none"), Symmetry.GENERAL_LINEAR),
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "max_pool"), Symmetry.SCALED_PERMUTATION),
    "tanh": Symmetry.SIGNED_PERMUTATION,
    **dict.fromkeys(
        ("gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"),
        Symmetry.PERMUTATION,
    ),
    **dict.fromkeys(("quick_gelu", "silu", "swish", "mish"), Symmetry.PERMUTATION),
}

# Where the scale of a unit is undone by its square, which is no change of basis: the scalings are a bound.
_SQUARED = frozenset({"relu2", "square"})


def hidden_symmetry(activation: str | None, *, gated: bool) -> tuple[Symmetry, bool]:
    """Of the hidden layer of an MLP, and whether it is only assumed.

    Parameters
    ----------
    activation : str or None
        As a config spells it; None where it is not known.
    gated : bool
        Whether the activation is applied to a gate that multiplies the hidden layer. What it is then does not
        matter: the rows of up may be scaled and the columns of down scaled back. The gate takes part in the
        permutations alone.
    """
    if gated:
        return Symmetry.SCALED_PERMUTATION, False
    if activation in _SQUARED:
        return Symmetry.SCALED_PERMUTATION, True
    known = _BY_ACTIVATION.get(activation or "")
    return known or Symmetry.GENERAL_LINEAR, known is None


def key_symmetry(rotary: bool | None, *, normed: bool) -> tuple[Symmetry, bool]:
    """Of the space in which queries meet keys, and whether it is only assumed.

    Parameters
    ----------
    rotary : bool or None
        Whether positions turn the planes of the space; None where it is not known.
    normed : bool
        Whether queries and keys pass a norm with a gain first. What commutes with the norm and keeps the gain
        diagonal is a signed permutation; with rotary positions only a quarter turn of each plane.
    """
    if normed:
        return Symmetry.SIGNED_PERMUTATION, False
    return (Symmetry.ROTARY_BLOCK if rotary else Symmetry.GENERAL_LINEAR), rotary is None


def stream_symmetry(usual: Symmetry | None, *, normed: bool, writes_normed: bool) -> tuple[Symmetry, bool]:
    """Of the residual stream, and whether it is only assumed.

    Parameters
    ----------
    usual : Symmetry or None
        What the family allows, None where the architecture is not known to be of the family.
    normed : bool
        Whether the network has norms at all.
    writes_normed : bool
        Whether what a block writes passes a norm with a gain before it is added (Gemma 2 and 3, OLMo 2). No
        weight can take that gain over, so that of the rotations only signed permutations remain.
    """
    if usual is None:
        return (Symmetry.ORTHOGONAL if normed else Symmetry.GENERAL_LINEAR), True
    return (Symmetry.SIGNED_PERMUTATION if writes_normed else usual), False


#: A symmetry, and whether it is only assumed.
Allowed = tuple[Symmetry, bool]


def meet(groups: Iterable[Allowed]) -> Allowed:
    """The largest group whose changes of basis are all in every one of these; assumed if one of them is."""
    found, assumed = Symmetry.GENERAL_LINEAR, False
    for symmetry, guessed in groups:
        assumed = assumed or guessed
        if found.contains(symmetry):
            found = symmetry
        elif not symmetry.contains(found):
            found = Symmetry.SIGNED_PERMUTATION  # the rotations among the scaled permutations
    return found, assumed
