"""What arXiv:2605.04971 says of transformers, weight by weight, and what its causes do in convolutions, as records."""

from .claim import Case, Claim, Reference
from .experiments.convolution import ConvolutionExperiment
from .experiments.transformer import TransformerExperiment

_TABLE = "arXiv:2605.04971, section 5 and table 2"

SILU = TransformerExperiment("transformer-silu", "transformer, gate with SiLU")
RELU = TransformerExperiment("transformer-relu", "transformer, gate with ReLU", activation="relu")
LINEAR = TransformerExperiment("transformer-linear", "transformer, linear gate", activation="linear")
LONGER = TransformerExperiment(
    "transformer-silu-longer",
    "transformer, gate with SiLU, 1,200 steps of 16 sequences",
    steps=1200,
    batch=16,
    seeds=(101, 102, 103, 104, 105, 106),
)
PLAIN = TransformerExperiment("transformer-plain-silu", "transformer without residuals, SiLU", residual=False)

CONVOLUTIONS = {
    (residual, activation): ConvolutionExperiment(
        f"convolution-{'residual' if residual else 'plain'}-{activation}",
        f"{'residual' if residual else 'plain'} convolutions, {shown}",
        residual,
        activation,
    )
    for residual in (True, False)
    for activation, shown in (("relu", "ReLU"), ("linear", "linear"))
}

# Unrelated directions of 64 dimensions give 0.1, with a standard deviation of 0.033 for the mean over 5 pairs, and
# 8 of them an overlap of 0.125.
_UNRELATED = 0.2


def _readers(of: TransformerExperiment) -> tuple[Case, ...]:
    return (
        Case(of, "q_read", least=0.5, paper="0.405", reference=Reference(0.745, 0.035, 2)),
        Case(of, "k_read", least=0.5, paper="0.627", reference=Reference(0.775, 0.064, 2)),
        Case(of, "gate_read", least=_UNRELATED, paper="0.662", reference=Reference(0.245, 0.007, 2)),
        Case(of, "up_read", least=_UNRELATED, paper="0.225", reference=Reference(0.31, 0.057, 2)),
    )


def _writers(of: TransformerExperiment) -> tuple[Case, ...]:
    return (
        Case(of, "o_write", least=_UNRELATED, paper="0.129", reference=Reference(0.215, 0.106, 2)),
        Case(of, "down_write", least=_UNRELATED, paper="0.554", reference=Reference(0.285, 0.078, 2)),
        Case(of, "o_read", most=_UNRELATED, reference=Reference(0.125, 0.007, 2)),
        Case(of, "down_read", most=_UNRELATED, reference=Reference(0.065, 0.035, 2)),
    )


def _values(of: TransformerExperiment) -> Case:
    return Case(of, "v_read", most=_UNRELATED, paper="0.209", reference=Reference(0.355, 0.148, 2))


CLAIMS = (
    Claim(
        "transformer_gradients",
        "In a transformer with residual connections the weights that read the stream share the leading input direction "
        "of their gradients with the next layer's from the first backward pass on, and without them they do not.",
        "arXiv:2605.04971, equation 4",
        (
            *(Case(SILU, f"{name}_first_gradient_read", least=0.5) for name in ("gate", "up")),
            *(Case(PLAIN, f"{name}_first_gradient_read", most=0.5) for name in ("gate", "up")),
            *(Case(SILU, f"{name}_first_gradient_read", least=0.5, stated=False) for name in ("q", "k", "v")),
            *(Case(PLAIN, f"{name}_first_gradient_read", most=0.5, stated=False) for name in ("q", "k", "v")),
        ),
        proof="residual_gradients",
    ),
    Claim(
        "readers_share_inputs",
        "In a transformer the weights that read the stream before a nonlinearity share their leading input direction "
        "with the next layer's: Q and K before the softmax, Gate before the activation, Up beside it.",
        _TABLE,
        (
            *_readers(SILU),
            *(Case(SILU, f"{name}_read_overlap", least=_UNRELATED, stated=False) for name in ("q", "k", "gate", "up")),
        ),
    ),
    Claim(
        "writers_share_outputs",
        "In a transformer O and Down, which write the stream, share their leading output direction with the next "
        "layer's, and not their input direction.",
        _TABLE,
        (
            *_writers(SILU),
            *(Case(SILU, f"{name}_write_overlap", least=_UNRELATED, stated=False) for name in ("o", "down")),
        ),
    ),
    Claim(
        "values_stay_unrelated",
        "V, which has no nonlinearity beside it, hardly shares its leading input direction with the next layer's.",
        _TABLE,
        (
            _values(SILU),
            Case(SILU, "v_read_overlap", most=_UNRELATED, stated=False),
        ),
    ),
    Claim(
        "pattern_after_more_training",
        "The pattern of a transformer is there after 2.7 times the training too: Q, K, Gate and Up share their leading "
        "input direction with the next layer's, O and Down their output direction and not their input direction, and V "
        "hardly any.",
        _TABLE,
        (*_readers(LONGER), *_writers(LONGER), _values(LONGER)),
        apart=True,
    ),
    Claim(
        "gate_needs_its_activation",
        "It is the activation that makes Gate continuous: with a linear gate its continuity falls.",
        _TABLE,
        (
            Case(SILU, "gate_read", least=0.1, minus=LINEAR, paper="0.296", reference=Reference(-0.07)),
            Case(RELU, "gate_read", least=0.1, minus=LINEAR, paper="0.454", reference=Reference(0.465)),
            Case(RELU, "gate_read", least=0.5, paper="0.820", reference=Reference(0.78, seeds=1)),
        ),
    ),
    Claim(
        "transformer_without_residuals",
        "Without residual connections no weight of a transformer shares its leading direction with the next layer's.",
        _TABLE,
        tuple(
            Case(PLAIN, number, most=_UNRELATED, paper=paper, reference=Reference(reference, seeds=1))
            for number, paper, reference in (
                ("q_read", "0.036", 0.10),
                ("k_read", "0.062", 0.06),
                ("gate_read", "0.045", 0.04),
                ("up_read", "0.036", 0.10),
                ("o_write", "0.066", 0.06),
                ("down_write", "0.052", 0.09),
                ("v_read", "0.054", 0.10),
            )
        ),
    ),
    Claim(
        "convolutions",
        "Residual connections and an activation make neighbouring convolutions share their leading directions too: "
        "coherent gradients come from the first, continuity of the kernels from both.",
        "arXiv:2605.04971, section 4, which has fully connected layers alone",
        (
            Case(CONVOLUTIONS[True, "relu"], "first_gradient_read", least=0.7),
            Case(CONVOLUTIONS[True, "linear"], "first_gradient_read", least=0.7),
            Case(CONVOLUTIONS[False, "relu"], "first_gradient_read", most=0.5),
            Case(CONVOLUTIONS[True, "relu"], "flattened", least=0.2),
            Case(CONVOLUTIONS[False, "relu"], "flattened", most=0.2),
            Case(CONVOLUTIONS[False, "linear"], "flattened", most=0.2),
            Case(CONVOLUTIONS[True, "relu"], "flattened", least=0.1, minus=CONVOLUTIONS[False, "relu"]),
            Case(CONVOLUTIONS[True, "relu"], "flattened", least=0, minus=CONVOLUTIONS[True, "linear"]),
            Case(CONVOLUTIONS[True, "relu"], "read", least=0, minus=CONVOLUTIONS[True, "linear"]),
            Case(CONVOLUTIONS[True, "relu"], "write", least=0, minus=CONVOLUTIONS[False, "relu"], stated=False),
        ),
    ),
)
