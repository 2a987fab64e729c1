import dataclasses
import json
import random
import re

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo import Analysis, analyze, load, render_report
from flaggeo.findings import findings, graph_findings
from flaggeo.findings.words import short_name
from flaggeo.numerics.spectrum import leading_spectrum
from flaggeo.page.charts import heads_chart
from flaggeo.page.names import with_names
from flaggeo.page.parts import html_table, provenance_tables
from flaggeo.page.report import _edge_table, _interface_table, _statistics
from tests.builders import CONFIG, related_llama, save_folder, tiny_llama
from tests.conftest import browser_only
from tests.mixtures import CONFIG as MIXTURE
from tests.mixtures import tiny_mixtral

HOSTILE = {
    "</script><script>window.hacked=1</script>": torch.ones(2),
    "<img src=x onerror='window.hacked=1'>": torch.ones(2),
    "\u2028'\"`${window.hacked=1}{{7*7}}": torch.ones(2),
}


@pytest.fixture(scope="module")
def analysis():
    tensors = related_llama(layers=4) | HOSTILE
    # The hidden layer 0 has a meeting of its own: down reads what up writes.
    written = leading_spectrum(tensors["model.layers.0.mlp.up_proj.weight"], 2).left.float()
    tensors["model.layers.0.mlp.down_proj.weight"] = (
        tensors["model.layers.0.mlp.down_proj.weight"] @ written @ written.mT
    )
    return analyze(load(tensors, config=CONFIG | {"num_hidden_layers": 4}), rank=2, measure="all")


@pytest.fixture(scope="module")
def html(analysis):
    return render_report(analysis)


@pytest.fixture
def page(html, open_page, tmp_path):
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    page.locator("body[data-ready]").wait_for()
    page.locator("details.folded").evaluate_all("parts => parts.forEach((part) => { part.open = true; })")
    yield page
    page.close()


def test_a_page_with_vega_from_the_cache_is_the_fresh_one(analysis, html, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert render_report(analysis) == html
    assert list(tmp_path.rglob("*.js"))
    assert render_report(analysis) == html


def test_a_script_that_is_not_the_page_s_own_does_not_run(html, open_page, tmp_path):
    foreign = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    (tmp_path / "report.html").write_text(html.replace("</header>", f"</header>{foreign}"))
    page = open_page(tmp_path / "report.html")
    page.locator("body[data-ready]").wait_for()
    assert page.title() != "run"
    assert any("Content Security Policy" in complaint for complaint in page.complaints)
    page.complaints.clear()
    page.close()


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1])


def arcs(page):
    return page.locator("#graph-chart g.arcs path").count()


def dot(page, analysis, name):
    return page.locator(f'#graph-chart g.dots path[aria-label="{name}, {analysis.graph.degree(name)} edges"]')


def show_everything(page):
    page.locator("#graph-controls select").nth(1).select_option("all spaces")
    page.locator("#graph-controls input[type=range]").fill("0")
    settled(page)


def status(page):
    return page.locator("#graph-status").text_content()


def label(name):
    """What the line above the graph calls a subspace."""
    return f"{short_name(name)} ({name.rpartition('.')[2]})"


def settled(page):
    """Controls wait a moment for the next key or movement before they redraw."""
    page.wait_for_timeout(200)


@browser_only
@pytest.mark.browser
def test_the_page_draws_offline_without_a_request_or_a_complaint(page, analysis):
    assert page.complaints == []
    drawn = page.locator("#graph-chart g.dots path")
    met = [node for name, node in analysis.graph.nodes(data=True) if analysis.graph.degree(name)]
    assert drawn.count() == sum(node["space"] == "stream" for node in met) < len(met)
    show_everything(page)
    assert drawn.count() == len(met)
    label = drawn.first.get_attribute("aria-label")
    assert re.fullmatch(r"\S+\.(read|write), \d+ edges", label)
    assert page.locator("#continuity-chart svg").get_by_text("down writes").count() == 1
    assert page.locator("#interfaces-chart svg").get_by_text("up-down").count() == 1
    assert page.locator("#interface-curves-chart svg").get_by_text("gate-down").count() == 1
    for chart in ("continuity", "graph", "matrix", "heads", "interfaces", "interface-curves"):
        assert page.locator("figure", has=page.locator(f"#{chart}-chart")).get_attribute("aria-label")


