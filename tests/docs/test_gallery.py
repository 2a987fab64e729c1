"""The gallery of pages, on the smallest of its models."""

import pytest

from docs.build.gallery import MODELS, gallery_page, write_gallery


def test_every_entry_links_to_what_is_written_for_it():
    page = gallery_page()
    for model in MODELS:
        assert f'href="{model.name}.html"' in page
        assert f"{{image}} gallery/{model.name}.png" in page


@pytest.mark.slow
def test_a_model_becomes_a_page_and_a_picture(minilm_folder, tmp_path):
    (minilm,) = [model for model in MODELS if model.name == "minilm"]
    assert minilm.path().parent == minilm_folder
    write_gallery(tmp_path / "gallery", (minilm,))
    page = (tmp_path / "gallery" / "minilm.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "6 layers" in page
    assert (tmp_path / "gallery" / "minilm.png").read_bytes().startswith(b"\x89PNG")
