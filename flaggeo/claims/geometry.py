"""What one may hope that the geometry of weights says of what a model does, as records: tested, not assumed."""

from .claim import Case, Claim
from .experiments.function import FunctionExperiment

TITLE = "Does geometry predict function?"
_SOURCE = 'our own hypothesis: docs/claims.md, "Does geometry predict function?"'

SMOLLM2 = FunctionExperiment(
    "smollm2-without-heads-and-layers",
    "SmolLM2-135M without each head and layer, 1,024 tokens",
    starts=(20_000, 80_000),
    length=512,
    seeds=(101,),
)

CLAIMS = (
    Claim(
        "repeated_heads_are_spared",
        "Ablating a head whose output subspace another head shares raises the loss less.",
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
        "Leaving out a layer that resembles the one before raises the loss less.",
        _SOURCE,
        (
            Case(SMOLLM2, "similar_layers_left_out.high", most=0),
            Case(SMOLLM2, "similar_layers_replaced.high", most=0),
        ),
        apart=True,
    ),
    Claim(
        "influential_layers_are_missed",
        "Leaving out a layer of larger block influence on a text raises the loss more.",
        "arXiv:2403.03853, section 3",
        (
            Case(SMOLLM2, "influence_left_out.low", least=0),
            Case(SMOLLM2, "influence_replaced.low", least=0, stated=False),
        ),
        apart=True,
    ),
    Claim(
        "linked_heads_move",
        "When a head is ablated, later heads that read more of its output subspace change more.",
        _SOURCE,
        tuple(Case(SMOLLM2, f"{read}_links_within.low", least=0) for read in ("query", "key", "value"))
        + tuple(Case(SMOLLM2, f"{read}_links.low", least=0, stated=False) for read in ("query", "key", "value")),
        apart=True,
    ),
)