@browser_only
@pytest.mark.browser
def test_slider_and_kind_choose_the_edges(page, analysis):
    edges = [edge for *_, edge in analysis.graph.edges(data=True)]
    slider = page.locator("#graph-controls input[type=range]")
    kind = page.locator("#graph-controls select").first
    show_everything(page)
    for excess in (0, 0.3, 0.6):
        slider.fill(str(excess))
        settled(page)
        shown = float(slider.input_value())
        assert arcs(page) == sum(round(edge["overlap_excess"], 4) >= shown for edge in edges)
    slider.fill("0")
    for name in ("write-read", "read-read", "write-write"):
        kind.select_option(name)
        settled(page)
        assert arcs(page) == sum(edge["kind"] == name for edge in edges) > 0
    assert page.complaints == []


@browser_only
@pytest.mark.browser
def test_a_click_on_a_dot_leaves_its_edges_alone_and_a_click_beside_it_all(page, analysis):
    show_everything(page)
    everything = arcs(page)
    stream = [name for name, node in analysis.graph.nodes(data=True) if node["space"] == "stream"]
    busiest = max(stream, key=analysis.graph.degree)
    dot(page, analysis, busiest).click()
    settled(page)
    assert arcs(page) == analysis.graph.degree(busiest) < everything
    assert status(page).startswith(f"{label(busiest)}: {analysis.graph.degree(busiest)} edge")
    block = page.evaluate("views.matrix.signal('marked').map(i => data.matrix.blocks[i].name)")
    role, layer = busiest.split(".")[2], busiest.split(".")[1]
    assert block == [f"{role} {busiest.rsplit('.', 1)[1]}s, layer {layer}"]
    page.locator("#graph-chart svg").click(position={"x": 5, "y": 5})
    settled(page)
    assert arcs(page) == everything
    assert page.evaluate("views.matrix.signal('marked')") == []


@browser_only
@pytest.mark.browser
def test_a_search_by_name_shows_what_it_finds(page, analysis):
    show_everything(page)
    page.locator("#graph-controls input[type=search]").fill("Layers.2.GATE")
    settled(page)
    assert arcs(page) == sum(
        "layers.2.gate" in source or "layers.2.gate" in target for source, target in analysis.graph.edges()
    )
    found = sum("layers.2.gate" in name for name in analysis.graph if analysis.graph.degree(name))
    assert status(page).startswith(f"{found} subspace")
    page.locator("#graph-controls input[type=search]").fill("no such name")
    settled(page)
    assert arcs(page) == 0
    assert re.search(r"\b0 of \d+", status(page))


@browser_only
@pytest.mark.browser
def test_a_click_in_the_matrix_shows_in_the_graph_what_joins_row_and_column(page, analysis):
    in_stream = [edge for edge in analysis.graph.edges(data=True) if analysis.graph.nodes[edge[0]]["space"] == "stream"]
    source, target, _ = max(in_stream, key=lambda edge: edge[2]["overlap_excess"])
    page.evaluate("document.getElementById('matrix-chart').scrollIntoView()")
    place = page.evaluate(
        """([source, target]) => {
            const id = (name) => views.graph.data("nodes").find((node) => node.name === name).id;
            const block = (name) => data.matrix.blocks.findIndex((block) => block.nodes.includes(id(name)));
            const matrix = views.matrix, [left, top] = matrix.origin();
            const box = document.querySelector("#matrix-chart canvas").getBoundingClientRect();
            return {
                x: box.x + left + matrix.scale("x")(block(source) + 0.5),
                y: box.y + top + matrix.scale("y")(block(target) + 0.5),
            };
        }""",
        [source, target],
    )
    page.mouse.click(place["x"], place["y"])
    settled(page)
    lanes = [
        (node["role"], node["side"], node["layer"]) for node in (analysis.graph.nodes[n] for n in (source, target))
    ]

    def lane(name):
        node = analysis.graph.nodes[name]
        return node["role"], node["side"], node["layer"]

    expected = [edge for edge in analysis.graph.edges() if {lane(edge[0]), lane(edge[1])} == set(lanes)]
    assert arcs(page) == len(expected) > 0
    assert status(page).startswith("Between")
    assert page.locator("#matrix-status").text_content().endswith(status(page))


