"""What can be done on the page of an analysis, which is opened once: names, tables, links, and the keyboard."""

import json
import re

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe

from flaggeo import analyze, load, render_report
from flaggeo.findings.words import short_name
from flaggeo.page.names import with_names
from flaggeo.page.parts import html_table
from tests.builders import CONFIG, related_llama
from tests.conftest import CHROMIUM, browser_only

LAYERS = 4


@pytest.fixture(scope="module")
def analysis():
    tensors = related_llama(layers=LAYERS)
    queries = [tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 3)]
    queries[1][:10] = queries[0][10:20]  # head 0 of layer 3 reads what head 1 of layer 1 reads
    network = load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS})
    return analyze(network, rank=2, measure=("continuity", "pairs", "heads", "structure"))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(analysis, browser, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render_report(analysis))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_offline(True)
    context.set_default_timeout(10_000)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(file.as_uri())
    page.locator("body[data-ready]").wait_for()
    return page


@pytest.fixture
def page(opened):
    """The page as it was opened: nothing selected, everything folded."""
    opened.set_viewport_size({"width": 1280, "height": 900})
    opened.evaluate(
        """async () => {
            document.querySelectorAll("details").forEach((part) => { part.open = false; });
            await views.graph.signal("picked", []).signal("partners", []).signal("search", "").runAsync();
            await views.matrix.signal("cell", null).runAsync();
            await views.heads.signal("head", null).runAsync();
            scrollTo(0, 0);
        }"""
    )
    yield opened
    assert opened.complaints == []


def picked(page):
    """Names of the subspaces that the graph has selected."""
    return page.evaluate(
        """() => {
            const ids = [...views.graph.signal("picked"), ...views.graph.signal("partners")];
            return views.graph.data("nodes").filter((node) => ids.includes(node.id)).map((node) => node.name);
        }"""
    )


def copied(page):
    return page.evaluate("navigator.clipboard.readText()")


def table(page, section):
    """The first table of a section, which is unfolded for it."""
    page.evaluate("anchor => unfold(anchor)", section)
    return page.locator(f'section[aria-labelledby="{section}"] table').first


@browser_only
@pytest.mark.browser
def test_a_name_selects_its_dot_its_cell_and_its_head(page):
    page.locator("details", has_text="findings in sentences").first.evaluate("part => { part.open = true; }")
    name = page.locator(".findings button.name[data-name*=heads]").first
    full = name.get_attribute("data-name")
    layer, role, head = re.match(r"layers\.(\d+)\.(\w+)\.heads\.(\d+)", full).groups()
    assert name.text_content() == f"L{layer}H{head}.{role}"
    name.click()
    assert picked(page) == [full]
    side = full.rpartition(".")[2]
    assert page.locator("#graph-status").text_content().startswith(f"L{layer}H{head}.{role} ({side}): ")
    marked = page.evaluate("views.matrix.signal('marked').map((i) => data.matrix.blocks[i].name)")
    assert marked == [f"{role} {side}s, layer {layer}"]
    square = page.evaluate("views.heads.data('heads').find((one) => one.id === views.heads.signal('head'))")
    assert (square["layer"], square["head"]) == (int(layer), int(head))
    assert -1 <= page.locator("#graph").bounding_box()["y"] < 900  # a page scrolls by whole pixels
    page.get_by_role("button", name="Copy names").click()
    assert copied(page) == full


@browser_only
@pytest.mark.browser
def test_back_returns_to_where_a_name_was(page):
    sentences = page.locator("details", has_text="findings in sentences").first
    sentences.evaluate("part => { part.open = true; }")
    name = sentences.locator("button.name[data-name*=heads]").last
    name.scroll_into_view_if_needed()
    address, before = page.url, page.evaluate("scrollY")
    name.click()
    assert page.url.endswith("#graph")
    page.go_back()
    page.wait_for_timeout(200)
    assert page.url == address
    assert page.evaluate("scrollY") == pytest.approx(before, abs=2)


@browser_only
@pytest.mark.browser
def test_a_search_lists_the_edges_of_its_only_match_and_says_what_names_are_like(page):
    search, said = page.locator("#graph-controls input[type=search]"), page.locator("#graph-status")
    nodes = page.evaluate("views.graph.data('nodes').map((node) => [node.name, node.edges])")
    name, edges = max(nodes, key=lambda node: node[1])
    page.evaluate("async () => { await views.graph.signal('picked', [0]).signal('partners', [1]).runAsync(); }")
    search.fill(name)
    page.wait_for_timeout(250)
    assert picked(page) == []
    side = name.rpartition(".")[2]
    assert f"{short_name(name)} ({side}): {edges} edges" in said.text_content()
    assert said.text_content().count("excess") == edges + 1  # and once of them all
    search.fill("L99H99")
    page.wait_for_timeout(250)
    assert "layers.3.q" in said.text_content()


