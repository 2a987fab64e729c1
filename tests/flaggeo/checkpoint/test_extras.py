import json

import pytest

from flaggeo.checkpoint import CheckpointError
from flaggeo.checkpoint.extras import required


def test_a_library_that_is_there_is_imported(tmp_path):
    assert required("json", "none", tmp_path) is json


def test_one_that_is_not_says_how_to_install_it(tmp_path):
    with pytest.raises(CheckpointError, match=r'x\.h5: expected absent_library, .* pip install "flaggeo\[keras\]"$'):
        required("absent_library", "keras", tmp_path / "x.h5")
