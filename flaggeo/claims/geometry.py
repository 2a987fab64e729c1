"""What one may hope that the geometry of weights says of what a model does, as records: tested, not assumed."""

from .claim import Case, Claim
from .experiments.function import FunctionExperiment

TITLE = "Does geometry predict function?"
_SOURCE = 'docs/claims.md, "Does geometry predict function?"'

SMOLLM2 = FunctionExperiment(
    "smollm2-without-heads-and-layers",
    "SmolLM2-135M without each head and layer, 1,024 tokens",
    starts=(20_000, 80_000),
    length=512,
    seeds=(101, 102, 103),
)

CLAIMS = (
    Claim(
        "repeated_heads_are_spared",
        "A head whose output subspace another head shares is missed less than a head that is alone with its own.",
        _SOURCE,
        (
            Case(SMOLLM2, "repeated_heads_within.high", most=0),
            Case(SMOLLM2, "repeated_heads_matched.high", most=0),
            Case(SMOLLM2, "repeated_heads.high", most=0, stated=False),
        ),
        apart=True,
    ),
    Claim(
        "similar_layers_are_spared",
        "A layer whose leading subspaces are those of the layer before is missed less than others.",
        _SOURCE,
        (
            Case(SMOLLM2, "similar_layers_left_out.high", most=0),
            Case(SMOLLM2, "similar_layers_replaced.high", most=0),
        ),
        apart=True,
    ),
    Claim(
        "influential_layers_are_missed",
        "A layer that turns the stream further, which is its block influence on a text, is missed more.",
        "arXiv:2403.03853, section 3",
        (
            Case(SMOLLM2, "influence_left_out.low", least=0),
            Case(SMOLLM2, "influence_replaced.low", least=0, stated=False),
        ),
        apart=True,
    ),
    Claim(
        "linked_heads_move",
        "Of two heads of later layers, the one that reads more of the subspace that a head writes to moves further "
        "when that head is taken away.",
        _SOURCE,
        tuple(Case(SMOLLM2, f"{read}_links_within.low", least=0) for read in ("query", "key", "value"))
        + tuple(Case(SMOLLM2, f"{read}_links.low", least=0, stated=False) for read in ("query", "key", "value")),
        apart=True,
    ),
)
