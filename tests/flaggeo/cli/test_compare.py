import json
from math import degrees

import pytest
import torch
from typer.testing import CliRunner

from flaggeo import Comparison, analyze, load
from flaggeo.cli import app
from flaggeo.cli.compare import SHOWN_ROWS
from flaggeo.cli.terminal import DIFFERENT, FAILED, INCOMPLETE, UNREADABLE, USAGE
from flaggeo.findings import Finding, comparison_findings
from tests.builders import save_folder, tiny_llama, with_gains
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter

run = CliRunner().invoke
Q = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def base(tmp_path):
    return str(save_folder(tmp_path / "base", tiny_llama()))


@pytest.fixture
def adapter(tmp_path):
    return str(save_adapter(tmp_path / "adapter", factors_of(tiny_llama(), (Q,))))


def test_an_adapter_is_compared_with_its_base(base, adapter, tmp_path):
    out = tmp_path / "out"
    result = run(app, ["compare", base, adapter, "-o", str(out), "-k", "4"])
    assert result.exit_code == 0, result.stderr
    assert "layers.1.q" in result.stdout
    assert result.stdout.splitlines()[0] == "1 of 27 tensors changed, of rank 3; layer 1."
    assert f"{Q}.weight" in result.stdout
    records = comparison_findings(Comparison.load(out))
    assert {record.kind for record in records} >= {"weight_change", "movement", "low_rank_change"}
    assert all(record.sentence in " ".join(result.stdout.split()) for record in records)
    assert str(out / "comparison.html") in result.stdout
    assert {file.name for file in out.iterdir()} == Comparison.file_names()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base", "out"]


# The columns of a row that pipelines may rely on, and the types of their values.
TENSOR = {
    "version": str,
    "tensor": str,
    "layer": int | None,
    "shape": str,
    "change": str,
    "relative_norm": float,
    "rounding": float,
    "rank": int | None,
    "rank_is_exact": bool,
    "effective_rank": float | None,
    "rank_90": int | None,
    "rank_99": int | None,
    "energy_1": float | None,
    **{f"{side}_{name}": float | None for side in ("read", "write") for name in ("inside", "inside_null")},
}


PART = ["--measure", "continuity", "--roles", "q", "-k", "2"]


def test_pipelines_get_the_same_fields_and_an_exit_code(base, adapter, tmp_path):
    rounded = {name: tensor.bfloat16() for name, tensor in tiny_llama().items()}
    verdicts = {}
    for other, code in ((str(save_folder(tmp_path / "rounded", rounded)), 0), (adapter, DIFFERENT)):
        command = [
            "compare",
            base,
            other,
            "--format",
            "json",
            "--exit-code",
            "--overwrite",
            "-o",
            str(tmp_path / "out"),
        ]
        result = run(app, [*command, *PART])
        assert (result.exit_code, result.stderr) == (code, "")
        record = json.loads(result.stdout)
        described, tables = {"output", "schema_version", "provenance", "findings"}, {"tensors", "interference"}
        assert set(record) == described | tables | {"ranked", "observables"}
        assert record["schema_version"] == Comparison.KIND.schema_version
        assert len(record["tensors"]) == 27
        for row in record["tensors"]:
            assert list(row) == list(TENSOR)
            assert all(isinstance(row[name], kind | None) for name, kind in TENSOR.items())
        verdicts[other] = record["findings"][0]["verdict"]
    assert list(verdicts.values()) == ["within_storage_precision", "present"]


def test_what_another_tool_takes_is_all_that_is_printed(base, adapter, tmp_path):
    output = ["-o", str(tmp_path / "out"), *PART]
    result = run(app, ["compare", base, adapter, "--to", "peft-rank-pattern", "--exit-code", *output])
    assert json.loads(result.stdout) == {"r": 3, "target_modules": [Q], "rank_pattern": {Q: 3}}
    assert result.exit_code == DIFFERENT
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "result.json").write_text("{}")
    for option in (["--exit-code"], ["--to", "mergekit"]):
        result = run(app, ["compare", str(tmp_path / "saved"), base, *option, "-o", str(tmp_path / "other")])
        assert (result.exit_code, "found a saved analysis" in result.stderr) == (USAGE, True)


