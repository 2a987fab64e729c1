import json
import sys

import pytest
import torch
from typer.testing import CliRunner

from flaggeo import Monitor, Trace, analyze, load
from flaggeo.cli import app
from flaggeo.cli.terminal import UNREADABLE, USAGE
from flaggeo.findings import trace_findings
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.tracing.planted_run import SHARES, STEPS, checkpoint
from tests.flaggeo.training.monitor.builders import assign, module_of

run = CliRunner().invoke
RUN = list(zip(STEPS, SHARES, strict=True))[::2]  # steps 0, 200 and 1000


@pytest.fixture
def training(tmp_path):
    for step, share in RUN:
        save_folder(tmp_path / "run" / f"checkpoint-{step}", checkpoint(share))
    return tmp_path / "run"


def test_a_run_is_traced_in_the_order_of_its_steps(training, tmp_path):
    out = tmp_path / "out"
    result = run(app, ["trace", str(training), "-o", str(out), "-k", "3"])
    assert result.exit_code == 0, result.stderr
    records = trace_findings(Trace.load(out))
    assert {record.kind for record in records} >= {"continuity_change", "drift"}
    assert all(record.sentence in " ".join(result.stdout.split()) for record in records)
    assert str(out / "trace.html") in result.stdout
    assert {file.name for file in out.iterdir()} == Trace.file_names()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_json_goes_to_standard_output_alone_and_quiet_prints_nothing(training, tmp_path):
    sources = [str(training / f"checkpoint-{step}") for step in (1000, 200, 0)]
    command = ["trace", *sources, "-o", str(tmp_path / "out"), "--roles", "q, up", "--layers", "0-2"]
    record = json.loads(run(app, [*command, "--format", "json"]).stdout)
    assert [item["step"] for item in record["checkpoints"]] == [0, 200, 1000]
    assert {row["role"] for row in record["summary"]} == {"q", "up"}
    assert {"kind", "verdict", "numbers", "place", "sentence"} == set(record["findings"][0])
    again = run(app, command)
    assert (again.exit_code, again.stdout) == (USAGE, "")
    assert "found an existing one" in again.stderr
    quiet = run(app, [*command, "--overwrite", "--quiet"])
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_an_interrupted_trace_continues_where_it_stopped(training, tmp_path, monkeypatch):
    from flaggeo import engine

    original, calls = engine.leading_spectrum, []
    second_layer = checkpoint(RUN[1][1])["model.layers.1.mlp.up_proj.weight"]  # of the second checkpoint

    def interrupt(matrix, rank, **options):
        calls.append(matrix)
        if interrupted and torch.equal(matrix.double(), second_layer):
            raise KeyboardInterrupt
        return original(matrix, rank, **options)

    interrupted = True
    monkeypatch.setattr(engine, "leading_spectrum", interrupt)
    command = ["trace", str(training), "-o", str(tmp_path / "out")]
    result = run(app, command)
    assert (result.exit_code, "continues where this one stopped" in result.stderr) == (130, True)
    assert not (tmp_path / "out").exists()
    interrupted = False
    calls.clear()
    assert run(app, command).exit_code == 0
    # A checkpoint has 23 weights: those of the first are kept, and of the second its embedding and its first layer.
    assert len(calls) == 3 * 23 - 23 - 1 - 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "0"], "rank: expected a whole number of at least 1; got 0"),
        (["--draws", "-1"], "draws: expected a whole number of at least 0; got -1"),
        (["--device", "toaster"], "--device: expected a device"),
        (["--layers", "7"], "expected layers from 0 to 2; got 7"),
        (["--roles", "nose"], "roles: expected some of embed, q"),
    ],
)
def test_what_is_wrong_with_the_command_exits_with_2(training, tmp_path, options, message):
    result = run(app, ["trace", str(training), "-o", str(tmp_path / "out"), *options])
    assert result.exit_code == USAGE
    assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_one_checkpoint_is_no_run(training, tmp_path):
    result = run(app, ["trace", str(training / "checkpoint-0"), "-o", str(tmp_path / "out")])
    assert result.exit_code == USAGE
    assert "expected at least 2 checkpoints" in result.stderr