@browser_only
@pytest.mark.browser
def test_the_keyboard_walks_through_the_graph(page, analysis):
    everything = arcs(page)
    page.locator("#graph-figure").focus()
    page.keyboard.press("ArrowRight")
    nodes = {label(name): name for name in analysis.graph}
    first = nodes[status(page).split(":")[0]]
    page.keyboard.press("ArrowRight")
    second = nodes[status(page).split(":")[0]]
    places = [analysis.graph.nodes[name] for name in (first, second)]
    assert places[1]["layer"] > places[0]["layer"]
    page.keyboard.press("ArrowDown")
    assert nodes[status(page).split(":")[0]] not in (first, second)
    page.keyboard.press("Escape")
    assert arcs(page) == everything


@browser_only
@pytest.mark.browser
def test_heads_show_the_links_of_a_kind_and_of_one_head(page, analysis, html):
    links = next(source for source in data_of(html)["charts"]["heads"]["data"] if source["name"] == "edges")["values"]
    assert len(links) == sum(min(200, count) for count in analysis.heads["kind"].value_counts())
    drawn = page.locator("#heads-chart g.links path")
    listed = page.locator('section[aria-labelledby="heads"] table').first.locator("tbody tr:visible td:first-child")
    for kind in ("OK", "QQ"):
        page.locator("#heads-controls select").select_option(kind)
        settled(page)
        assert set(listed.all_text_contents()) == {kind}
        of_kind = [link for link in links if link["kind"] == kind]
        assert drawn.count() == sum(link["order"] <= 60 for link in of_kind)
    page.locator("#heads-controls input").fill("10")
    settled(page)
    assert drawn.count() == 10
    page.locator('#heads-chart g.squares path[aria-label="layer 1, head 2"]').click()
    settled(page)
    table = analysis.heads[analysis.heads["kind"] == "QQ"]
    ends = [(table[f"{end}_layer"] == 1) & (table[f"{end}_head"] == 2) for end in ("source", "target")]
    assert drawn.count() == (ends[0] | ends[1]).sum()
    assert page.complaints == []


@browser_only
@pytest.mark.browser
def test_hostile_names_stay_text(page):
    assert page.evaluate("window.hacked") is None
    page.locator("summary", has_text="not used").click()
    cells = page.locator("details[open] td").all_text_contents()
    for name in HOSTILE:
        assert any(name.strip() in cell for cell in cells)


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("shape", ["zero", "narrow"])
def test_numbers_that_do_not_exist_are_no_obstacle(shape):
    """A zero weight has no balance, and a head as wide as the stream no room for an excess."""
    tensors = tiny_llama()
    if shape == "zero":
        tensors["model.layers.1.mlp.down_proj.weight"] *= 0  # zero_down
        tensors["model.layers.0.self_attn.v_proj.weight"] *= 0
    else:
        tensors = {
            name: tensor[..., :8] if tensor.shape[-1] == 24 else tensor[:8] if tensor.shape[0] == 24 else tensor
            for name, tensor in tensors.items()
        }
    html = render_report(analyze(load(tensors, config=CONFIG), rank=2, measure="all"))
    assert data_of(html)["charts"]["interfaces"]


def crowd(nodes, edges):
    """A graph of heads over many layers with edges at random."""
    rng = random.Random(0)
    graph = nx.MultiDiGraph()
    for number in range(nodes):
        layer, head = divmod(number, 50)
        place = {"weight": f"layers.{layer}.q.heads.{head}", "side": "read", "role": "q", "layer": layer, "head": head}
        graph.add_node(f"{place['weight']}.read", **place, space="stream", dimension=512, rank=16, effective_rank=9.0)
    names = list(graph)
    for number in range(edges):
        # Every node has an edge: the first ones go round.
        source, target = names[number % nodes], names[(number + 1 + rng.randrange(60)) % nodes]
        graph.add_edge(source, target, key="read-read", kind="read-read", overlap=0.5, overlap_effect_size=0.5)
        graph.edges[source, target, "read-read"].update(overlap_z=9.0, overlap_excess=rng.random(), smallest_angle=0.1)
    return graph


@browser_only
@pytest.mark.browser
def test_five_thousand_subspaces_open(analysis, open_page, tmp_path):
    graph = crowd(5000, 12_000)
    nx.set_edge_attributes(graph, values=False, name="basis_independent")
    pairs = pd.DataFrame(
        [
            {"source": source, "target": target, "space": "stream"} | edge
            for source, target, edge in graph.edges(data=True)
        ]
    )
    pairs = pairs.assign(overlap_null_mean=0.03, overlap_p_value_floor=1e-9, basis_independent=False)
    large = dataclasses.replace(analysis, pairs=pairs)
    vars(large).update(graph=graph, structure=analysis.structure)
    html = render_report(large)
    assert len(html) < 3_000_000
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    page.locator("body[data-ready]").wait_for()
    assert page.complaints == []
    assert page.locator("#graph-chart g.dots path").count() == 5000
    page.close()


