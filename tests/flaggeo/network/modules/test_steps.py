"""Which changes of basis the steps between two maps allow."""

import pytest

from flaggeo.network import Symmetry
from flaggeo.network.modules.steps import (
    Filter,
    Function,
    Gate,
    Norm,
    Scale,
    allowed_between,
    allowed_on_the_way,
    along,
    meet,
)

LAYER, BATCH = Norm("layer", 8, "gain"), Norm("batch", 8, "gain")
RELU, GELU, TANH = Function("relu"), Function("gelu"), Function("tanh")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], (Symmetry.GENERAL_LINEAR, False)),
        ([RELU], (Symmetry.SCALED_PERMUTATION, False)),
        ([RELU, TANH], (Symmetry.SIGNED_PERMUTATION, False)),
        ([RELU, GELU], (Symmetry.PERMUTATION, False)),
        ([LAYER], (Symmetry.ORTHOGONAL, False)),
        ([LAYER, RELU], (Symmetry.SCALED_PERMUTATION, False)),  # the gain takes the scales over
        ([BATCH], (Symmetry.SCALED_PERMUTATION, False)),
        ([Filter("kernel", 8), GELU], (Symmetry.PERMUTATION, False)),
        ([Function("silu"), Gate()], (Symmetry.SCALED_PERMUTATION, False)),
        ([Function("erf")], (Symmetry.GENERAL_LINEAR, True)),
        ([Function("erf"), RELU], (Symmetry.SCALED_PERMUTATION, True)),
        ([Scale("gamma")], (Symmetry.GENERAL_LINEAR, False)),
    ],
)
def test_all_steps_of_a_space_between_two_maps_count(steps, expected):
    assert allowed_between(steps) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([LAYER, GELU], Symmetry.ORTHOGONAL),  # what lies behind a norm does not see the stream's coordinates
        ([BATCH, GELU], Symmetry.SCALED_PERMUTATION),
        ([RELU, LAYER], Symmetry.SIGNED_PERMUTATION),
        ([Filter("kernel", 8), LAYER], Symmetry.SCALED_PERMUTATION),
        ([], Symmetry.GENERAL_LINEAR),
    ],
)
def test_what_reads_a_stream_through_a_norm_sees_no_more_than_the_norm_does(steps, expected):
    assert allowed_on_the_way(steps) == (expected, False)


def test_meeting_groups():
    orthogonal, scaled = (Symmetry.ORTHOGONAL, False), (Symmetry.SCALED_PERMUTATION, False)
    assert meet([]) == (Symmetry.GENERAL_LINEAR, False)
    assert meet([orthogonal, scaled]) == meet([scaled, orthogonal]) == (Symmetry.SIGNED_PERMUTATION, False)
    assert meet([orthogonal, (Symmetry.GENERAL_LINEAR, True)]) == (Symmetry.ORTHOGONAL, True)


def test_a_norm_of_another_axis_is_not_understood():
    assert along([LAYER, RELU], 8) == (LAYER, RELU)
    assert along([LAYER, RELU], 4, 16) == (Function("layer norm of another axis"), RELU)
    assert allowed_between(along([LAYER], 4)) == (Symmetry.GENERAL_LINEAR, True)