def test_two_that_do_not_belong_together_exit_with_2_and_unreadable_ones_with_3(training, tmp_path):
    output = ["-o", str(tmp_path / "out")]
    save_folder(training / "checkpoint-2000", tiny_llama(layers=2), config={"model_type": "llama"})
    result = run(app, ["trace", str(training), *output])
    assert result.exit_code == USAGE
    assert "checkpoint-2000: weight 'layers.2.q': expected the shape 40x24" in result.stderr
    broken = checkpoint(0.0)
    broken["model.layers.2.mlp.up_proj.weight"] = torch.full((40, 24), torch.nan)
    save_folder(training / "checkpoint-2000", broken)
    result = run(app, ["trace", str(training), *output, "--roles", "up"])
    assert (result.exit_code, "expected finite numbers" in result.stderr) == (UNREADABLE, True)
    result = run(app, ["trace", str(training / "nowhere"), str(training), *output])
    assert (result.exit_code, "found nothing at this path" in result.stderr) == (UNREADABLE, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_what_never_changes_has_a_dash_for_the_step(tmp_path):
    same = [str(save_folder(tmp_path / name, tiny_llama())) for name in ("before", "after")]
    result = run(app, ["trace", *same, "-o", str(tmp_path / "out"), "--roles", "q", "--rank", "2"])
    milestones = Trace.load(tmp_path / "out").milestones
    assert milestones["half_step"].isna().all()
    assert [line.split()[-1] for line in result.stdout.splitlines() if line.startswith(" q ")] == ["–"]


def test_a_folder_without_checkpoints_is_named(tmp_path):
    result = run(app, ["trace", str(tmp_path)])
    assert (result.exit_code, f"found none in {tmp_path}" in result.stderr) == (USAGE, True)


def test_a_trace_never_replaces_an_analysis(training, tmp_path):
    analyze(load(training / "checkpoint-0"), rank=2).save(tmp_path / "saved")
    result = run(app, ["trace", str(training), "-o", str(tmp_path / "saved"), "--overwrite"])
    assert result.exit_code == USAGE
    assert "found also 'bases.safetensors'" in result.stderr


def test_norms_are_folded_on_request(training, tmp_path):
    arguments = ["trace", str(training), "-o", str(tmp_path / "out"), "--roles", "q", "--rank", "2", "--fold-norms"]
    record = json.loads(run(app, [*arguments, "--format", "json"]).stdout)
    assert record["provenance"]["settings"]["fold_norms"] is True


@pytest.fixture
def monitored(tmp_path):
    module = module_of(checkpoint(RUN[0][1]))
    with Monitor(module, tmp_path / "run", every=1, rank=3) as monitor:
        for _, share in RUN[1:]:
            assign(module, checkpoint(share))
            monitor.step()
    return tmp_path / "run"


def test_the_folder_of_a_monitor_makes_the_page(monitored, tmp_path):
    result = run(app, ["trace", str(monitored), "-o", str(tmp_path / "out"), "--watch"])
    assert result.exit_code == 0, result.stderr
    assert Trace.load(tmp_path / "out").checkpoints["step"].tolist() == [0, 1, 2]
    again = run(app, ["trace", str(monitored), "-o", str(tmp_path / "other"), "--rank", "2"])
    assert (again.exit_code, "expected no --rank" in again.stderr) == (USAGE, True)


def test_a_damaged_record_is_one_line(monitored, tmp_path):
    (monitored / "step-000000000001" / "weights.parquet").write_bytes(b"PAR1 and no more")
    result = run(app, ["trace", str(monitored), "-o", str(tmp_path / "out")])
    assert (result.exit_code, result.stdout) == (UNREADABLE, "")
    assert "step-000000000001" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_only_the_folder_of_a_monitor_is_watched(training, tmp_path):
    result = run(app, ["trace", str(training), "-o", str(tmp_path / "out"), "--watch"])
    assert (result.exit_code, "--watch: expected the folder of a monitor" in result.stderr) == (USAGE, True)


def test_a_run_is_watched_until_it_ends(tmp_path, monkeypatch):
    """Each time that it would wait, the run makes one step; it ends after the last."""
    module = module_of(checkpoint(0))
    monitor = Monitor(module, tmp_path / "run", every=1, rank=3)
    pages, shares = [], [0.2, 0.6, 1.0]

    def go_on(_):
        if (tmp_path / "out").exists():
            pages.append(Trace.load(tmp_path / "out").checkpoints["step"].tolist())
        if not shares:
            monitor.close()
            return
        assign(module, checkpoint(shares.pop(0)))
        monitor.step()

    monkeypatch.setattr(sys.modules["flaggeo.cli.trace"], "sleep", go_on)
    result = run(app, ["trace", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--watch"])
    assert result.exit_code == 0, result.stderr
    assert pages == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert result.stdout.count("page:") == 1
