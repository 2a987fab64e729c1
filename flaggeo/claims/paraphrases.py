"""What the two papers claim, point by point in our own words, and the records that answer each."""

from dataclasses import dataclass

from . import alignment, continuity


@dataclass(frozen=True)
class Paraphrase:
    """One point of a paper.

    Attributes
    ----------
    number : int
        By which other texts refer to it; it stays when others come and go.
    section : str
        Where the paper says it.
    sentence : str
        In our own words.
    claims : tuple of str
        Names of the records that answer it. What verdict they have follows from what is measured.
    proofs : tuple of str
        Names of the statements in `proofs` that prove, bound or refute it.
    """

    number: int
    section: str
    sentence: str
    claims: tuple[str, ...]
    proofs: tuple[str, ...] = ()


#: By title of the paper.
PARAPHRASES = {
    alignment.TITLE: (
        Paraphrase(
            1,
            "abstract",
            "Geometric invariant theory gives alignment a distinguished closed and polystable stratum, and this "
            "stratum is a flag variety.",
            ("non_polystable_descent",),
            ("closed_orbit", "kempf_ness_minimum", "isospectral_flag", "nested_pairs_polystable"),
        ),
        Paraphrase(
            2,
            "abstract",
            "The dimension in which two subspaces meet is the only observable that no reparameterization changes, so "
            "that subspaces have to be compared by it and not by convention.",
            ("invariant_dimension",),
            ("pairs_of_subspaces", "image_row_intersection", "invariants_are_ranks", "overlap_under_gl"),
        ),
        Paraphrase(
            3,
            "abstract",
            "Ridge drives the subspaces of adjacent layers together exponentially, at a rate that the weight decay "
            "sets.",
            ("imbalance_decay", "containment", "subspaces_align", "ridge_deepens_alignment"),
            ("balance_law", "angle_decay", "no_signal"),
        ),
        Paraphrase(
            4,
            "abstract",
            "Nonlinear activations obstruct the exact alignment of bases by a commutator, which is there in nearly "
            "every nonlinear network and in no linear one.",
            (
                "stationary_imbalance",
                "commutator_is_the_obstruction",
                "no_obstruction_in_linear_networks",
                "noise_keeps_the_subspace",
                "neuron_balance",
            ),
            ("gate_law", "smooth_gate_law", "mask_codimension", "noise_keeps_balance"),
        ),
        Paraphrase(
            5,
            "abstract",
            "Points 3 and 4 together explain why Neural Collapse has levels: subspaces align where bases do not.",
            ("hierarchy", "neural_collapse"),
            ("levels_imply", "neural_collapse_link"),
        ),
        Paraphrase(
            6,
            "abstract",
            "The size of the commutator and the overlap of the subspaces of attention heads show internal alignment "
            "from weights alone, without a forward pass.",
            ("heads_are_balanced", "linked_heads_move", "repeated_heads_are_spared"),
            ("head_balance", "gram_commutator_null", "haar_overlap_moments", "commuting_means_aligned"),
        ),
        Paraphrase(
            7,
            "abstract",
            "Experiments on multilayer perceptrons, residual networks and pretrained language models support these "
            "diagnostics and show where they end.",
            ("hierarchy", "residual_network_diagnostics", "linked_heads_move", "repeated_heads_are_spared"),
        ),
        Paraphrase(
            8,
            "introduction",
            "Three observations call for one explanation: adjacent weights have compatible subspaces, features "
            "collapse late in training, and attention heads become redundant.",
            ("subspaces_align", "neural_collapse", "heads_become_redundant"),
        ),
    ),
    continuity.TITLE: (
        Paraphrase(
            9,
            "equation 4 and section 4",
            "The first condition of continuity is the residual connection: it hands similar error signals to all "
            "layers, so that their gradients are coherent from the first backward pass on.",
            (
                "coherent_gradients",
                "transformer_gradients",
                "no_continuity_without_residuals",
                "transformer_without_residuals",
            ),
            ("residual_gradient", "residual_gradients"),
        ),
        Paraphrase(
            10,
            "section 4 and table 1",
            "The second condition is a nonlinearity, activation or norm, that breaks the rotation symmetry and so "
            "holds all layers in one frame of coordinates.",
            ("activation_gives_continuity", "norm_breaks_symmetry", "relu_with_layernorm", "mnist_table_1"),
            ("relu_symmetry", "layernorm_symmetry", "rmsnorm_symmetry", "coherent_updates_give_continuity"),
        ),
        Paraphrase(
            11,
            "section 4 and figure 2",
            "Without it nothing holds the basis of a layer against rotations, and it drifts: continuity forms and "
            "collapses again, and the gradients stay coherent longer than the weights.",
            ("drift", "formation_and_collapse", "relu_never_collapses", "coherence_gap", "no_gap_with_relu"),
            ("gradient_sum_is_displacement",),
        ),
        Paraphrase(
            12,
            "section 4 and table 1",
            "What counts is the broken symmetry and not the nonlinearity: a radial activation, which commutes with "
            "rotations, does no more than none.",
            ("symmetry_not_nonlinearity",),
            ("radial_activation", "radial_control_nearly_linear"),
        ),
        Paraphrase(
            13,
            "section 4",
            "Between adjacent linear layers the hidden space may be rotated freely. A residual connection breaks this "
            "symmetry only in part, and the loss is found to be nearly flat along it.",
            ("rotations_are_nearly_free",),
            ("plain_layers_rotate", "residual_layers_rotate", "stream_rotates_as_a_whole"),
        ),
        Paraphrase(
            14,
            "table 5",
            "An activation concentrates continuity in the first singular direction, while LayerNorm alone spreads it "
            "over several.",
            ("activation_concentrates",),
        ),
        Paraphrase(
            15,
            "table 5",
            "The sign symmetry of tanh lowers the continuity of what layers read, and its saturation destroys that of "
            "what they write.",
            ("tanh_keeps_reads", "tanh_loses_writes"),
            ("tanh_symmetry",),
        ),
        Paraphrase(
            16,
            "table 3",
            "Gradients are continuous from the beginning. How far weights become so depends on how large the updates "
            "are beside the first weights.",
            ("updates_outgrow_the_start",),
            ("shared_updates_add_up",),
        ),
        Paraphrase(
            17,
            "appendix C",
            "The first direction of a weight follows the gradient smoothed over many steps, not that of a single one.",
            ("smoothed_gradients",),
        ),
        Paraphrase(
            18,
            "section 5 and table 2",
            "In a transformer the projections that read the stream beside a nonlinearity, Q and K (softmax), Gate "
            "(activation) and, tentatively, Up (through its gate), share input directions from layer to layer.",
            ("readers_share_inputs", "pattern_after_more_training", "pretrained_pattern"),
        ),
        Paraphrase(
            19,
            "section 5 and table 2",
            "O and Down, which write the stream and receive what has passed a nonlinearity, share output directions.",
            ("writers_share_outputs", "pattern_after_more_training", "pretrained_pattern"),
        ),
        Paraphrase(
            20,
            "section 5 and table 2",
            "V has no nonlinearity beside it, and stays low.",
            ("values_stay_unrelated", "pattern_after_more_training", "pretrained_pattern"),
        ),
        Paraphrase(
            21,
            "outlook",
            "Continuity says which layers can be pruned.",
            ("similar_layers_are_spared", "influential_layers_are_missed"),
        ),
        Paraphrase(
            22,
            "outlook",
            "Layers can share an input basis for Q, K, Gate and Up and an output basis for O and Down, and nothing for "
            "V.",
            ("layers_can_share_a_basis",),
        ),
        Paraphrase(
            23,
            "outlook",
            "The drift of leading directions could tell early that a model forgets.",
            ("drift_warns_of_forgetting",),
        ),
        Paraphrase(
            24,
            "outlook",
            "Two models could be merged after one of them is moved along the orbit of its symmetries, by changes of "
            "basis that leave its function unchanged.",
            ("merging_along_orbits",),
        ),
        Paraphrase(
            25,
            "outlook",
            "Continuity could be designed into a network.",
            ("continuity_by_design",),
        ),
        Paraphrase(
            26,
            "stated limits",
            "In transformers only Gate was ablated directly, with a single seed; for Q and K the evidence is indirect, "
            "and drift was not measured at scale.",
            ("gate_needs_its_activation", "readers_share_inputs", "drift"),
        ),
    ),
}
