"""The texts are long enough for the sequences that are cut from them, and read like what they are."""

import pytest

from flaggeo.claims.function.texts import TEXTS
from flaggeo.training.tasks import library_source


@pytest.mark.parametrize(
    ("name", "telling"), [("documentation", ["statement", "expression"]), ("source", ["def ", "return "])]
)
def test_a_text_is_long_and_of_its_kind(name, telling):
    text = TEXTS[name]()
    assert len(text) > 400_000
    assert all(text.count(word) > 100 for word in telling)


def test_source_has_the_length_asked_for_and_too_much_is_an_error():
    assert library_source(1000) == library_source(5000)[:1000]
    with pytest.raises(FileNotFoundError, match="expected 1000000000 bytes of source"):
        library_source(10**9)
