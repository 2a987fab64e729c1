const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = () => getComputedStyle(document.body).color;

// The overlaps of all pairs of blocks, one byte each, row by row of the upper triangle; 255 stands for no pair.
function matrixCells() {
  const {blocks, bytes} = data.matrix;
  const values = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
  const cells = [];
  let position = 0;
  for (let i = 0; i < blocks.length; i++) {
    for (let j = i; j < blocks.length; j++) {
      const byte = values[position++];
      if (byte === 255) continue;
      const names = `${blocks[i].name} and ${blocks[j].name}`;
      cells.push({i, j, value: byte / 254, names});
      if (i !== j) cells.push({i: j, j: i, value: byte / 254, names});
    }
  }
  return cells;
}

function describe(view) {
  const picked = view.signal("picked"), partners = view.signal("partners");
  if (!picked.length) {
    const found = view.data("nodes").filter((node) => node.found).length;
    const searched = view.signal("search").trim() ? `${found || "No"} ${found === 1 ? "subspace has" : "subspaces have"} this name. ` : "";
    return `${searched}${view.data("shown").length} of ${view.data("edges").length} edges shown. Select a dot to list its edges.`;
  }
  const nodes = new Map(view.data("nodes").map((node) => [node.id, node]));
  const shown = [...view.data("shown")].sort((a, b) => b.excess - a.excess);
  const subject = partners.length
    ? `Between ${data.nodeNames(picked, nodes)} and ${data.nodeNames(partners, nodes)}`
    : data.nodeNames(picked, nodes);
  const listed = shown.slice(0, 6).map((edge) => {
    const far = picked.includes(edge.s) && !partners.length ? nodes.get(edge.t) : nodes.get(edge.s);
    return `${partners.length ? `${nodes.get(edge.s).name} – ${nodes.get(edge.t).name}` : far.name} (${edge.kind}, overlap ${edge.overlap.toFixed(2)}, excess ${edge.excess.toFixed(2)})`;
  });
  const count = shown.length === 1 ? "1 edge" : `${shown.length} edges`;
  return `${subject}: ${count}${listed.length ? `: ${listed.join("; ")}` : ""}${shown.length > listed.length ? "; …" : "."}`;
}

data.nodeNames = (ids, nodes) => (ids.length > 2 ? `${ids.length} subspaces of ${nodes.get(ids[0]).lane}, layer ${nodes.get(ids[0]).layer}` : ids.map((id) => nodes.get(id).name).join(", "));

// Arrow keys move from dot to dot: left and right along the layers, up and down from lane to lane.
function neighbour(view, key) {
  const nodes = view.data("nodes");
  const current = nodes.find((node) => node.id === view.signal("picked")[0]);
  if (!current) return [nodes[0].id];
  const horizontal = key === "ArrowLeft" || key === "ArrowRight";
  const sign = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1;
  const along = horizontal ? "x" : "y", across = horizontal ? "y" : "x";
  const ahead = nodes.filter((node) => sign * (node[along] - current[along]) > 0.5);
  if (!ahead.length) return [current.id];
  const cost = (node) => Math.abs(node[along] - current[along]) + 20 * Math.abs(node[across] - current[across]);
  return [ahead.reduce((best, node) => (cost(node) < cost(best) ? node : best)).id];
}

// Closed sections open where a link leads to them, and the charts have their widths by then.
function unfold(anchor) {
  const part = document.getElementById(anchor)?.closest("details");
  if (part) part.open = true;
}

async function open() {
  const names = ["graph", "matrix", "heads", "continuity", "interfaces", "interface-curves"];
  const views = await Promise.all(names.map((name) => embed(name, name === "matrix" ? "canvas" : "svg")));
  const [graph, matrix] = views;
  // For the browser's console.
  window.views = Object.fromEntries(names.map((name, place) => [name, views[place]]));
  if (matrix) {
    const paint = () => matrix.signal("ink", ink()).runAsync();
    await matrix.insert("cells", matrixCells()).runAsync();
    await paint();
    dark.addEventListener("change", paint);
  }
  if (graph) {
    const status = document.getElementById("graph-status");
    const blockOf = new Map(data.matrix ? data.matrix.blocks.flatMap((block, i) => block.nodes.map((id) => [id, i])) : []);
    const settle = async () => {
      status.textContent = describe(graph);
      if (matrix) document.getElementById("matrix-status").textContent = graph.signal("picked").length ? status.textContent : "Select a cell to list the edges between its row and its column.";
      const marked = new Set([...graph.signal("picked"), ...graph.signal("partners")].map((id) => blockOf.get(id)));
      if (matrix) await matrix.signal("marked", [...marked]).runAsync();
    };
    const pick = (picked, partners = []) => graph.signal("picked", picked).signal("partners", partners).runAsync().then(settle);
    for (const signal of ["picked", "partners", "threshold", "kind", "spaces", "search"]) {
      graph.addSignalListener(signal, () => graph.runAfter(settle));
    }
    await settle();
    document.getElementById("graph-figure").addEventListener("keydown", (event) => {
      if (event.key === "Escape") pick([]);
      else if (event.key.startsWith("Arrow")) pick(neighbour(graph, event.key));
      else return;
      event.preventDefault();
    });
    matrix?.addSignalListener("cell", (_, cell) => {
      const {blocks} = data.matrix;
      if (cell) pick(blocks[cell.i].nodes, cell.i === cell.j ? [] : blocks[cell.j].nodes);
    });
  }
  document.querySelectorAll("details.folded").forEach((part) => { part.open = false; });
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    unfold(link.hash.slice(1));
    const names = JSON.parse(link.dataset.picked ?? "[]");
    if (names.length) show(link.hash.slice(1), names, views);
  });
  if (location.hash) {
    unfold(location.hash.slice(1));
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }
  document.body.dataset.ready = "yes";
}

// What a card is about is selected in the chart that it leads to.
function show(section, names, [graph, , heads]) {
  if (section === "graph" && graph) {
    const ids = graph.data("nodes").filter((node) => names.includes(node.name)).map((node) => node.id);
    graph.signal("picked", ids.slice(0, 1)).signal("partners", ids.slice(1)).runAsync();
  }
  if (section === "heads" && heads) {
    const [one, other] = names.map((name) => name.match(/layers\.(?<layer>\d+)\.(?<role>\w+)\.heads\.(?<head>\d+)/).groups);
    const is = (square, head) => square.layer === Number(head.layer) && square.head === Number(head.head);
    const kind = (one.role + other.role).toUpperCase();
    const link = heads.data("edges").find((edge) => edge.kind.endsWith(kind) && is(edge.source, one) && is(edge.target, other));
    if (link) heads.signal("kind", link.kind).signal("head", link.s).runAsync();
  }
}

open();
