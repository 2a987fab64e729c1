import json
from dataclasses import fields

import numpy as np
import pytest

from flaggeo import Settings, analyze, load
from flaggeo.settings import MEASUREMENTS, Options, given_options
from tests.builders import CONFIG, tiny_llama

#: A value of each option that is none of its default.
OTHER = {
    "rank": 3,
    "roles": ("q", "up", "down"),
    "layers": (0, 1),
    "fold_norms": True,
    "draws": 2,
    "seed": 5,
    "measure": ("continuity", "pairs", "heads"),
}


def test_every_option_can_be_given_and_comes_back_from_its_record():
    names = [option.name for option in fields(Settings)]
    assert names == list(Options.__annotations__) == list(OTHER)
    for settings in (Settings(), Settings(**OTHER)):
        assert Settings.from_record(json.loads(json.dumps(settings.record()))) == settings
    assert all(getattr(Settings(), name) != value for name, value in OTHER.items())
    with pytest.raises(ValueError, match="settings that this version knows; found beauty"):
        Settings.from_record({"beauty": 1})


def test_options_have_one_normal_form():
    settings = Settings(rank=np.int64(4), roles=["up", "q"], layers=iter([3, 1, 3]), fold_norms=1, measure="heads")
    assert settings == Settings(rank=4, roles=("q", "up"), layers=(1, 3), fold_norms=True, measure=("heads",))
    assert [type(value) for value in (settings.rank, settings.fold_norms)] == [int, bool]
    assert Settings(roles="q").roles == ("q",)


def test_all_is_every_measurement_and_statistics_bring_what_they_are_of():
    assert Settings(measure="all").measure == MEASUREMENTS
    assert Settings(measure="structure").measure == ("pairs", "structure")
    assert Settings(measure=["stability"]).measure == ("pairs", "structure", "stability")
    assert Settings(measure=["spectra", "heads"]).measure == ("heads", "spectra")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"rank": 0}, "rank: expected a whole number of at least 1; got 0"),
        ({"rank": 2.5}, "rank: expected a whole number of at least 1; got 2.5"),
        ({"rank": True}, "rank: expected a whole number .* got True"),
        ({"rank": None}, "rank: expected a whole number .* got None"),
        ({"draws": -1}, "draws: expected a whole number of at least 0; got -1"),
        ({"seed": "one"}, "seed: expected a whole number of at least 0; got 'one'"),
        ({"fold_norms": 2}, "fold_norms: expected True or False; got 2"),
        ({"roles": ["nose"]}, "roles: expected some of embed, q, .*; got nose"),
        ({"roles": []}, "roles: expected some of .*; got none"),
        ({"layers": []}, "layers: expected some layers; got none"),
        ({"layers": "3-1"}, "layers: expected numbers and ranges as in 0-5,8; found '3-1'"),
        ({"layers": "0-999999999999"}, "layers: expected a whole number from 0 to 9999; got 10000"),
        ({"layers": [-1]}, "layers: expected a whole number from 0 to 9999; got -1"),
        ({"layers": range(10**15)}, "layers: expected a whole number from 0 to 9999; got 10000"),
        ({"measure": ["beauty"]}, f"measure: expected some of {', '.join(MEASUREMENTS)}; got beauty"),
    ],
)
def test_an_option_out_of_range_is_named_with_what_was_expected(option, message):
    with pytest.raises(ValueError, match=message):
        Settings(**option)


def test_what_was_given_is_told_apart_from_what_was_not():
    assert given_options(None, {}) == {}
    assert given_options(None, {"seed": 0, "fold_norms": False, "roles": None}) == {
        "seed": 0,
        "fold_norms": False,
        "roles": None,
    }
    assert given_options(Settings(), {}) == vars(Settings())
    with pytest.raises(TypeError, match="expected settings or single options; got settings and rank"):
        given_options(Settings(), {"rank": 3})
    with pytest.raises(TypeError, match=r"rank, roles, .*; got 'beauty'"):
        given_options(None, {"beauty": 1})
    with pytest.raises(TypeError, match="such as rank; got 'rankk'"):
        given_options(None, {"rankk": 1})


def test_a_rank_is_limited_by_each_weight_and_refused_above_all_of_them():
    network = load(tiny_llama(), config=CONFIG)
    chosen = Settings(rank=22, roles=["q", "k"]).chosen(network)
    assert Settings(rank=19, roles=["q", "k"]).remarks(chosen) == []
    (remark,) = Settings(rank=22, roles=["q", "k"]).remarks(chosen)
    assert "k (20)" in remark
    assert "q (24)" not in remark
    with pytest.raises(ValueError, match=r"rank: expected at most 24, .*; got 25"):
        Settings(rank=25).chosen(network)
    with pytest.raises(ValueError, match=r"rank: expected at most 20, .*; got 21"):
        Settings(rank=21, roles=["k"]).chosen(network)
    analysis = analyze(network, rank=22, measure=("pairs", "heads"))
    kept = analysis.weights.set_index("name")["rank"]
    assert [kept[f"layers.0.{name}"] for name in ("q", "k", "k.heads.0")] == [22, 20, 10]
    assert "heads of q (10), k (20), heads of k (10)" in analysis.provenance["remarks"][-1]
    assert analysis.pairs["overlap"].notna().all()


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        (3, (3,)),
        (np.int64(3), (3,)),
        ("0-2, 5", (0, 1, 2, 5)),
        ("7", (7,)),
        ([2, 1], (1, 2)),
        (np.array([2, 1]), (1, 2)),
        (np.array(4), (4,)),
    ],
)
def test_layers_are_given_as_numbers_or_in_words(given, layers):
    assert Settings(layers=given).layers == layers


def test_roles_and_measurements_are_given_as_names_or_in_words():
    assert Settings(roles="k, q").roles == Settings(roles=["k", "q"]).roles == ("q", "k")
    assert Settings(measure="spectra,heads").measure == ("heads", "spectra")
