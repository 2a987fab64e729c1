"""A run that is stopped at any point and goes on from one of its saves."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from flaggeo import Monitor, ResultError
from flaggeo.training.monitor.records import SCHEMAS, has_ended, read_provenance, read_record, steps_in
from flaggeo.training.monitor.traced import monitored_trace
from tests.builders import HIDDEN, LAYERS, WIDTH
from tests.flaggeo.training.monitor.builders import llama, module_of

PAIR = ("layers.0.up.read", "layers.1.gate.read")
OPTIONS = {"every": 2, "rank": 4, "roles": ("gate", "up"), "updates": False, "pairs": [PAIR]}


# Directions that are followed are within 0.06 degrees of the true ones, in either run.
TOLERANCE = {"drift": 0.12, "continuity": 0.0021, "weights": 0}


def large():
    """A weight whose directions are followed from record to record."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(2, 640, 6, generator=generator, dtype=torch.float64)).Q
    matrix = left[:560] * torch.tensor([9.0, 7, 5, 4, 3, 2]).double() @ right.mT
    return module_of({f"model.layers.{layer}.mlp.up_proj.weight": matrix for layer in range(2)})


def moved(module, step):
    """Take the step of this number, which is the same whoever takes it."""
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data.add_(parameter.grad, alpha=0.01)


def watched(module, folder, first, last, **options):
    """Make some steps, and leave the monitor open, as in a process that is killed."""
    monitor = Monitor(module, folder, **(OPTIONS | options))
    for step in range(first + 1, last + 1):
        moved(module, step)
        monitor.step()
    return monitor


def module_at(step, made=llama):
    module = made()
    for number in range(1, step + 1):
        moved(module, number)
    return module


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a run leaves that is killed after step 7."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    watched(llama(), folder, 0, 7)
    return folder


@pytest.fixture
def run(left, tmp_path):
    return Path(shutil.copytree(left, tmp_path / "run"))


@pytest.mark.parametrize("reference", [0, 3])
def test_a_run_that_goes_on_has_the_records_of_one_that_was_never_stopped(tmp_path, reference):
    options = {"reference": reference, "updates": True, "gradients": True}
    watched(llama(), tmp_path / "whole", 0, 7, **options).close()
    watched(llama(), tmp_path / "run", 0, 5, **options)
    watched(module_at(2), tmp_path / "run", 2, 7, start=2, **options).close()
    assert steps_in(tmp_path / "run") == steps_in(tmp_path / "whole") == [0, 2, 4, 6, 7]
    for step in steps_in(tmp_path / "run"):
        first, second = (read_record(tmp_path / one, step) for one in ("run", "whole"))
        for name in SCHEMAS:
            pd.testing.assert_frame_equal(first[name], second[name], rtol=1e-12, atol=1e-12)
    assert has_ended(tmp_path / "run")
    assert read_provenance(tmp_path / "run")["continued"] == [2]
    assert any("from a save at step 2" in remark for remark in monitored_trace(tmp_path / "run").provenance["remarks"])


def test_directions_that_are_followed_begin_anew_within_their_tolerance(tmp_path):
    """0.06 degrees for each direction, and the vectors that look for new ones are others."""
    options = {"roles": None, "pairs": ()}
    watched(large(), tmp_path / "whole", 0, 4, **options)
    watched(large(), tmp_path / "run", 0, 3, **options)
    watched(module_at(2, large), tmp_path / "run", 2, 4, start=2, **options)
    run, whole = (read_record(tmp_path / one, 4) for one in ("run", "whole"))
    for name, columns in {
        "drift": ["angle_1", "rms_angle", "since_step"],
        "continuity": ["abs_cos_1", "overlap"],
        "weights": ["sigma_max", "stable_rank"],
    }.items():
        assert len(run[name])
        pd.testing.assert_frame_equal(run[name][columns], whole[name][columns], rtol=1e-5, atol=TOLERANCE[name])


def test_a_save_between_two_records_is_one_more_and_the_spacing_stays(run):
    watched(module_at(5), run, 5, 8, start=5)
    assert steps_in(run) == [0, 2, 4, 5, 6, 8]
    previous = read_record(run, 6)["drift"].query("since == 'previous'")
    assert set(previous["since_step"]) == {5}
    assert set(read_record(run, 5)["drift"]["since"]) == {"first"}


