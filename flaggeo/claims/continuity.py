"""What arXiv:2605.04971 says of how geometric continuity arises, as records."""

from dataclasses import replace
from typing import Any

from .claim import Case, Claim, Reference
from .experiments.mlp import MlpExperiment

TITLE = "arXiv:2605.04971, Why Geometric Continuity Emerges in Deep Neural Networks"

_SHOWN = {
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "linear": "linear",
    "tanh": "tanh",
    "radial": "radial",
    "bounded-radial": "bounded radial",
}
_NORMS = {
    "rmsnorm": "RMSNorm",
    "rmsnorm-no-gain": "RMSNorm without gain",
    "layernorm": "LayerNorm",
    "layernorm-no-affine": "LayerNorm without affine part",
}


def _mlp(
    activation: str,
    norm: str | None = None,
    *,
    residual: bool = True,
    task: str = "prototypes",
    how: str = "",
    words: str = "",
    **others: Any,
) -> MlpExperiment:
    """A cell; `how` and `words` name what it has beside the default training."""
    kind = "residual" if residual else "plain"
    name = "-".join(filter(None, (task, kind, activation, norm, how)))
    setting = ", ".join(filter(None, (kind, _SHOWN[activation], _NORMS.get(norm or ""), words)))
    setting += f" ({task})" * (task != "prototypes")
    return replace(MlpExperiment(name, setting, task, residual, activation, norm), **others)


RESIDUAL = {activation: _mlp(activation) for activation in _SHOWN}
# Five seeds gave a standard deviation of 0.008 on one machine and 0.037 on another, whose sums are rounded otherwise.
RESIDUAL["relu"] = replace(RESIDUAL["relu"], seeds=tuple(range(101, 121)))
NORMED = {(activation, norm): _mlp(activation, norm) for activation in ("relu", "linear", "radial") for norm in _NORMS}
PLAIN = {activation: _mlp(activation, residual=False) for activation in ("relu", "gelu", "linear", "radial")}
PLAIN_NORMED = {
    (activation, norm): _mlp(activation, norm, residual=False)
    for activation in ("relu", "linear", "radial")
    for norm in _NORMS
}
TINY = {
    activation: _mlp(activation, how="tiny", words="first weights of 1e-4", deviation=1e-4, steps=6000)
    for activation in ("relu", "linear")
}
SLOW = {
    activation: _mlp(
        activation,
        how="slow",
        words="first weights of 1e-3, SGD at rate 0.02",
        deviation=1e-3,
        optimizer="sgd",
        rate=0.02,
        momentum=0.9,
        steps=5000,
    )
    for activation in ("relu", "linear")
}
SMALL_UPDATES = _mlp("relu", how="small-updates", words="SGD at rate 0.01", optimizer="sgd", rate=0.01, momentum=0.9)
SMALL_START = {
    (activation, task): _mlp(
        activation,
        task=task,
        how="small-start",
        words="first weights of 1e-3, SGD at rate 0.05",
        deviation=1e-3,
        optimizer="sgd",
        rate=0.05,
        momentum=0.9,
        steps=4000,
    )
    for activation, task in (("relu", "prototypes"), ("relu", "digits"), ("bounded-radial", "digits"))
}