def test_a_page_without_pairs_still_renders(tmp_path, open_page):
    lonely = analyze(load(tiny_llama(), config=CONFIG), roles=["down"], layers=[1])
    (tmp_path / "report.html").write_text(render_report(lonely))
    page = open_page(tmp_path / "report.html")
    assert page.complaints == []
    assert findings(lonely)[0].sentence in page.content()
    page.close()


def test_mixtures_of_experts_have_a_section_and_other_networks_none(html):
    assert 'id="experts"' not in html
    mixture = analyze(load(tiny_mixtral(), config=MIXTURE), rank=4, measure=["continuity", "pairs"])
    page = render_report(mixture)
    assert 'id="experts"' in page
    across = mixture.experts[(mixture.experts["kind"] == "across") & (mixture.experts["role"] == "expert_up")]
    for column in ("matched_overlap", "matched_overlap_null_mean", "matched_gain_excess"):
        (cell,) = re.findall(r"<td.*</td>", html_table(pd.DataFrame({column: [across[column].mean()]})))
        assert cell in page
    closest = mixture.experts[mixture.experts["kind"] == "within"].nlargest(1, "largest_overlap").iloc[0]
    assert f">{closest['closest_expert']} and {closest['closest_next_expert']}<" in page
    for finding in findings(mixture):
        assert f'{with_names(finding.sentence)} <a href="#{finding.place}">' in page


def test_every_finding_links_to_the_section_that_shows_it(html, analysis):
    anchors = set(re.findall(r' id="([\w-]+)"', html))
    for finding in (*findings(analysis), *graph_findings(analysis.structure)):
        assert finding.place in anchors
        assert f'{with_names(finding.sentence)} <a href="#{finding.place}">' in html


def test_hubs_are_listed_only_where_they_exceed_every_null_graph(html, analysis):
    hubs = analysis.structure.hubs
    beyond = hubs[hubs["value"] > hubs["null_largest"]]
    assert 0 < len(beyond) < len(hubs)
    (table,) = re.findall(r'<div id="hubs">(.*?)</table>', html, flags=re.DOTALL)
    listed = re.findall(r'<tr><td[^>]*><button class="name" data-name="([^"]*)"', table)
    assert 0 < len(listed) <= len(beyond)
    assert set(listed) <= set(beyond["subspace"])


def test_nothing_points_to_a_network(html):
    assert not re.findall(
        r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", html.split("<script>")[0] + html.rsplit("</script>", 1)[1]
    )
    assert "default-src 'none'" in html


def test_every_number_of_the_tables_is_on_the_page(html, analysis):
    for value in analysis.summary["abs_cos_1"]:
        assert f"{value:.3f}" in html
    counted = analysis.summary[analysis.summary["shared_space"]]
    assert html.count(">significant</th>") == 2  # of both readings too, and none for the sides without a common space
    for found, layer_pairs in zip(counted["significant_pairs"], counted["layer_pairs"], strict=True):
        assert f">{found} of {layer_pairs}</td>" in html
    points = data_of(html)["charts"]["continuity"]["datasets"]["continuity"]
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    assert sorted(point["value"] for point in points) == sorted([*shared["abs_cos_1"], *shared["overlap"]])