def test_what_another_tool_takes_needs_no_folder_and_none_is_in_its_way(base, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base-adapter-comparison").mkdir()
    (tmp_path / "base-adapter-comparison" / "other.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    result = run(app, ["compare", base, adapter, "--to", "peft-rank-pattern", *PART])
    assert (result.exit_code, json.loads(result.stdout)["r"]) == (0, 3)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_default_name_is_named_after_all_that_is_compared(base, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A folder in its place is found before anything is read.
    for arguments, name in (([adapter], "base-adapter-comparison"), ([adapter, base], "base-adapter-base-comparison")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "other.txt").touch()
        result = run(app, ["compare", base, *arguments])
        assert (result.exit_code, name in result.stderr) == (USAGE, True)


def test_what_a_tool_cannot_take_is_refused_and_nothing_is_written(base, adapter, tmp_path, monkeypatch):
    wider = tiny_llama() | {"score.weight": torch.ones(2, 24)}
    added = str(save_folder(tmp_path / "added", wider))
    before = sorted(tmp_path.iterdir())

    def refused(*arguments):
        result = run(app, ["compare", base, *arguments, "-o", str(tmp_path / "out"), *PART])
        assert (result.stdout, sorted(tmp_path.iterdir())) == ("", before)
        return result.exit_code, result.stderr.removeprefix("flaggeo: ").partition(":")[0]

    assert refused(added, "--to", "mergekit") == (FAILED, added)
    # What the sources tell is said before anything is read.
    monkeypatch.setattr("flaggeo.comparison.compare", None)
    assert refused(adapter, "--to", "mergekit") == (USAGE, adapter)
    assert refused(added, adapter, "--to", "mergekit") == (USAGE, adapter)
    assert refused(added, added, "--to", "peft-rank-pattern")[0] == USAGE


def test_two_fine_tunings_of_one_base_are_held_against_each_other(base, adapter, tmp_path):
    result = run(app, ["compare", base, adapter, adapter, "-o", str(tmp_path / "out"), *PART])
    assert result.exit_code == 0, result.stderr
    found = Comparison.load(tmp_path / "out")
    assert set(found.tensors["version"]) == {"b", "c"}
    assert found.interference["read_overlap"].tolist() == pytest.approx([1])
    assert [finding.verdict for finding in found.findings[:3]] == ["present", "present", "same_change"]
    assert result.stdout.startswith("B: 1 of 27")
    assert 'id="interference"' in (tmp_path / "out" / "comparison.html").read_text()


def test_json_goes_to_standard_output_alone_and_quiet_prints_nothing(base, tmp_path):
    command = ["compare", base, base, "-o", str(tmp_path / "out"), "--roles", "q, o", "--layers", "0-1"]
    record = json.loads(run(app, [*command, "--format", "json"]).stdout)
    assert (record["findings"][0]["kind"], record["findings"][0]["verdict"]) == ("tensor_change", "same")
    assert {row["role"] for row in record["ranked"]} == {"q", "o"}
    again = run(app, command)
    assert (again.exit_code, again.stdout) == (USAGE, "")
    assert "found an existing one: choose another, or give --overwrite" in again.stderr
    quiet = run(app, [*command, "--overwrite", "--quiet"])
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_a_comparison_never_replaces_an_analysis(base, tmp_path):
    analyze(load(base), rank=2).save(tmp_path / "saved")
    result = run(app, ["compare", str(tmp_path / "saved"), base, "-o", str(tmp_path / "saved"), "--overwrite"])
    assert result.exit_code == USAGE
    assert "found also 'bases.safetensors'" in result.stderr
    result = run(app, ["compare", str(tmp_path / "saved"), base, "-o", str(tmp_path / "out")])
    assert (result.exit_code, Finding("movement", "absent", {}, "drift").sentence in result.stdout) == (0, True)


def test_the_terminal_shows_the_largest_moves_in_degrees_and_a_dash_for_what_is_unknown(base, tmp_path):
    analyze(load(tiny_llama(seed=1)), rank=2).save(tmp_path / "saved")
    result = run(app, ["compare", base, str(tmp_path / "saved"), "-o", str(tmp_path / "out")])
    ranked = Comparison.load(tmp_path / "out").ranked
    lines = [line.split() for line in result.stdout.splitlines() if line.endswith("– ")]
    assert [line[:2] for line in lines] == ranked[["name", "side"]].head(SHOWN_ROWS).to_numpy().tolist()
    assert [float(line[2]) for line in lines] == pytest.approx(
        ranked["rms_angle"].head(SHOWN_ROWS).map(degrees).tolist(), abs=0.005
    )
    assert [line[-2:] for line in lines] == [["–", "–"]] * SHOWN_ROWS
    assert f"{SHOWN_ROWS} of the {len(ranked)} subspaces" in result.stdout


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
def test_what_is_wrong_with_the_command_exits_with_2(base, tmp_path, options, message):
    result = run(app, ["compare", base, base, "-o", str(tmp_path / "out"), *options])
    assert result.exit_code == USAGE
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_two_that_do_not_belong_together_exit_with_2_and_unreadable_ones_with_3(base, adapter, tmp_path):
    other = save_folder(tmp_path / "other", tiny_llama(layers=2), config={"model_type": "llama"})
    output = ["-o", str(tmp_path / "out")]
    result = run(app, ["compare", base, str(other), *output])
    assert result.exit_code == USAGE
    assert "weight 'layers.2.q': expected the shape 40x24" in result.stderr
    result = run(app, ["compare", adapter, base, *output])
    assert (result.exit_code, "expected the base first" in result.stderr) == (USAGE, True)
    analyze(load(base), rank=2).save(tmp_path / "saved")
    result = run(app, ["compare", str(tmp_path / "saved"), adapter, *output])
    assert (result.exit_code, "found the saved analysis" in result.stderr) == (USAGE, True)
    (tmp_path / "saved" / "result.json").write_text('{"schema_version": 4}')
    result = run(app, ["compare", str(tmp_path / "saved"), base, *output])
    assert (result.exit_code, "found 4, which an earlier flaggeo wrote" in result.stderr) == (UNREADABLE, True)
    assert not (tmp_path / "out.partial").exists()


def test_a_tensor_that_is_not_finite_is_left_out_and_said(base, tmp_path):
    broken = tiny_llama()
    broken[f"{Q}.weight"][0, 0] = torch.nan
    output = ["-o", str(tmp_path / "out"), "--format", "json", *PART]
    result = run(app, ["compare", base, str(save_folder(tmp_path / "broken", broken)), *output])
    assert (result.exit_code, f"{Q}.weight" in result.stderr) == (INCOMPLETE, True)
    assert {row["name"] for row in json.loads(result.stdout)["ranked"]} == {"layers.0.q", "layers.2.q"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "broken", "out"]


def test_norms_are_folded_on_request_and_as_a_saved_analysis_has_them(tmp_path):
    base = str(save_folder(tmp_path / "base", with_gains(tiny_llama())))
    analyze(load(base), rank=2, roles=["q"], fold_norms=True).save(tmp_path / "saved")
    output = ["-o", str(tmp_path / "out"), "--overwrite", "--format", "json", "--roles", "q"]
    for arguments, fold_norms in (
        ([base, base], False),
        ([base, base, "--fold-norms"], True),
        ([str(tmp_path / "saved"), base], True),
    ):
        record = json.loads(run(app, ["compare", *arguments, *output]).stdout)
        assert record["provenance"]["settings"]["fold_norms"] is fold_norms
        assert record["ranked"][0]["rms_angle"] < 1e-5
    analyze(load(base), rank=2, roles=["q"]).save(tmp_path / "plain")
    result = run(app, ["compare", str(tmp_path / "plain"), base, "--fold-norms", *output])
    assert (result.exit_code, "expected an analysis with fold_norms True, found False" in result.stderr) == (
        USAGE,
        True,
    )