CLAIMS = (
    Claim(
        "coherent_gradients",
        "With residual connections the gradients of neighbouring layers share their leading input direction from the "
        "first backward pass on, and without them they do not.",
        "arXiv:2605.04971, equation 4 and section 4",
        (
            *(
                Case(RESIDUAL[activation], "first_gradient_read", least=0.7, paper=paper)
                for activation, paper in (("relu", "0.95"), ("gelu", ""), ("linear", ""), ("radial", ""))
            ),
            *(Case(PLAIN[activation], "first_gradient_read", most=0.5) for activation in ("relu", "gelu", "linear")),
            Case(RESIDUAL["relu"], "first_gradient_read", least=0.3, minus=PLAIN["relu"]),
            Case(RESIDUAL["linear"], "first_gradient_read", least=0.3, minus=PLAIN["linear"]),
            *(
                Case(NORMED[activation, norm], "first_gradient_read", least=0.7, stated=False)
                for activation in ("relu", "linear")
                for norm in ("rmsnorm", "layernorm")
            ),
        ),
        proof="residual_gradients",
    ),
    Claim(
        "no_continuity_without_residuals",
        "Without residual connections the weights of neighbouring layers stay as unrelated as random ones.",
        "arXiv:2605.04971, table 1",
        (
            Case(PLAIN["linear"], "read", most=0.25, paper="0.048", reference=Reference(0.091, 0.004)),
            Case(PLAIN["relu"], "read", most=0.25, paper="0.378", reference=Reference(0.094, 0.033)),
            Case(PLAIN["gelu"], "read", most=0.25, paper="0.175", reference=Reference(0.178, 0.002)),
            *(Case(cell, "read", most=0.25, stated=False) for cell in (PLAIN["radial"], *PLAIN_NORMED.values())),
        ),
    ),
    Claim(
        "activation_gives_continuity",
        "Residual connections alone are not enough: with ReLU, GELU or SiLU the weights of neighbouring layers come to "
        "share their leading directions, without an activation they hardly do.",
        "arXiv:2605.04971, tables 1 and 5",
        (
            Case(RESIDUAL["relu"], "read", least=0.55, paper="0.959", reference=Reference(0.693, 0.017)),
            Case(RESIDUAL["gelu"], "read", least=0.55, paper="0.964", reference=Reference(0.745, 0.006)),
            Case(RESIDUAL["silu"], "read", least=0.55, paper="0.964", reference=Reference(0.668, 0.045)),
            Case(RESIDUAL["relu"], "write", least=0.55, paper="0.940", reference=Reference(0.712, 0.031)),
            Case(RESIDUAL["linear"], "read", most=0.3, paper="0.217", reference=Reference(0.156, 0.045)),
            Case(
                RESIDUAL["relu"],
                "read",
                least=0.3,
                minus=RESIDUAL["linear"],
                paper="0.742",
                reference=Reference(0.537, 0.061),
            ),
            *(
                Case(NORMED["relu", norm], "read", least=0, minus=NORMED["linear", norm], stated=False)
                for norm in _NORMS
            ),
            Case(SLOW["relu"], "read", least=0, minus=SLOW["linear"], stated=False, reference=Reference(-0.20)),
        ),
        proof="coherent_updates_give_continuity",
    ),
    Claim(
        "symmetry_not_nonlinearity",
        "It is the broken rotation symmetry that gives continuity, not the nonlinearity: a rotation-equivariant "
        "activation does no more than none.",
        "arXiv:2605.04971, section 4 and table 1",
        (
            Case(RESIDUAL["radial"], "read", most=0.35, paper="0.225", reference=Reference(0.242, 0.029)),
            Case(RESIDUAL["relu"], "read", least=0.3, minus=RESIDUAL["radial"], paper="0.734"),
            Case(RESIDUAL["bounded-radial"], "read", most=0.35, stated=False, reference=Reference(0.166, 0.083)),
            *(
                Case(NORMED["relu", norm], "read", least=0, minus=NORMED["radial", norm], stated=False)
                for norm in _NORMS
            ),
            Case(
                SMALL_START["bounded-radial", "digits"],
                "read",
                most=0.35,
                stated=False,
                reference=Reference(0.907, 0.002),
            ),
            Case(
                SMALL_START["relu", "digits"],
                "read",
                least=0,
                minus=SMALL_START["bounded-radial", "digits"],
                stated=False,
            ),
        ),
        proof="radial_control_nearly_linear",
        universal=True,
    ),
    Claim(
        "norm_breaks_symmetry",
        "Normalisation raises the continuity of a linear network by breaking the rotation symmetry.",
        "arXiv:2605.04971, section 4 and table 1",
        (
            Case(NORMED["linear", "layernorm"], "read", least=0, minus=RESIDUAL["linear"], paper="0.361"),
            Case(NORMED["linear", "rmsnorm"], "read", least=0, minus=RESIDUAL["linear"]),
            Case(NORMED["linear", "rmsnorm-no-gain"], "read", most=0.05, minus=RESIDUAL["linear"], stated=False),
        ),
        proof="rmsnorm_symmetry",
        universal=True,
    ),
    Claim(
        "activation_concentrates",
        "An activation concentrates continuity in the first singular direction, normalisation alone spreads it.",
        "arXiv:2605.04971, table 5",
        (
            Case(RESIDUAL["relu"], "second_share", most=0.35, paper="0.206", reference=Reference(0.19)),
            Case(RESIDUAL["gelu"], "second_share", most=0.35, paper="0.227"),
            Case(NORMED["linear", "rmsnorm"], "second_share", least=0.6),
            Case(NORMED["linear", "layernorm"], "second_share", least=0.6, paper="0.802"),
        ),
    ),
    Claim(
        "tanh_loses_writes",
        "Saturation under tanh destroys the continuity of what layers write.",
        "arXiv:2605.04971, table 5",
        (Case(RESIDUAL["tanh"], "write", most=0.15, paper="0.061", reference=Reference(0.074, 0.021)),),
    ),
    Claim(
        "tanh_keeps_reads",
        "Under tanh what layers read stays nearly as continuous as under ReLU.",
        "arXiv:2605.04971, table 5",
        (Case(RESIDUAL["tanh"], "read", least=0.55, paper="0.842", reference=Reference(0.250, 0.058)),),
    ),
    Claim(
        "relu_with_layernorm",
        "ReLU with LayerNorm is as continuous as without.",
        "arXiv:2605.04971, tables 1 and 5",
        (Case(NORMED["relu", "layernorm"], "read", least=0.55, paper="0.889", reference=Reference(0.365, 0.021)),),
    ),
    Claim(
        "updates_outgrow_the_start",
        "Weights become as continuous as their gradients only where the updates are large beside the first weights: "
        "small updates leave the weights as unrelated as random ones, and smaller first weights make them continuous.",
        "arXiv:2605.04971, table 3",
        (
            Case(SMALL_UPDATES, "read", most=0.2, paper="0.047", reference=Reference(0.112, 0.046)),
            Case(
                SMALL_START["relu", "prototypes"], "read", least=0.55, paper="0.929", reference=Reference(0.870, 0.014)
            ),
        ),
        proof="shared_updates_add_up",
    ),
    Claim(
        "formation_and_collapse",
        "From tiny first weights a linear residual network forms continuity and loses it again.",
        "arXiv:2605.04971, figure 2",
        (
            Case(TINY["linear"], "highest_read", least=0.75, paper="0.99", reference=Reference(0.87)),
            Case(TINY["linear"], "read", most=0.4, paper="about 0.18", reference=Reference(0.249, 0.027)),
            Case(TINY["relu"], "read", least=0.7, reference=Reference(0.846, 0.011)),
        ),
    ),
    Claim(
        "relu_never_collapses",
        "From tiny first weights a ReLU network is continuous throughout.",
        "arXiv:2605.04971, figure 2",
        (Case(TINY["relu"], "lowest_read", least=0.8, paper="above 0.94", reference=Reference(0.38)),),
    ),
    Claim(
        "coherence_gap",
        "Where the rotation symmetry is kept, the sum of all gradients is more continuous than the weights, and by "
        "much more than where it is broken.",
        "arXiv:2605.04971, table 1",
        (
            Case(RESIDUAL["linear"], "coherence_gap", least=0.1, paper="0.641", reference=Reference(0.27)),
            Case(RESIDUAL["linear"], "coherence_gap", least=0.1, minus=RESIDUAL["relu"], paper="0.638"),
            Case(RESIDUAL["radial"], "coherence_gap", least=0.1, minus=RESIDUAL["relu"], paper="0.630"),
        ),
    ),
    Claim(
        "no_gap_with_relu",
        "With ReLU the weights are as continuous as the sum of all gradients.",
        "arXiv:2605.04971, table 1",
        (Case(RESIDUAL["relu"], "coherence_gap", least=-0.05, most=0.05, paper="0.003", reference=Reference(-0.12)),),
    ),
    Claim(
        "drift",
        "The leading directions of a linear network drift to right angles from those of the first epoch, and those of "
        "a ReLU network hardly turn.",
        "arXiv:2605.04971, figure 2 and appendix F",
        (
            Case(TINY["linear"], "drift", least=80, paper="85 to 90", reference=Reference(83)),
            Case(TINY["relu"], "drift", most=45, paper="25 to 35", reference=Reference(71)),
        ),
    ),
)
