"""What the papers say and no experiment here holds against numbers yet, as records: each with the reason."""

from .claim import Claim

_NO_CURE = "It is a proposal, without a method and a number that could be compared."

ALIGNMENT = (
    Claim(
        "heads_become_redundant",
        "In the course of training the attention heads of a layer come to share subspaces.",
        "arXiv:2605.09861, introduction",
        (),
        untested="flaggeo trace measures the overlaps of heads over a run; no language model is trained here long "
        "enough for its heads to be told apart.",
    ),
    Claim(
        "residual_network_diagnostics",
        "Overlap and commutator of adjacent weights tell alignment in residual networks as in plain ones.",
        "arXiv:2605.09861, abstract",
        (),
        proof="residual_stream_balance",
        untested="A residual stream has one law for all that write and read it together and none for two neighbours, "
        "and the source names no prediction for them.",
    ),
)
CONTINUITY = (
    Claim(
        "rotations_are_nearly_free",
        "A rotation of one layer of a linear residual network, which is no exact symmetry, hardly changes its loss.",
        "arXiv:2605.04971, section 4",
        (),
        proof="residual_layers_rotate",
        untested="The loss along such rotations is not measured here.",
    ),
    Claim(
        "pretrained_pattern",
        "Pretrained language models show the same pattern over their projections.",
        "arXiv:2605.04971, section 5.3 and appendix A",
        (),
        untested="flaggeo analyze shows the pattern of any checkpoint beside all nulls; no experiment counts it over "
        "the models of the paper, which would have to be fetched.",
    ),
    Claim(
        "layers_can_share_a_basis",
        "Layers can be compressed by one common input basis for Q, K, Gate and Up and one common output basis for O "
        "and Down, with nothing shared for V.",
        "arXiv:2605.04971, outlook",
        (),
        untested="No model is compressed here.",
    ),
    Claim(
        "merging_along_orbits",
        "Models merge better if changes of basis that leave their functions unchanged first bring their layers "
        "together.",
        "arXiv:2605.04971, outlook",
        (),
        untested=_NO_CURE,
    ),
    Claim(
        "continuity_by_design",
        "A network can be trained towards a profile of continuity that is chosen beforehand.",
        "arXiv:2605.04971, outlook",
        (),
        untested=_NO_CURE,
    ),
)
