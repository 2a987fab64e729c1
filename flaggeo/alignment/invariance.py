"""Which angles depend on the basis that training happened to choose, and which do not."""

from ..network import Side, Symmetry, Weight


def angles_are_basis_independent(weight: Weight, side: Side, *, folded: bool, complete: bool = False) -> bool:
    """Whether no change of basis of the network alters angles with what a weight reads or writes.

    Three things can move a subspace: the group of its space, where that is more than rotations; the group of the
    space at the other end, since lengths there decide which directions are the leading ones, unless all of them
    are kept; and a norm beside the weight, unless it is folded in. A gain can be traded for the scale of single
    coordinates, at the other end too as far as lengths decide; and what a LayerNorm does not see can be added to what
    is written before it or read behind it, which moves both sides. What an embedding writes before a norm on the stream
    itself does not lie in the stream that the layers share: its angles there are never called independent.

    Parameters
    ----------
    weight : Weight
    side : Side
    folded : bool
        Whether the norms beside the weights are folded into them.
    complete : bool, optional
        Whether the subspace is all that the weight reads or writes.

    Returns
    -------
    independent : bool
        Changes of basis are those that leave the network's function unchanged.
    """
    if weight.folding.before_norm and side is Side.WRITE:
        return False
    here, there = (weight.symmetry(end) for end in (side, side.other))
    folding = weight.folding
    ends = (folding.read, folding.written)
    own, other = ends if side is Side.READ else ends[::-1]
    unseen = folding.centred or folding.reads_centred
    as_stored = own is None and (complete or other is None) and not unseen
    rotations_alone = Symmetry.ORTHOGONAL.contains(here) and (complete or Symmetry.ORTHOGONAL.contains(there))
    return rotations_alone and (folded or as_stored)