@browser_only
@pytest.mark.browser
def test_a_name_without_an_edge_says_so(page, analysis):
    lonely = next(name for name in analysis.graph if not analysis.graph.degree(name))
    page.evaluate("name => lead(name, [views.graph, views.matrix, null])", lonely)
    page.wait_for_timeout(200)
    assert page.locator("#graph-status").text_content().startswith(f"{lonely} has no edge")
    assert picked(page) == []


@browser_only
@pytest.mark.browser
def test_columns_are_sorted_by_keyboard_alone_numbers_by_size(page):
    edges = table(page, "graph")
    edges.evaluate("table => { table.closest('details').open = true; }")
    heading = edges.get_by_role("button", name="excess", exact=True)
    heading.focus()
    column = edges.locator("th").all_text_contents().index("excess")
    for key, order, smallest_first in (("Enter", "descending", False), ("Space", "ascending", True)):
        page.keyboard.press(key)
        cells = [float(row.split("\t")[column]) for row in edges.locator("tbody tr").all_inner_texts()]
        assert cells == sorted(cells, reverse=not smallest_first)
        assert edges.locator("th[aria-sort]").all_text_contents() == ["excess"]
        assert edges.locator("th[aria-sort]").get_attribute("aria-sort") == order


@browser_only
@pytest.mark.browser
def test_a_table_is_copied_with_all_names_in_full(page, analysis):
    edges = table(page, "graph")
    edges.evaluate("table => { table.closest('details').open = true; }")
    edges.locator("xpath=../preceding-sibling::button[1]").press("Enter")
    head, *rows = [line.split("\t") for line in copied(page).splitlines()]
    assert head[:2] == ["from", "to"]
    assert len(rows) == min(30, analysis.graph.number_of_edges())
    assert all(row[0] in analysis.graph and row[1] in analysis.graph for row in rows)


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize("joined", [True, False])
def test_a_click_on_a_cell_says_its_overlap(page, joined):
    """Also where no edge joins the two."""
    page.evaluate("unfold('matrix')")
    cell = page.evaluate(
        """joined => {
            const nodes = new Map(views.graph.data("nodes").map((node) => [node.id, node]));
            const ends = views.graph.data("edges").map((edge) => [edge.s, edge.t]);
            const {blocks} = data.matrix;
            const has = (i, j) => ends.some(([s, t]) => (blocks[i].nodes.includes(s) && blocks[j].nodes.includes(t))
                || (blocks[j].nodes.includes(s) && blocks[i].nodes.includes(t)));
            const cell = views.matrix.data("cells").find((cell) => cell.i < cell.j && has(cell.i, cell.j) === joined);
            document.getElementById("matrix-chart").scrollIntoView();
            const [left, top] = views.matrix.origin();
            const box = document.querySelector("#matrix-chart canvas").getBoundingClientRect();
            return {
                value: cell.value, names: cell.names,
                x: box.x + left + views.matrix.scale("x")(cell.i + 0.5),
                y: box.y + top + views.matrix.scale("y")(cell.j + 0.5),
            };
        }""",
        joined,
    )
    page.mouse.click(cell["x"], cell["y"])
    page.wait_for_timeout(100)
    said = page.locator("#matrix-status").text_content()
    assert said.startswith(f"{cell['names']}: ")
    assert f" {cell['value']:.2f} " in said
    assert ("Between" in said) == joined


