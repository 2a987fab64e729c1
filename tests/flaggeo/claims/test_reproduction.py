"""What is written, and what is not measured again."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from math import isnan

import pytest

from flaggeo.claims import Case, Claim, Reproduction, Size, Verdict, reproduction
from flaggeo.claims.reproduction import reproduce
from flaggeo.results.storage import ResultError
from tests.flaggeo.claims.builders import RUNS, Planted

FIRST, SECOND, THIRD = (Planted(name, name) for name in ("first", "second", "third"))


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    """Two claims that share an experiment, in place of the real ones."""
    plant(monkeypatch, FIRST, SECOND, THIRD)
    RUNS.clear()


def plant(monkeypatch, first, second, third):
    known = {
        "one": Claim("one", "sentence", "source", (Case(first, "value", most=1), Case(second, "value", most=1))),
        "two": Claim("two", "sentence", "source", (Case(third, "value", least=0, minus=second),)),
    }
    monkeypatch.setattr(reproduction, "claims", lambda names=None: tuple(known[name] for name in names or known))
    monkeypatch.setattr(reproduction, "every_claim", lambda: tuple(known.values()))


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_each_experiment_is_run_once_and_everything_is_written(tmp_path, monkeypatch, jobs):
    asked = []

    @contextmanager
    def threads(count):
        asked.append(count)
        yield None if count == 1 else ThreadPoolExecutor(count)

    monkeypatch.setattr(reproduction, "executor_of", threads)
    found = reproduce(tmp_path, jobs=jobs)
    assert asked == [min(jobs, 3)]
    assert sorted(RUNS) == ["first", "second", "third"]
    assert [judgement.verdict for judgement in found.judgements] == [Verdict.HOLDS, Verdict.HOLDS]
    assert sorted(path.stem for path in (tmp_path / "experiments").iterdir()) == ["first", "second", "third"]
    assert (tmp_path / "reproduction.json").read_text(encoding="utf-8") == found.to_json()
    assert Reproduction.load(tmp_path / "reproduction.json").to_json() == found.to_json()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    class Interrupted(Planted):
        def run(self, **_):
            raise KeyboardInterrupt

    plant(monkeypatch, FIRST, Interrupted("second", "second"), THIRD)
    with pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path)
    assert not (tmp_path / "reproduction.json").exists()
    plant(monkeypatch, FIRST, SECOND, THIRD)
    reproduce(tmp_path)
    assert RUNS == ["first", "second", "third"]


def test_experiments_take_the_data_set_that_is_given(tmp_path, monkeypatch):
    class Reading(Planted):
        def reading(self, folder):
            return self if folder is None else replace(self, values=(0.0, float(folder.name)))

    plant(monkeypatch, FIRST, Reading("second", "second"), THIRD)
    assert reproduce(tmp_path).measured["second"]["value"] == (0.4, 0.6)
    assert reproduce(tmp_path, data=tmp_path / "7").measured["second"]["value"] == (0.0, 7.0)
    assert RUNS == ["first", "second", "third", "second"]


def test_other_settings_are_measured_and_words_are_no_settings(tmp_path, monkeypatch):
    reproduce(tmp_path)
    RUNS.clear()
    plant(monkeypatch, replace(FIRST, setting="other words"), replace(SECOND, values=(0.0, 1.0)), THIRD)
    found = reproduce(tmp_path)
    assert RUNS == ["second"]
    assert found.measured["second"]["value"] == (0.0, 1.0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"{",
        lambda _: b"[1]",
        lambda record: json.dumps(record | {"schema_version": 99}).encode(),
        lambda record: json.dumps(record | {"numbers": {"value": [0.4]}}).encode(),
        lambda record: json.dumps(record | {"numbers": {"value": [0.4, "0.6"]}}).encode(),
        lambda record: json.dumps(record | {"numbers": {"other": [0.4, 0.6]}}).encode(),
        lambda record: json.dumps(record | {"numbers": None}).encode(),
        lambda record: json.dumps(record | {"device": "cuda"}).encode(),
        lambda record: json.dumps(record).encode() + b" " * (1 << 20),
    ],
)
def test_a_record_that_is_damaged_or_of_another_origin_is_measured_again(tmp_path, damage):
    reproduce(tmp_path)
    RUNS.clear()
    file = tmp_path / "experiments" / "second.json"
    file.write_bytes(damage(json.loads(file.read_text())))
    reproduce(tmp_path)
    assert RUNS == ["second"]


def test_an_undefined_number_stays_undefined(tmp_path, monkeypatch):
    plant(monkeypatch, replace(FIRST, values=(None, 0.5)), SECOND, THIRD)
    assert reproduce(tmp_path).judgements[0].verdict is Verdict.NOT_REPRODUCED
    again = reproduce(tmp_path)
    assert RUNS == ["first", "second", "third"]
    assert isnan(again.measured["first"]["value"][0])
    assert Reproduction.load(tmp_path / "reproduction.json").judgements[0].verdict is Verdict.NOT_REPRODUCED


def test_what_was_saved_is_judged_by_the_claims_as_they_are_now(tmp_path, monkeypatch):
    reproduce(tmp_path, ["one"])
    loaded = Reproduction.load(tmp_path / "reproduction.json")
    assert [claim.name for claim in loaded.claims] == ["one"]
    assert loaded.size is Size.LAPTOP
    stricter = Claim("one", "sentence", "source", (Case(FIRST, "value", most=0.5),))
    monkeypatch.setattr(reproduction, "every_claim", lambda: (stricter,))
    assert Reproduction.load(tmp_path / "reproduction.json").judgements[0].verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema_version": 1}', '{"schema_version": 1, "size": "huge", "versions": {}}']
)
def test_what_is_no_reproduction_is_refused(tmp_path, text):
    (tmp_path / "reproduction.json").write_text(text)
    with pytest.raises(ResultError, match=r"reproduction\.json"):
        Reproduction.load(tmp_path / "reproduction.json")


def test_progress_names_the_experiment(tmp_path):
    told = []
    reproduce(tmp_path, ["two"], progress=lambda *what: told.append(what))
    assert told == [("third (1 of 2)", 1, 1), ("second (2 of 2)", 1, 1)]


class _Resuming(Planted):
    """Leaves a file in its folder, and takes its numbers from there when it is there."""

    def resumed(self, scratch, *, device, progress):
        kept = scratch / "kept"
        if not kept.exists():
            scratch.mkdir(parents=True)
            kept.write_text("")
            raise KeyboardInterrupt
        return self.run(device=device, progress=progress)


def test_an_experiment_goes_on_from_what_it_left(tmp_path, monkeypatch):
    plant(monkeypatch, _Resuming("first", "first"), SECOND, THIRD)
    with pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path)
    assert RUNS == []
    reproduce(tmp_path)
    assert RUNS == ["first", "second", "third"]
