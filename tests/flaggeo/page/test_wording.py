"""The words of every page, held by one file each; ``FLAGGEO_GOLDEN=write pytest <this file>`` writes them anew."""

import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from flaggeo import analyze, compare, load, render_comparison, render_report, render_trace, trace
from tests.builders import CONFIG, random_frame, related_llama, tiny_llama
from tests.flaggeo.tracing.planted_run import SHARES, STEPS, checkpoint

GOLDEN = Path(__file__).parent / "golden"
LAYERS = 6


class _VisibleText(HTMLParser):
    """Text of a page by line; without scripts, styles and the cells of tables, which other tests hold."""

    hidden = ("script", "style", "tbody")
    inline = ("a", "button", "strong", "em", "code", "th")

    def __init__(self):
        super().__init__()
        self.lines, self.open_hidden = [""], 0

    def handle_starttag(self, tag, attrs):
        self.open_hidden += tag in self.hidden
        if tag == "th":
            self.lines[-1] += " | "
        elif tag not in self.inline:
            self.lines.append("")
        if tag == "a":
            self.lines[-1] += f" [{dict(attrs)['href']}] "

    def handle_endtag(self, tag):
        self.open_hidden -= tag in self.hidden
        if tag not in self.inline:
            self.lines.append("")

    def handle_data(self, data):
        if not self.open_hidden:
            self.lines[-1] += data


def visible_text(html):
    parser = _VisibleText()
    parser.feed(html)
    lines = [" ".join(line.split()) for line in parser.lines]
    return "\n".join(line for line in lines if line) + "\n"


def analysis_page():
    """A plane that all weights face, an input direction of up, an outlier channel of down, and a repeated head."""
    tensors = related_llama(layers=LAYERS)
    channel, direction = torch.zeros(24), random_frame(24, 1, seed=99)[:, 0].float()
    channel[5] = 1
    for layer in range(LAYERS):
        up, down = (f"model.layers.{layer}.mlp.{role}_proj.weight" for role in ("up", "down"))
        tensors[up] += 60 * random_frame(40, 1, seed=layer).float() @ direction[None]
        tensors[down] += 60 * channel[:, None] @ random_frame(40, 1, seed=50 + layer).float().mT
    queries = [tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 4)]
    queries[1][:10] = queries[0][10:20]
    network = load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS})
    return render_report(analyze(network, rank=4, measure="all", draws=2))


def comparison_page():
    """A change of rank 2 in one query projection and one of rank 1 in one down projection."""
    tensors = related_llama()
    changed = dict(tensors)
    for name, rank, size in (("1.self_attn.q_proj", 2, 40.0), ("2.mlp.down_proj", 1, 90.0)):
        rows, columns = tensors[f"model.layers.{name}.weight"].shape
        left, right = random_frame(rows, rank, seed=1).float(), random_frame(columns, rank, seed=2).float()
        changed[f"model.layers.{name}.weight"] = tensors[f"model.layers.{name}.weight"] + size * left @ right.mT
    return render_comparison(compare(tensors, changed, rank=4))


def trace_page():
    """A planted run, of which the last checkpoint also has another down projection in one layer."""
    states, name = [checkpoint(share) for share in SHARES], "model.layers.1.mlp.down_proj.weight"
    states[-1][name] = tiny_llama(seed=5)[name]
    return render_trace(trace(states, steps=STEPS, rank=3))


@pytest.mark.parametrize("page", [analysis_page, comparison_page, trace_page])
def test_the_words_of_the_page(page):
    golden = GOLDEN / f"{page.__name__.removesuffix('_page')}.txt"
    text = visible_text(page())
    if os.environ.get("FLAGGEO_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text.splitlines() == golden.read_text().splitlines()
