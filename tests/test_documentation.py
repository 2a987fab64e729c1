"""What the documents say is what the code does."""

import re
from pathlib import Path

import pytest

from flaggeo import Analysis, analyze, load
from flaggeo.findings import findings
from tests.builders import CONFIG, tiny_llama

ROOT = Path(__file__).parent.parent


def test_the_python_of_the_readme_runs_as_pasted(smollm2_file, tmp_path, monkeypatch, capsys):
    assert smollm2_file.is_file()
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"layers\.17\.k\.read +layers\.18\.k\.read", printed)
    assert (tmp_path / "smollm2" / "report.html").is_file()


def test_the_figures_of_the_readme_are_measured(smollm2_file):
    text = (ROOT / "README.md").read_text()
    analysis = analyze(load(smollm2_file))
    shared = analysis.summary[analysis.summary["shared_space"]].set_index("role")
    stated = "{:.2f}, {:.2f}, {:.2f}, {:.2f}".format(*shared.loc[["q", "k", "gate", "up"], "abs_cos_1"])
    assert stated in text
    assert (
        "{:.2f} and {:.2f}, but on about {:.0f} and {:.0f} of 576".format(
            *shared.loc[["o", "down"], "abs_cos_1"], *shared.loc[["o", "down"], "channels"]
        )
        in text
    )
    best = analysis.pairs.loc[analysis.pairs["overlap"].idxmax()]
    assert (best["source"], best["target"]) == ("layers.17.k.read", "layers.18.k.read")
    readings = (analysis.pairs["kind"] == "read-read").sum()
    assert f"overlap {best['overlap']:.2f}, the largest of {readings} pairs of readings" in text
    assert f"unrelated pair gives {best['null_mean']:.3f}" in text
    steps = shared.loc["q", "layer_pairs"]
    assert f"({steps - shared.loc['q', 'beyond_chance']} of {steps} for q)" in text
    counts = "in {} of {steps} steps for q, {} for k, {} for gate, {} for up\nand {} for v".format(
        *shared.loc[["q", "k", "gate", "up", "v"], "beyond_chance"], steps=steps
    )
    writing = "in {} and {} of {steps} steps".format(*shared.loc[["o", "down"], "beyond_chance"], steps=steps)
    measurements = (ROOT / "docs" / "measurements.md").read_text()
    assert counts in measurements
    assert writing in measurements
    near, far = re.search(r"overlap by (\d+%) beyond chance in neighbouring layers, by (\d+%)", text).groups()
    (over_depth,) = [record.numbers for record in findings(analysis) if record.kind == "alignment_over_depth"]
    assert [near, far] == [f"{over_depth[name]:.0%}" for name in ("near", "far")]


def test_the_nulls_of_the_readme_are_those_of_the_demo(smollm2_file):
    draws = int(re.search(r"--draws (\d+)", (ROOT / "Makefile").read_text())[1])
    text = (ROOT / "README.md").read_text()
    summary = analyze(load(smollm2_file), roles=["o", "down"], draws=draws).summary.set_index(["role", "side"])
    writing = summary.loc[[("o", "write"), ("down", "write")]]
    assert "same row and column norms score {:.2f} and {:.2f}".format(*writing["margin_matched"]) in text
    assert "brought to one norm {:.2f} and {:.2f} remain".format(*writing["equalised"]) in text
    assert f"{draws} draws of each null" in text


def test_the_heads_and_interfaces_of_the_readme_are_measured(smollm2_file):
    text = (ROOT / "README.md").read_text()
    heads = analyze(load(smollm2_file), roles=["o", "v"], heads=True)
    link = heads.heads.set_index(["source", "target"]).loc[("layers.23.o.heads.2.write", "layers.29.v.heads.0.read")]
    assert f"shares {link['kernel']:.1f} of {link['source_rank']} dimensions" in text
    assert f"unrelated heads share {link['null_mean']:.1f}" in text
    closest = heads.head_clusters.nlargest(1, "adjusted_overlap")["heads"].iloc[0]
    assert closest == ", ".join(f"layers.18.o.heads.{head}.write" for head in (6, 7, 8))
    mlps = analyze(load(smollm2_file), roles=["gate", "up", "down"]).interfaces
    balanced = mlps["gauge_fixed"] | (mlps["kind"] == "gate-down")
    overlaps = mlps[balanced].groupby("kind")[["overlap", "overlap_null_mean"]].mean()
    stated = "{:.3f} and {:.3f}, where unrelated weights give {:.3f}".format(
        *overlaps.loc[["up-down", "gate-down"], "overlap"], overlaps["overlap_null_mean"].iloc[0]
    )
    assert f"overlap by {stated}" in text
    loud = mlps[balanced].groupby("kind")["overlap_sign_flip_mean"].mean().max()
    assert f"units loud on both sides {loud:.3f} at most" in text


@pytest.mark.parametrize(
    "command", re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
)
def test_the_commands_of_the_readme_exist(command):
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", Analysis.table_names())
def test_every_column_is_documented_and_no_other(name):
    text = (ROOT / "docs" / "tables.md").read_text()
    section = re.search(rf"^## {name}\n(.*?)(?=^## )", text, flags=re.DOTALL | re.MULTILINE)[1]
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    documented = [column for cell in cells for column in re.findall(r"`(\w+)`", cell)]
    assert documented == list(getattr(analyze(load(tiny_llama(), config=CONFIG), rank=2), name).columns)