def test_curves_of_interfaces_are_means_and_tenths_over_layers(html, analysis):
    """Of the heads of a layer, their mean."""
    points = data_of(html)["charts"]["interface-curves"]["datasets"]["interface-curves"]
    assert {(point["kind"], point["k"]) for point in points} == {
        (kind, k) for kind in ("up-down", "gate-down", "v-o", "q-k") for k in (1, 2)
    }
    point = next(point for point in points if (point["kind"], point["k"]) == ("v-o", 2))
    curves = analysis.interfaces_by_rank.query("kind == 'v-o' and k == 2")
    layers = [curves.loc[curves["layer"] == layer, "overlap"].mean() for layer in range(4)]
    assert [point["mean"], point["layers"]] == [pytest.approx(sum(layers) / 4), 4]
    assert [point["low"], point["high"]] == pytest.approx(list(np.quantile(layers, [0.1, 0.9])))
    nulls = (
        curves[["overlap_null_mean", "overlap_sign_flip_mean", "overlap_mean_matched_mean"]]
        .max(axis=1)
        .groupby(curves["layer"])
        .mean()
    )
    assert point["null"] == pytest.approx(nulls.mean())
    # Where units may be scaled, the balanced rows alone.
    up = analysis.interfaces_by_rank.query("kind == 'up-down' and k == 1 and gauge_fixed")
    drawn = next(point for point in points if (point["kind"], point["k"]) == ("up-down", 1))
    assert drawn["mean"] == pytest.approx(up["overlap"].mean())


@pytest.mark.parametrize(("rank", "layers"), [(1, None), (2, [1])])
def test_curves_of_one_direction_or_of_one_layer_draw(rank, layers, open_page, tmp_path):
    (tmp_path / "report.html").write_text(
        render_report(analyze(load(tiny_llama(), config=CONFIG), rank=rank, layers=layers, measure="interfaces"))
    )
    page = open_page(tmp_path / "report.html")
    assert page.complaints == []
    points = page.locator("#interface-curves-chart path[aria-roledescription=point]").count()
    assert points == 4 * rank
    page.close()


def test_a_page_without_interfaces_has_no_curves_of_them():
    html = render_report(analyze(load(tiny_llama(), config=CONFIG), rank=2, roles=["q", "up"]))
    assert data_of(html)["charts"]["interface-curves"] is None
    assert "interface-curves-chart" not in html


@pytest.mark.parametrize("draws", [0, 2])
def test_the_norm_matched_null_is_shown_with_and_without_draws(draws, open_page, tmp_path):
    measured = analyze(load(related_llama(), config=CONFIG), rank=2, draws=draws)
    html = render_report(measured)
    points = data_of(html)["charts"]["continuity"]["datasets"]["continuity"]
    values = {point["norm_matched"] for point in points}
    means = measured.continuity_nulls.query("null == 'norm_matched'")["mean"]
    assert values <= set(means)
    assert ">norm-matched</th>" in html
    assert (">equalised</th>" in html) == bool(draws)
    assert "--draws" not in html
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    assert page.complaints == []
    lines = page.locator("#continuity-chart path[stroke-dasharray='1,3']").count()
    assert lines == 2 * 7
    page.close()


def test_the_page_can_be_made_from_a_saved_result(analysis, html, tmp_path):
    analysis.save(tmp_path / "out")
    assert render_report(Analysis.load(tmp_path / "out")) == html


def test_the_page_of_a_folder_is_titled_by_its_name(tmp_path):
    folder = save_folder(tmp_path / "my-model <b>", tiny_llama())
    assert "<h1>my-model &lt;b&gt;</h1>" in render_report(analyze(load(folder), roles=["q"]))


def test_provenance_has_the_name_and_the_path_folds_away(tmp_path):
    folder = save_folder(tmp_path / "my-model", tiny_llama())
    tables = provenance_tables(analyze(load(folder), roles=["q"]).provenance)
    shown, paths = (tables[name].set_index("what")["value"] for name in ("shown", "paths"))
    assert shown["checkpoint"] == "my-model"
    assert paths["checkpoint"] == str(folder)
    assert not shown.str.contains(str(tmp_path), regex=False).any()
    assert set(shown.index) & set(paths.index) == {"checkpoint"}
    assert "command" in paths


def test_the_table_of_edges_says_in_which_space_both_ends_lie(analysis):
    table = _edge_table(analysis.graph)
    for end in ("from", "to"):
        assert [analysis.graph.nodes[name]["space"] for name in table[end]] == table["space"].tolist()
    assert table["space"].nunique() > 1


def test_heads_that_are_shared_have_a_legend_and_others_none(analysis):
    for kinds, legends in (({"QQ", "OQ", "KK"}, 1), ({"QQ", "OQ"}, 0)):
        heads = analysis.heads[analysis.heads["kind"].isin(kinds)]
        spec = heads_chart(dataclasses.replace(analysis, heads=heads))
        shapes = {head["shape"] for data in spec["data"] if data["name"] == "heads" for head in data["values"]}
        assert len(shapes) == 1 + legends
        assert sum("shape" in legend for legend in spec["legends"]) == legends


