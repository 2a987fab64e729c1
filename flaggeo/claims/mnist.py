"""Table 1 of arXiv:2605.04971 on MNIST itself, at the paper's width and depth, as a record."""

from .claim import Case, Claim
from .experiments.mnist import MnistExperiment


def _cell(activation: str, shown: str, norm: str | None = None, *, residual: bool = True) -> MnistExperiment:
    kind = "residual" if residual else "plain"
    name = "-".join(filter(None, ("mnist", kind, activation, norm)))
    setting = f"{kind}, {shown}{', LayerNorm' * (norm is not None)} (MNIST, 256 wide, 16 deep)"
    return MnistExperiment(name, setting, residual, activation, norm)


GELU, SILU, RELU = _cell("gelu", "GELU"), _cell("silu", "SiLU"), _cell("relu", "ReLU")
TANH, LINEAR, RADIAL = _cell("tanh", "tanh"), _cell("linear", "linear"), _cell("radial", "radial")
LINEAR_NORMED, RELU_NORMED = _cell("linear", "linear", "layernorm"), _cell("relu", "ReLU", "layernorm")
PLAIN_GELU, PLAIN_RELU = _cell("gelu", "GELU", residual=False), _cell("relu", "ReLU", residual=False)
PLAIN_LINEAR = _cell("linear", "linear", residual=False)

# The bounds are those of the small networks, chosen on their earlier seeds.
CLAIMS = (
    Claim(
        "mnist_table_1",
        "On MNIST, at the width and depth of the paper, the weights of residual networks with an activation that "
        "breaks the rotation symmetry are continuous, and others hardly are.",
        "arXiv:2605.04971, table 1",
        (
            Case(GELU, "read", least=0.55, paper="0.964"),
            Case(SILU, "read", least=0.55, paper="0.964"),
            Case(RELU, "read", least=0.55, paper="0.959"),
            Case(TANH, "read", least=0.55, paper="0.842"),
            Case(LINEAR, "read", most=0.3, paper="0.217"),
            Case(RADIAL, "read", most=0.35, paper="0.225"),
            Case(LINEAR_NORMED, "read", least=0, minus=LINEAR, paper="0.361"),
            Case(RELU_NORMED, "read", least=0.55, paper="0.905"),
            Case(PLAIN_GELU, "read", most=0.25, paper="0.175"),
            Case(PLAIN_RELU, "read", most=0.25, paper="0.378"),
            Case(PLAIN_LINEAR, "read", most=0.25, paper="0.048"),
            Case(GELU, "write", least=0.55, paper="0.955"),
            Case(SILU, "write", least=0.55, paper="0.962"),
            Case(RELU, "write", least=0.55, paper="0.940"),
            Case(TANH, "write", most=0.15, paper="0.061"),
            Case(RELU, "read", least=0.3, minus=LINEAR, paper="0.742"),
            Case(LINEAR, "coherence_gap", least=0.1, paper="0.641"),
            Case(RADIAL, "coherence_gap", least=0.1, paper="0.633"),
            Case(RELU, "coherence_gap", least=-0.05, most=0.05, paper="0.003"),
        ),
        apart=True,
    ),
)
