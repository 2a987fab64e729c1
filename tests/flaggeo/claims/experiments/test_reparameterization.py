"""Dimensions before and after a change of basis."""

import pytest

from flaggeo.claims.experiments.reparameterization import ReparameterizationExperiment


@pytest.mark.parametrize(("rotation", "rows"), [(True, 0.0), (False, -2.0)])
def test_a_general_map_parts_image_and_rows_and_leaves_image_and_kernel(rotation, rows):
    experiment = ReparameterizationExperiment("one", "one", rotation)
    found = experiment.run(device="cpu", progress=lambda *_: None)
    assert found == {"image_kernel_change": (0.0,) * 5, "image_rows_change": (rows,) * 5}
