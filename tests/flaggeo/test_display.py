from dataclasses import fields

import pytest
import torch

from flaggeo import Analysis, analyze, compare, load, trace
from tests.builders import CONFIG, save_folder, tiny_llama

HOSTILE = "<img src=x onerror='alert(1)'>\u202e\x1b[2J" + 50 * "long"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """One value of each class, of checkpoints with a hostile name."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [save_folder(folder / f"{HOSTILE}{step}", tiny_llama(), config=CONFIG) for step in (1, 2)]
    network = load(tiny_llama() | {HOSTILE: torch.ones(2)}, config=CONFIG)
    options = {"rank": 2, "roles": ["q"], "measure": ["continuity"]}
    analyses = [analyze(load(path), **options) for path in paths]
    shown_alone = analyze(network, **options)  # a comparison asks for the summaries of its analyses
    values = [load(paths[0]), network, shown_alone, compare(*analyses), trace(analyses)]
    return values, [repr(value) for value in values], [value._repr_html_() for value in values]


def test_a_value_shows_itself_in_a_line(shown):
    values, texts, _ = shown
    for value, text in zip(values, texts, strict=True):
        assert text.startswith(f"{type(value).__name__}(")
        assert len(text) < 1000
        assert text.isprintable()
    assert "family='llama', layers=3, weights=23, heads=12, spaces=" in texts[1]
    assert "layers=3, weights=3, heads=0, rank=2, draws=0" in texts[2]
    assert "checkpoints=2, first_step=0, last_step=1, " in texts[4]


def test_the_heads_of_an_analysis_are_those_of_its_network():
    network = load(tiny_llama(), config=CONFIG)
    analysis = analyze(network, rank=2, measure=["continuity", "heads"])
    assert "weights=23, heads=12, " in repr(analysis)


def test_a_notebook_gets_a_small_table_with_every_name_escaped(shown):
    values, _, pages = shown
    assert "null level" in pages[2] or "carried" in pages[2]  # the cards of an analysis
    for value, page in zip(values, pages, strict=True):
        assert f"<caption>{type(value).__name__}</caption>" in page
        assert len(page) < 20_000
        assert "<img" not in page
        assert page.isprintable()


def test_nothing_is_computed_to_show_a_value_but_the_cards_of_an_analysis_in_a_notebook(shown):
    for value in shown[0]:
        computed = {"findings", "summary"} if isinstance(value, Analysis) else set()
        assert vars(value).keys() == {field.name for field in fields(value)} | computed


def test_a_bar_names_what_is_done_and_how_much(capsys):
    analyze(load(tiny_llama(), config=CONFIG), rank=2, roles=["q"], measure="continuity", progress=True)
    shown = capsys.readouterr().err
    assert "layers: model.layers.0.self_attn.q_proj.weight" in shown
    assert "/5 [" in shown