def test_edges_that_do_not_stand_come_first_where_stability_was_measured():
    found = analyze(
        load(related_llama(layers=4), config=CONFIG | {"num_hidden_layers": 4}), rank=2, measure=("pairs", "stability")
    )
    edges = found.structure.edges
    assert 0 < edges["stable"].sum() < len(edges)
    (table,) = re.findall(r'<div id="edges">(.*?)</table>', render_report(found), flags=re.DOTALL)
    last_cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row)[-1] for row in table.split("<tr>")[2:]]
    unstable = int((~edges["stable"]).sum())
    assert last_cells == (["no"] * unstable + ["yes"] * len(edges))[: len(last_cells)]
    without = analyze(load(related_llama(), config=CONFIG), rank=2, measure="structure")
    assert 'id="edges"' not in render_report(without)


def test_an_interface_that_its_subspaces_fill_has_no_overlap_to_show():
    """Heads are 10 wide, the hidden layer 40."""
    found = analyze(load(related_llama(), config=CONFIG), rank=10, measure="interfaces")
    shown = _interface_table(found.interfaces).set_index("kind")["subspace overlap"]
    assert set(shown.loc[["q-k", "v-o"]]) == {"–"}
    assert shown.loc["gate-down"] != "–"


def test_a_subspace_that_is_of_no_head_has_none_in_any_table(analysis):
    assert (analysis.structure.hubs["head"] < 0).any()
    for table in _statistics(analysis.structure).values():
        for column in {"head", "source_head", "target_head"} & set(table.columns):
            assert table[column].dropna().ge(0).all()


@browser_only
@pytest.mark.browser
def test_sections_are_folded_and_open_where_a_link_leads(html, open_page, tmp_path):
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    page.locator("body[data-ready]").wait_for()
    folded = page.locator("details.folded")
    assert folded.count() == 7
    assert page.locator("details.folded[open]").count() == 0
    page.locator('nav a[href="#matrix"]').click()
    assert page.locator("#matrix-chart canvas").is_visible()
    assert page.locator("details.folded[open]").count() == 1
    page.close()
    page = open_page(tmp_path / "report.html")
    page.goto(f"{(tmp_path / 'report.html').as_uri()}#interfaces")
    page.reload()
    page.locator("body[data-ready]").wait_for()
    assert page.locator("#interfaces-chart svg").is_visible()
    page.close()


@browser_only
@pytest.mark.browser
def test_a_card_selects_in_its_chart_what_it_is_about(open_page, tmp_path):
    tensors = related_llama(layers=4)
    queries = [tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 3)]
    queries[1][:10] = queries[0][10:20]
    found = analyze(load(tensors, config=CONFIG | {"num_hidden_layers": 4}), rank=2, measure="all")
    (tmp_path / "report.html").write_text(render_report(found))
    page = open_page(tmp_path / "report.html")
    page.locator("body[data-ready]").wait_for()
    assert 1 <= page.locator(".card").count() <= 6
    page.locator('.card a[href="#repeats"]').first.click()
    settled(page)
    page.locator('a.anchor[href="#heads"]').click()
    assert page.locator("#heads-chart svg").is_visible()
    head = page.evaluate("views.heads.data('heads').find((head) => head.id === views.heads.signal('head'))")
    assert [head["layer"], head["head"]] == [1, 1]
    assert page.evaluate("views.heads.signal('kind')") == "QQ"
    card = page.locator('.card a[href="#graph"]').first
    names = json.loads(card.get_attribute("data-picked"))
    card.click()
    settled(page)
    assert all(label(name) in status(page) for name in names)
    assert page.complaints == []
    page.close()


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize(
    "name", ["L2.gate", "mlp.gate_proj", "gate_proj", "model.layers.2.mlp.gate_proj.weight", "model.layers.2.gate_proj"]
)
def test_a_weight_is_found_by_each_of_its_names(page, analysis, name):
    show_everything(page)
    page.locator("#graph-controls input[type=search]").fill(name)
    settled(page)
    layer = "2" if "2" in name else r"\d+"
    expected = [
        one for one in analysis.graph if analysis.graph.degree(one) and re.match(rf"layers\.{layer}\.gate\.", one)
    ]
    found = page.evaluate("views.graph.data('nodes').filter((node) => node.found).map((node) => node.name)")
    assert sorted(found) == sorted(expected) != []