def test_the_spacing_of_a_run_that_used_up_its_budget_goes_on(tmp_path, left):
    cells = sum(table.size for table in read_record(left, 6).values())
    options = {"every": 1, "budget": int(5.5 * cells)}
    with pytest.warns(UserWarning, match="are 2 steps apart"):
        watched(llama(), tmp_path, 0, 5, **options)
    monitor = watched(module_at(4), tmp_path, 4, 7, start=4, **options)
    assert monitor.recorded == steps_in(tmp_path) == [0, 2, 4, 6]


def test_a_run_that_had_ended_goes_on(tmp_path):
    watched(llama(), tmp_path, 0, 3).close()
    watched(module_at(3), tmp_path, 3, 4, start=3)
    assert not has_ended(tmp_path)
    assert steps_in(tmp_path) == [0, 2, 3, 4]


def test_what_a_failing_machine_leaves_is_removed(run):
    (run / "step-000000000002" / "drift.parquet").write_bytes(b"")
    unfinished = run / ".step-000000000008.flaggeo-new-abc"
    unfinished.mkdir()
    with pytest.warns(UserWarning, match="cannot be read were removed, of the steps 2$"):
        watched(module_at(4), run, 4, 6, start=4)
    assert steps_in(run) == [0, 4, 6]
    assert not unfinished.exists()


def one_layer_less():
    last = f"layers.{LAYERS - 1}."
    return module_of({name: one for name, one in llama().named_parameters() if last not in name})


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (one_layer_less, {}, f"of another model: there layers.{LAYERS - 1}.* is of shape .*, here it is missing"),
        (lambda: module_at(4), {"rank": 3}, "were made with rank=4; got 3"),
        (lambda: module_at(4), {"every": 3}, "were made with every=2; got 3"),
        (lambda: module_at(4), {"pairs": []}, "were made with pairs=.*; got "),
        (lambda: llama(seed=1), {}, "expected the weights of step 4 that are recorded there"),
        (lambda: module_at(4), {"start": 0}, "expected a new or empty folder.* or give the step of the model"),
    ],
)
def test_what_is_another_run_is_refused_in_one_line_and_nothing_is_touched(run, module, options, message):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises((ValueError, FileExistsError), match=message) as error:
        Monitor(module(), run, **(OPTIONS | {"start": 4} | options))
    assert str(run) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-20]),
        lambda file: save_file({"layers.0.up.origin": torch.zeros(2, dtype=torch.int64)}, file),
        lambda file: save_file(
            {
                "layers.0.up.origin": torch.zeros(2, dtype=torch.int64),
                "layers.0.up.read": torch.zeros(WIDTH + 1, 4),
                "layers.0.up.write": torch.zeros(HIDDEN, 4),
            },
            file,
        ),
        lambda file: save_file({"layers.0.up.origin": torch.zeros(5, dtype=torch.int64)}, file),
    ],
)
def test_a_damaged_reference_is_named(run, spoil):
    spoil(run / "reference.safetensors")
    with pytest.raises(ResultError, match=r"reference\.safetensors") as error:
        Monitor(module_at(4), run, **OPTIONS, start=4)
    assert len(str(error.value).splitlines()) == 1


def spoil_provenance(folder, spoilt):
    record = json.loads((folder / "monitor.json").read_text())
    record["provenance"] |= spoilt
    (folder / "monitor.json").write_text(json.dumps(record))


@pytest.mark.parametrize("spoilt", [{"weights": 3}, {"settings": None}])
def test_a_provenance_that_makes_no_sense_is_that_of_another_run(run, spoilt):
    spoil_provenance(run, spoilt)
    with pytest.raises(ValueError, match="another"):
        Monitor(module_at(4), run, **OPTIONS, start=4)


@pytest.mark.parametrize("spoilt", [{"spacing": "often"}, {"spacing": -1}, {"continued": {"a": 1}}])
def test_notes_that_make_no_sense_are_passed_over(run, spoilt):
    spoil_provenance(run, spoilt)
    assert watched(module_at(4), run, 4, 6, start=4).recorded == [0, 2, 4, 6]
    assert read_provenance(run)["continued"] == [4]