@browser_only
@pytest.mark.browser
def test_cards_links_and_search_work_without_a_mouse(page):
    card = page.locator('.card a[href="#repeats"]').first
    names = json.loads(card.get_attribute("data-picked"))
    card.press("Enter")
    assert page.url.endswith("#repeats")
    assert page.locator('section[aria-labelledby="repeats"] table').first.is_visible()
    assert set(names) >= set(picked(page)) != set()
    page.locator('a.anchor[href="#heads"]').press("Enter")
    assert page.url.endswith("#heads")
    assert page.locator("#heads-chart svg").is_visible()
    search = page.locator("#graph-controls input[type=search]")
    search.focus()
    page.keyboard.type("L1H1.q")
    page.wait_for_timeout(250)
    found = page.evaluate("views.graph.data('nodes').filter((node) => node.found).map((node) => node.name)")
    assert found == ["layers.1.q.heads.1.read"]


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "layers", "heads"),
    [
        ("L1", {"1"}, None),
        ("layers.2", {"2"}, None),
        (" l1h1 ", {"1"}, {"1"}),
        ("layers.1.q.heads.1", {"1"}, {"1"}),
        ("H1", {str(layer) for layer in (*range(LAYERS), *range(10, 22))}, {"1"}),
        ("ayers.2", {"2", "20", "21"}, None),  # no name has this as a whole part
        ("(", set(), None),
    ],
)
def test_whole_names_are_found_before_those_that_only_begin_alike(page, name, layers, heads):
    """Beside the four layers of the network, twelve from 10 to 21 with heads 1 and 12."""
    page.evaluate(
        """() => {
            const one = views.graph.data("nodes").find((node) => node.name === "layers.1.q.heads.1.read");
            const made = Array.from({length: 24}, (_, number) => {
                const layer = 10 + Math.floor(number / 2), head = number % 2 ? 12 : 1;
                const name = `layers.${layer}.q.heads.${head}.read`;
                return {id: 9000 + number, name, layer, lane: one.lane, space: one.space, stream: true, offset: 0.5};
            });
            return views.graph.insert("nodes", made).runAsync().then(() => null);
        }"""
    )
    try:
        page.evaluate("name => views.graph.signal('search', name).runAsync().then(() => null)", name)
        found = page.evaluate("views.graph.data('nodes').filter((node) => node.found).map((node) => node.name)")
    finally:
        page.evaluate("views.graph.remove('nodes', (node) => node.id >= 9000).runAsync().then(() => null)")
    assert {one.split(".")[1] for one in found} == layers
    if heads:
        assert {one.split(".")[4] for one in found if "heads" in one} == heads


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    if width == 768:  # the rest is the same at other widths
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 768, 1440])
def test_no_chart_moves_when_something_is_selected(page, width):
    from playwright.sync_api import expect

    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("['graph', 'matrix', 'heads'].forEach(unfold)")
    places = """() => ["graph", "matrix", "heads"].map((name) => {
        const box = document.querySelector(`#${name}-chart svg, #${name}-chart canvas`).getBoundingClientRect();
        return [box.x, box.y + scrollY, box.width, box.height];
    })"""
    before = page.evaluate(places)
    busiest = "views.graph.data('nodes').reduce((one, other) => (other.edges > one.edges ? other : one)).id"
    head = "views.heads.data('heads').at(-1).id"
    cell = "views.matrix.data('cells').findLast((cell) => cell.i !== cell.j && data.matrix.blocks[cell.i].nodes.length)"
    for select in (f"views.graph.signal('picked', [{busiest}])", f"views.matrix.signal('cell', {cell})"):
        said = page.locator("#matrix-status").text_content()
        page.evaluate(f"{select}.runAsync().then(() => null)")
        expect(page.locator("#matrix-status")).not_to_have_text(said)
        assert page.evaluate(places) == before
    page.evaluate(f"views.heads.signal('head', {head}).runAsync().then(() => null)")
    assert page.evaluate(places) == before
    for kind in page.locator("#heads-controls option").evaluate_all("options => options.map((one) => one.value)"):
        page.evaluate("kind => views.heads.signal('head', null).signal('kind', kind).runAsync().then(() => null)", kind)
        assert page.evaluate(places) == before


@browser_only
@pytest.mark.browser
def test_where_the_matrix_is_zero_the_page_shows_in_the_dark_too(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        zero, paper = page.evaluate(
            """() => {
                const box = document.createElement("i");
                document.body.append(box);
                box.style.color = views.matrix.scale("colour")(0);
                const zero = getComputedStyle(box).color;
                box.remove();
                return [zero, getComputedStyle(document.body).backgroundColor];
            }"""
        )
        assert zero == paper


def test_heads_and_layers_that_repeat_are_one_list(analysis):
    from flaggeo.findings.repeats import repeats_table

    rows = repeats_table(analysis)
    heads = rows[rows["what"] == "heads"]
    made_equal = heads[heads["which"] == "layers.1.q.heads.1.read, layers.3.q.heads.0.read"]
    assert len(made_equal) == 1
    assert made_equal["in llama.cpp"].item() == "blk.1.attn_q, blk.3.attn_q"
    assert made_equal["excess at full width"].item() > 0.5
    assert rows["excess at rank 2"].notna().all()
    for _, row in rows[rows["what"] == "layers"].iterrows():
        earlier, later = map(int, row["which"].split(" and "))
        assert later == earlier + 1
        assert row["layers kept (mergekit)"] in (f"[0, {later}] [{later + 1}, {LAYERS}]", f"[0, {later}]")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from layers.3.q.heads.0.read to embed.write.", ["layers.3.q.heads.0.read", "embed.write"]),
        ("layers.3.q: its inputs; layers.4.k.read: these", ["layers.3.q", "layers.4.k.read"]),
        ("encoder.layers.0.gate, layers.1.map:linear.write", ["encoder.layers.0.gate", "layers.1.map:linear.write"]),
        ("model.layers.0.mlp.up_proj.weight and transformer.layers.0.q.bias", []),
        ("embed and L4.gate", []),
    ],
)
def test_names_are_told_from_other_words_and_from_tensors(text, names):
    made = with_names(text)
    assert re.findall(r'data-name="([^"]*)"', made) == names
    assert with_names("<b>layers.1.q</b>").startswith("&lt;b&gt;<button")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"),
        (0.0123, "0.012"),
        (0.001234, "0.00123"),
        (-0.000056789, "-5.68e-5"),
        (2.5e-6, "2.5e-6"),
        (9.9e-7, "&lt; 1e-6"),
        (0.0, "0.000"),
        (float("nan"), "–"),
    ],
)
def test_small_numbers_keep_three_digits_down_to_a_floor(value, shown):
    assert f">{shown}</td>" in html_table(pd.DataFrame({"q-value": [value]}))
