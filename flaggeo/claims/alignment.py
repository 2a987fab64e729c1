"""What arXiv:2605.09861 says of invariance, ridge, activations and noise, as records."""

from dataclasses import replace
from math import sqrt

from .claim import Case, Claim, Reference
from .experiments.classification import ClassificationExperiment
from .experiments.reparameterization import ReparameterizationExperiment
from .experiments.ridge import RidgeExperiment

TITLE = "arXiv:2605.09861, Flag Varieties: A Geometric Framework for Deep Network Alignment"
_ABSTRACT = "arXiv:2605.09861, abstract"

GENERAL_MAP = ReparameterizationExperiment("general-map", "general linear map of the hidden space", rotation=False)
ROTATION = ReparameterizationExperiment("rotation", "rotation of the hidden space", rotation=True)


def _decay(name: str, setting: str, ridge: float, **others: object) -> RidgeExperiment:
    common = RidgeExperiment(f"decay-{name}", f"{setting}, λ = {ridge:g}", "linear-teacher", ridge)
    return replace(common, **others)  # type: ignore[arg-type]


LINEAR_DECAY = tuple(
    _decay(f"linear-{ridge:g}", "two linear layers", ridge, steps=steps)
    for ridge, steps in ((1e-3, 16_000), (1e-2, 32_000), (5e-2, 6_400))
)
DEEP_DECAY = _decay("deep", "three linear layers", 1e-2, widths=(16, 24, 20, 4), scales=(1.0, 1.0, 0.7), steps=12_800)
RELU_DECAY = _decay("relu", "two layers with ReLU", 1e-2, activation="relu")
ADAMW_DECAY = _decay("adamw", "two linear layers, AdamW", 1e-1, optimizer="adamw", rate=1e-3)
NOISY = RidgeExperiment(
    "noise",
    "two linear layers, batches of 20, a target that they cannot fit",
    "relu-teacher",
    1e-2,
    rate=0.05,
    steps=20_000,
    batch=20,
)
REGRESSION = {
    activation: RidgeExperiment(
        f"regression-{activation}",
        f"regression, two layers with {shown}",
        "relu-teacher",
        1e-2,
        activation,
        rate=0.1,
        steps=20_000 if activation == "linear" else 60_000,
    )
    for activation, shown in (
        ("linear", "no activation"),
        ("relu", "ReLU"),
        ("leaky-relu", "leaky ReLU"),
        ("tanh", "tanh"),
        ("gelu", "GELU"),
    )
}
RIDGES = (1e-9, 5e-4, 5e-3)
CLASSIFICATION = {
    (activation, ridge): ClassificationExperiment(
        f"classification-{activation}-{ridge:g}",
        f"classification, {shown}, λ = {ridge:g}",
        "gaussian-classes",
        ridge,
        activation,
        (16, 32, 32, 4),
        (sqrt(1.5),) * 3,
        rate=0.1,
        steps=20_000,
        final_rate=0.01,
        window=3,
        seeds=(201, 202, 203),  # bounds of the hierarchy were chosen on 101 to 103
    )
    for activation, shown in (("linear", "linear"), ("relu", "ReLU"), ("tanh", "tanh"))
    for ridge in RIDGES
}
_WITH_RIDGE = {activation: CLASSIFICATION[activation, RIDGES[-1]] for activation in ("linear", "relu", "tanh")}

