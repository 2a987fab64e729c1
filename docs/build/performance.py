"""The page of performance: the results in ``benchmarks/results`` as tables and a plot."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

HEAD = """\
# Performance

Whole runs were measured on {machine}, all else on {before}. `make benchmarks` measures all else again, and
`python -m benchmarks.whole_process --weightwatcher PYTHON` whole runs, with the Python of an environment that has
WeightWatcher. `python -m docs.build` makes this page from `benchmarks/results/`.

## Whole runs

`flaggeo analyze` and [WeightWatcher](https://weightwatcher.ai) {weightwatcher} took turns on the same checkpoints,
{repeats} rounds, each in a process of its own, from the start of Python to the last file. Numbers are medians; the
last three columns are medians of WeightWatcher's number over the program's in the same round, so that above 1 the
program needs less.

![Wall time of WeightWatcher over that of flaggeo, by checkpoint](images/performance.png)

| checkpoint | program | wall, s | CPU, s | peak memory, MB | ratio of wall times | of CPU times | of memory |
|---|---|---|---|---|---|---|---|
"""

BETWEEN = """
The two do not compute the same. WeightWatcher fits a power law to all eigenvalues of each weight. flaggeo's default
run finds the 16 leading singular directions of each weight, compares all pairs of them with their closed-form nulls
(uniform, mean-matched, norm-matched and sign-flip), and writes its page. `--measure all` adds every attention head as
a weight of its own, interfaces, whole spectra, the statistics of the graph and its stability.

*MiniLM* is all-MiniLM-L6-v2 (6 layers, 384 wide, float32); *SmolLM2* is SmolLM2-135M (30 layers, 576 wide) as
float32; *2048 wide* has 4 layers of the shape of TinyLlama (5632 hidden, bfloat16), noise with 64 directions of a
power law.
"""

LARGE = """
## A large checkpoint

One process each on random checkpoints of the shape of Llama-3-8B ({layers} layers, {checkpoint_gb:.0f} GB of bfloat16;
every matrix of the second one has a change of rank 8), on {machine}. `python -m benchmarks.large_checkpoint` measures
them again.

| command | wall, min | CPU, min | peak memory, GB | result, MB |
|---|---|---|---|---|
"""

LEADING = """
## Leading directions

CPU seconds of one thread for the 16 leading directions of one matrix, noise with 64 directions of a power law. One
Gram product in float64 is the measure: what needs the whole Gram matrix cannot take less. *Sine* is that of the
largest angle to the directions that LAPACK finds from the Gram matrix; `svd_lowrank` has 24 columns and two rounds.

| shape | flaggeo | in Gram products | LAPACK | scipy `svds` | sine of flaggeo | torch `svd_lowrank` | its sine |
|---|---|---|---|---|---|---|---|
"""

TAIL = """
flaggeo's time grows with the width to the power of {exponent:.2f} here. SciPy's `svds` takes {least:.1f} to {most:.1f}
times as long. It follows one vector at a time, which may miss copies of a repeated singular value; flaggeo follows 8 at
once, and 24 where 8 equal values turn up. Up to about 1,500 columns it leaves the Gram matrix to LAPACK.
"""

MONITOR = """
## A monitor

CPU seconds of one thread for {steps} steps of a small transformer (4 layers, 256 wide, 30 weights) on batches of 1,024
tokens, with one record of `flaggeo.Monitor` among them, which is its default interval. The three runs took turns step
by step; numbers are means over {rounds} rounds of different seeds. All had the same weights in the end, bit for bit.
*In the monitor* is the time inside of `step()`. `python -m benchmarks.monitor` measures this alone.

| run | CPU, s | more than alone | in the monitor, s |
|---|---|---|---|
| alone | {alone_s:.1f} | | |
| weights and updates | {watched_s:.1f} | {watched_share:.1%} | {watched_record_s:.2f} |
| and gradients | {with_gradients_s:.1f} | {with_gradients_share:.1%} | {with_gradients_record_s:.2f} |

Large weights are followed from the directions of the last record. For a matrix that moved by 1 % since, as above but
with 8 directions; *sine* is that of the largest angle between the two:

| shape | found anew | followed | sine |
|---|---|---|---|
"""

GROWTH = """
## How the time grows

CPU seconds of one thread for one analysis of random models in the shape of a Llama, every head a weight of its own,
without reading and without the page. One quantity is varied at a time; `python -m benchmarks.growth` measures it again.

| varied | values | CPU, s | power | otherwise |
|---|---|---|---|---|
"""

MANIFOLDS = """
## Grassmannians and flags

CPU seconds of one thread (columns that end in *s*) and absolute errors, against geomstats, SciPy and loops over pairs.
`python -m benchmarks.manifolds` measures them again.
"""


def performance_page() -> str:
    """Every result with its rival, as MyST Markdown."""
    whole, leading = (_result(name) for name in ("whole_process", "leading_directions"))
    machine, before = (_machine(result["machine"]) for result in (whole, leading))
    rival = whole["machine"]["weightwatcher"]
    head = HEAD.format(machine=machine, before=before, weightwatcher=rival, repeats=whole["repeats"])
    runs = "".join(_run(row) for row in whole["rows"])
    matrices = "".join(_matrix(row) for row in leading["rows"])
    svds = [row["svds_s"] / row["flaggeo_s"] for row in leading["rows"]]
    remark = f"\n{whole['remark']}\n" if "remark" in whole else ""
    return (
        head
        + runs
        + remark
        + BETWEEN
        + _large()
        + LEADING
        + matrices
        + TAIL.format(exponent=leading["exponent"], least=min(svds), most=max(svds))
        + _growth()
        + _manifolds()
        + _monitor()
    )


def performance_plot(path: Path) -> None:
    """Draw how many times as long WeightWatcher takes."""
    from matplotlib.figure import Figure

    rows = [row for row in _result("whole_process")["rows"] if row["program"] != "WeightWatcher"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    programs = list(dict.fromkeys(row["program"] for row in rows))
    figure = Figure(figsize=(6, 2.4), layout="constrained")
    ax = figure.subplots()
    for number, program in enumerate(programs):
        ratios = [row["wall_s_ratio"] for row in rows if row["program"] == program]
        places = [place + 0.38 * (number - 0.5) for place in range(len(models))]
        ax.bar_label(ax.barh(places, ratios, height=0.34, label=program), fmt="%.2f", padding=3, fontsize=8)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set(yticks=range(len(models)), yticklabels=models, xlabel="wall time of WeightWatcher over that of flaggeo")
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def _large() -> str:
    result = _result("large_checkpoint")
    rows = "".join(
        f"| `{row['command']}` | {row['wall_s'] / 60:.1f} | {row['cpu_s'] / 60:.1f} "
        f"| {row['peak_mb'] * 2**20 / 1e9:.2f} | {row['result_mb']:.0f} |\n"
        for row in result["rows"]
    )
    facts = {"layers": result["layers"], "checkpoint_gb": result["checkpoint_gb"]}
    remark = f"\n{result['remark']}\n" if "remark" in result else ""
    return LARGE.format(machine=_machine(result["machine"]), **facts) + rows + remark


def _machine(facts: dict[str, Any]) -> str:
    return f"{facts['cores']} cores ({facts['processor']}) with Python {facts['python']}, torch {facts['torch']}"


def _run(row: dict[str, Any]) -> str:
    ratios = " | ".join(f"{row[f'{quantity}_ratio']:.2f}" for quantity in ("wall_s", "cpu_s", "peak_mb"))
    program = row["program"].replace("--measure all", "`--measure all`")
    numbers = f"{row['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['peak_mb']:.0f}"
    return f"| {row['model']} | {program} | {numbers} | {ratios} |\n"


def _growth() -> str:
    rows = ""
    for row in _result("growth")["rows"]:
        values = ", ".join(map(str, row["values"]))
        times = ", ".join(f"{one:.1f}" for one in row["seconds"])
        model = ", ".join(f"{name} {value}" for name, value in row["model"].items())
        rows += f"| {row['quantity']} | {values} | {times} | {row['exponent']:.2f} | {model} |\n"
    return GROWTH + rows


def _manifolds() -> str:
    return MANIFOLDS + "".join(
        f"\n*{title}*\n\n{_table(rows)}" for title, rows in _result("manifolds")["tables"].items()
    )


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [[value if isinstance(value, str) else f"{value:.3g}" for value in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _monitor() -> str:
    found = _result("monitor")
    rows = "".join(
        f"| {row['rows']} x {row['columns']} | {row['cold_s']:.2f} | {row['warm_s']:.2f} | {row['sine']:.0e} |\n"
        for row in found["following"]
    )
    return MONITOR.format(steps=found["steps"], rounds=found["rounds"], **found["monitor"]) + rows


def _matrix(row: dict[str, Any]) -> str:
    ratio = row["flaggeo_s"] / row["product_s"]
    times = f"{row['flaggeo_s']:.2f} | {ratio:.1f} | {row['lapack_s']:.2f} | {row['svds_s']:.2f}"
    sketch = f"{row['svd_lowrank_s']:.2f} | {row['svd_lowrank_sine']:.2g}"
    return f"| {row['rows']} x {row['columns']} | {times} | {row['flaggeo_sine']:.0e} | {sketch} |\n"
