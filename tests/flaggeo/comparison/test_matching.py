import pytest
import torch

from flaggeo import MismatchError, Settings, analyze, compare, load, trace
from tests.builders import CONFIG, VOCABULARY, WIDTH, save_folder, tiny_llama, with_gains
from tests.flaggeo.test_settings import OTHER


def test_another_vocabulary_is_skipped_with_a_remark():
    base, other = tiny_llama(), tiny_llama()
    other["model.embed_tokens.weight"] = torch.randn(VOCABULARY + 3, WIDTH)
    del other["lm_head.weight"]
    comparison = compare(base, other, rank=2)
    assert comparison.skipped["name"].tolist() == ["embed", "unembed"]
    assert "24x50" in comparison.skipped["reason"][0]
    assert "24x53" in comparison.skipped["reason"][0]
    assert "no such weight" in comparison.skipped["reason"][1]
    assert not {"embed", "unembed"} & set(comparison.weights["name"])


def test_the_first_difference_is_named(tmp_path):
    save_folder(tmp_path / "base", tiny_llama())
    wider = tiny_llama()
    for layer in range(3):
        for name, axis in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            key = f"model.layers.{layer}.mlp.{name}.weight"
            wider[key] = torch.cat([wider[key], wider[key]], dim=axis)
    save_folder(tmp_path / "wider", wider)
    message = r"wider: weight 'layers\.0\.gate': expected the shape 40x24 as in .*base, found the shape 80x24"
    with pytest.raises(MismatchError, match=message):
        compare(tmp_path / "base", tmp_path / "wider")
    shallow = {name: tensor for name, tensor in tiny_llama().items() if "layers.2." not in name}
    with pytest.raises(MismatchError, match=r"'layers\.2\.q': expected the shape 40x24 .* found no such weight"):
        compare(tiny_llama(), shallow)
    with pytest.raises(MismatchError, match=r"state dict: layers: expected layers from 0 to 2; got 9"):
        compare(tiny_llama(), tiny_llama(), layers=[9])


def test_a_saved_analysis_sets_the_settings_and_contradictions_are_named(tmp_path):
    network = load(tiny_llama(), config=CONFIG)
    analyze(network, rank=3, roles=["q", "o"], layers=[1, 2]).save(tmp_path / "saved")
    comparison = compare(tmp_path / "saved", network)
    assert set(comparison.weights["name"]) == {"layers.1.q", "layers.1.o", "layers.2.q", "layers.2.o"}
    assert comparison.settings.rank == 3
    named = f"^{tmp_path / 'saved'}: expected an analysis with rank 4, found 3"
    for measured in (compare, lambda *sources, **options: trace(sources, **options)):
        with pytest.raises(MismatchError, match=named):
            measured(tmp_path / "saved", network, rank=4)
    other = analyze(network, rank=2, roles=["q", "o"], layers=[1, 2])
    with pytest.raises(MismatchError, match=r"expected an analysis with rank 3, found 2"):
        compare(tmp_path / "saved", other)


def test_folding_follows_the_saved_analysis_and_is_never_mixed(tmp_path):
    network = load(with_gains(tiny_llama()), config=CONFIG)
    plain, folded = (analyze(network, rank=3, roles=["q", "o"], fold_norms=fold_norms) for fold_norms in (False, True))
    folded.save(tmp_path / "folded")
    for saved, fold_norms in ((plain, False), (folded, True), (tmp_path / "folded", True)):
        comparison = compare(saved, network)
        assert comparison.weights["geodesic_distance"].max() < 1e-5
        assert comparison.settings.fold_norms is fold_norms
    with pytest.raises(MismatchError, match=r"expected an analysis with fold_norms False, found True"):
        compare(plain, tmp_path / "folded")
    with pytest.raises(MismatchError, match=r"expected an analysis with fold_norms False, found True"):
        compare(tmp_path / "folded", network, fold_norms=False)


@pytest.fixture(scope="module")
def saved():
    """An analysis with no option at its default."""
    return analyze(load(tiny_llama(), config=CONFIG), **OTHER)


@pytest.mark.parametrize("option", OTHER)
@pytest.mark.parametrize("measured", [compare, lambda *sources, **options: trace(sources, **options)])
def test_every_option_that_is_given_is_held_against_the_saved_analysis(saved, option, measured):
    default = getattr(Settings(), option)
    with pytest.raises(MismatchError, match=f"expected an analysis with {option} .*, found "):
        measured(saved, saved, **{option: default})
    assert measured(saved, saved, **{option: OTHER[option]}).settings == Settings(**OTHER)


def test_settings_given_whole_are_all_given(saved):
    assert compare(saved, saved, Settings(**OTHER)).settings == saved.settings
    with pytest.raises(MismatchError, match="expected an analysis with seed 0, found 5"):
        compare(saved, saved, Settings(**OTHER | {"seed": 0}))
    with pytest.raises(TypeError, match="expected settings or single options"):
        compare(saved, saved, Settings(), rank=3)