CLAIMS = (
    Claim(
        "invariant_dimension",
        "The dimension in which the subspaces of two composed weights meet does not depend on the basis of the hidden "
        "space.",
        _ABSTRACT,
        (
            Case(GENERAL_MAP, "image_kernel_change", least=0, most=0),
            Case(ROTATION, "image_rows_change", least=0, most=0),
            Case(GENERAL_MAP, "image_rows_change", least=0, most=0, stated=False),
        ),
        proof="image_row_intersection",
        universal=True,
    ),
    Claim(
        "imbalance_decay",
        "Ridge makes the imbalance of adjacent layers decay exponentially, at a rate that the weight decay sets: twice "
        "λ for the penalty λ/2 |W|².",
        _ABSTRACT,
        (
            *(Case(experiment, "imbalance_rate", least=0.99, most=1.01) for experiment in LINEAR_DECAY),
            *(Case(DEEP_DECAY, number, least=0.99, most=1.01) for number in ("imbalance_rate", "imbalance_rate.2")),
            Case(RELU_DECAY, "imbalance_rate", least=0.99, most=1.01, stated=False),
            Case(ADAMW_DECAY, "imbalance_rate", least=0.99, most=1.01, stated=False),
        ),
        proof="balance_law",
    ),
    Claim(
        "containment",
        "Ridge removes what a linear layer writes outside the subspace that the next one reads, at rate λ.",
        _ABSTRACT,
        tuple(Case(experiment, "outside_rate", least=0.99, most=1.01) for experiment in LINEAR_DECAY[1:]),
        proof="containment",
    ),
    Claim(
        "subspaces_align",
        "Ridge aligns the leading subspaces of adjacent layers.",
        _ABSTRACT,
        (
            *(Case(experiment, "overlap", least=0.999) for experiment in LINEAR_DECAY[1:]),
            *(
                Case(REGRESSION[activation], "overlap", least=0.999, stated=False, reference=reference)
                for activation, reference in (
                    ("relu", Reference(0.697, 0.140, 2)),
                    ("leaky-relu", Reference(0.285, 0.057, 2)),
                    ("tanh", Reference(0.078, 0.003, 2)),
                )
            ),
        ),
        proof="angle_bound",
    ),
    Claim(
        "stationary_imbalance",
        "Activations keep the imbalance from vanishing: where training with ridge comes to rest, 2λΔ is the mean of "
        "the commutator of gates and activity, and for activations that are not homogeneous of a second term.",
        'arXiv:2605.09861, abstract; docs/proofs.md, "Commutator"',
        (
            Case(REGRESSION["tanh"], "law_error", most=0.02),
            Case(REGRESSION["gelu"], "law_error", most=0.02),
            Case(REGRESSION["tanh"], "imbalance", least=0.1, reference=Reference(0.742, 0.019, 2)),
            Case(REGRESSION["gelu"], "imbalance", least=0.1),
            Case(REGRESSION["relu"], "imbalance", least=0.1, reference=Reference(0.404, 0.016, 2)),
            Case(REGRESSION["leaky-relu"], "law_error", most=0.1, reference=Reference(0.035, 0.013, 2)),
            Case(REGRESSION["relu"], "law_error", most=0.1, reference=Reference(0.024, 0.003, 2)),
        ),
        proof="stationary_imbalance",
    ),
    Claim(
        "commutator_is_the_obstruction",
        "What nonlinear activations set against balance is a commutator.",
        _ABSTRACT,
        (
            Case(REGRESSION["relu"], "commutator_error", most=0.1),
            Case(REGRESSION["leaky-relu"], "commutator_error", most=0.1, stated=False),
            Case(REGRESSION["tanh"], "commutator_error", most=0.1, stated=False),
            Case(REGRESSION["gelu"], "commutator_error", most=0.1, stated=False),
        ),
        proof="smooth_gate_law",
        universal=True,
    ),
    Claim(
        "no_obstruction_in_linear_networks",
        "In linear networks nothing keeps adjacent layers from exact alignment of their bases.",
        _ABSTRACT,
        (
            Case(REGRESSION["linear"], "imbalance", most=1e-6),
            Case(REGRESSION["linear"], "rho", most=1e-6),
            Case(NOISY, "imbalance", most=1e-2, stated=False),
            Case(ADAMW_DECAY, "imbalance", most=1e-2, stated=False),
        ),
        proof="noise_keeps_balance",
        universal=True,
    ),
    Claim(
        "noise_keeps_the_subspace",
        "Noise of batches leaves two linear layers one common subspace, but neither balance nor a common basis.",
        'docs/proofs.md, "Balance"',
        (
            Case(NOISY, "stacked_ratio", most=1e-3),
            Case(NOISY, "overlap", least=0.999),
            Case(NOISY, "imbalance", least=0.2),
            Case(NOISY, "commutator", least=0.05),
        ),
        proof="stacked_recursion",
    ),
    Claim(
        "neuron_balance",
        "Ridge balances every single unit: incoming and outgoing weights come to have equal norm.",
        'arXiv:1806.00900, section 2; with ridge docs/proofs.md, "Commutator"',
        (
            Case(REGRESSION["relu"], "diagonal_imbalance", most=1e-5),
            Case(REGRESSION["leaky-relu"], "diagonal_imbalance", most=1e-5),
            Case(REGRESSION["tanh"], "diagonal_imbalance", most=1e-5, stated=False),
            Case(REGRESSION["gelu"], "diagonal_imbalance", most=1e-5, stated=False),
        ),
        proof="balance_per_neuron",
    ),
    Claim(
        "hierarchy",
        "The last layers of a classifier with ridge come to share a subspace whatever the activation, and a basis, so "
        "that their Gram matrices commute, only where there is none.",
        _ABSTRACT,
        (
            Case(_WITH_RIDGE["linear"], "overlap.2", least=0.999),
            Case(_WITH_RIDGE["relu"], "overlap.2", least=0.9, reference=Reference(1.0)),
            Case(_WITH_RIDGE["tanh"], "overlap.2", least=0.9, reference=Reference(1.0)),
            Case(_WITH_RIDGE["linear"], "rho.2", most=1e-3),
            Case(_WITH_RIDGE["relu"], "rho.2", least=0.03, reference=Reference(0.22, 0.06)),
            Case(_WITH_RIDGE["tanh"], "rho.2", least=0.03, reference=Reference(0.12, 0.04)),
            Case(_WITH_RIDGE["relu"], "basis.2", most=0.99, stated=False, reference=Reference(0.79, 0.17)),
            Case(_WITH_RIDGE["tanh"], "basis.2", most=0.99, stated=False, reference=Reference(0.65, 0.29)),
            Case(_WITH_RIDGE["linear"], "overlap", least=0.999, stated=False),
            Case(_WITH_RIDGE["relu"], "overlap", least=0.9, stated=False, reference=Reference(0.91, 0.07)),
            Case(_WITH_RIDGE["tanh"], "overlap", least=0.9, stated=False, reference=Reference(0.92, 0.10)),
            Case(_WITH_RIDGE["linear"], "rho", most=1e-3, stated=False),
            Case(_WITH_RIDGE["relu"], "rho", least=0.03, stated=False, reference=Reference(0.76, 0.29)),
            Case(_WITH_RIDGE["tanh"], "rho", least=0.03, stated=False, reference=Reference(0.58, 0.29)),
            Case(REGRESSION["relu"], "overlap", least=0.9, stated=False),
            Case(REGRESSION["tanh"], "overlap", least=0.9, stated=False),
        ),
        proof="levels_imply",
    ),
    Claim(
        "ridge_deepens_alignment",
        "The more ridge, the further the leading subspaces of adjacent layers are aligned.",
        _ABSTRACT,
        tuple(
            Case(CLASSIFICATION[activation, more], "overlap.2", least=0, minus=CLASSIFICATION[activation, less])
            for activation in ("linear", "relu", "tanh")
            for less, more in ((RIDGES[0], RIDGES[1]), (RIDGES[1], RIDGES[2]))
        ),
        proof="angle_decay",
    ),
)
