import pytest

from flaggeo.checkpoint.foreign.inflation import require_plausible


@pytest.mark.parametrize(("claimed", "stored"), [(2**24, 1), (100 * 2**20, 2**20), (2**40, 2**34), (0, 0)])
def test_what_compression_can_do_is_allowed(claimed, stored):
    require_plausible(claimed, stored)


@pytest.mark.parametrize(("claimed", "stored"), [(2**24 + 1, 1), (100 * 2**20 + 1, 2**20), (2**40, 2**33)])
def test_what_it_cannot_is_refused(claimed, stored):
    with pytest.raises(ValueError, match=f"claim {claimed} bytes, .* 100 times the file's {stored}"):
        require_plausible(claimed, stored)
