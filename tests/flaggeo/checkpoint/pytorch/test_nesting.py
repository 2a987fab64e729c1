import pytest

from flaggeo.checkpoint.pytorch.nesting import state_dict_in


def test_the_outermost_state_dict_is_taken_as_it_is():
    found = state_dict_in({"a": 1.0, "b": 2.0, "note": "x"}, float)
    assert (found.tensors, found.place, found.left_out) == ({"a": 1.0, "b": 2.0}, (), ("note",))
    assert found.metadata == {"left out": "note"}


def test_a_tensor_called_like_a_wrapper_is_a_tensor():
    assert state_dict_in({"model": 1.0}, float).tensors == {"model": 1.0}


def test_names_that_are_no_strings_are_left_out():
    assert state_dict_in({0: 1.0, "a": 2.0}, float).left_out == ("0",)


def test_a_nest_that_holds_itself_ends():
    nest = {}
    nest["model"] = nest
    with pytest.raises(ValueError, match=r"no tensor among its entries \(model\)"):
        state_dict_in(nest, float)


def test_many_entries_are_counted():
    found = state_dict_in({"a": 1.0} | dict.fromkeys("bcdefg"), float)
    assert found.metadata["left out"] == "b, c, d, e and 2 more"
