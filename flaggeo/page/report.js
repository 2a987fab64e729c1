const copyName = copyButton("Copy names", () => copyName.dataset.names);

const dark = matchMedia("(prefers-color-scheme: dark)");
// Colours of the matrix, from no overlap: the page itself.
const ramp = () => (dark.matches ? ["#16181d", "#7a3500", "#f08030", "#ffe3c8"] : ["#ffffff", "#fdb87e", "#d55e00", "#6b2400"]);
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

// What people call a subspace, as everywhere on the page, and whether it is what the weight reads or writes.
const label = ({name}) => name.replace(/layers\.(\d+)\.([^.]+)(?:\.heads\.(\d+))?\.(read|write)$/,
  (_, layer, role, head, side) => `L${layer}${head ? `H${head}` : ""}.${role} (${side})`);

// Edges that are listed at most.
const LISTED = 200;

// A name that was asked for and is not in the graph.
let sought = null;

function describe(view) {
  const picked = view.signal("picked"), partners = view.signal("partners");
  if (!picked.length && sought) return `${sought} has no edge: no overlap of it is significant and above every null.`;
  if (!picked.length) {
    const found = view.data("nodes").filter((node) => node.found);
    const shown = view.data("shown").length, all = view.data("edges").length;
    if (!view.signal("search").trim()) return `${shown} of ${all} edges shown. Select a dot to list its edges.`;
    if (!found.length) return `No subspace matches: 0 of ${all} edges shown. Names are such as L18H6, L18H6.o, q_proj, layers.3.q and blk.17.`;
    if (found.length > 1) return `${found.length} subspaces match: ${shown} of ${all} edges shown, of any excess. Select a dot to list its edges.`;
    return `1 subspace matches. ${listed(view, [found[0].id], [])}`;
  }
  return listed(view, picked, partners);
}

// Edges of what is selected, or between it and its partners, the strongest first.
function listed(view, picked, partners) {
  const nodes = new Map(view.data("nodes").map((node) => [node.id, node]));
  const shown = [...view.data("shown")].sort((a, b) => b.excess - a.excess);
  let subject = data.nodeNames(picked, nodes);
  if (partners.length) subject = `Between ${subject}${picked === partners ? "" : ` and ${data.nodeNames(partners, nodes)}`}`;
  const edges = shown.slice(0, LISTED).map((edge) => {
    const far = picked.includes(edge.s) && !partners.length ? nodes.get(edge.t) : nodes.get(edge.s);
    return `${partners.length ? `${label(nodes.get(edge.s))} – ${label(nodes.get(edge.t))}` : label(far)} (${edge.kind}, overlap ${edge.overlap.toFixed(2)}, excess ${edge.excess.toFixed(2)})`;
  });
  const count = `${shown.length === 1 ? "1 edge" : `${shown.length} edges`} of any excess`;
  return `${subject}: ${count}${edges.length ? `: ${edges.join("; ")}` : ""}${shown.length > edges.length ? "; …" : "."}`;
}

data.nodeNames = (ids, nodes) => (ids.length > 2 ? `${ids.length} subspaces of ${nodes.get(ids[0]).lane}, layer ${nodes.get(ids[0]).layer}` : ids.map((id) => label(nodes.get(id))).join(", "));

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

// Closed parts open where a link leads into them, and the charts have their widths by then.
function unfold(anchor) {
  for (let part = document.getElementById(anchor)?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
}

async function open() {
  const names = ["graph", "matrix", "heads", "continuity", "interfaces", "interface-curves"];
  const views = await Promise.all(names.map((name) => embed(name, name === "matrix" ? "canvas" : "svg")));
  const [graph, matrix] = views;
  // For the browser's console.
  window.views = Object.fromEntries(names.map((name, place) => [name, views[place]]));
  if (matrix) {
    const paint = () => matrix.signal("ink", ink()).signal("ramp", ramp()).runAsync();
    await matrix.insert("cells", matrixCells()).runAsync();
    await paint();
    dark.addEventListener("change", paint);
  }
  if (graph) {
    const status = document.getElementById("graph-status");
    const blockOf = new Map(data.matrix ? data.matrix.blocks.flatMap((block, i) => block.nodes.map((id) => [id, i])) : []);
    copyName.disabled = true;
    status.after(copyName);
    // What was selected through a cell, so that the cell's own number is shown as long as that is.
    let shownBy = null;
    const key = () => JSON.stringify([graph.signal("picked"), graph.signal("partners")]);
    const ofCell = document.getElementById("matrix-status");
    const settle = async () => {
      const chosen = [...graph.signal("picked"), ...graph.signal("partners")];
      const names = new Map(graph.data("nodes").map((node) => [node.id, node.name]));
      status.textContent = describe(graph);
      copyName.disabled = !chosen.length;
      copyName.dataset.names = chosen.map((id) => names.get(id)).join("\n");
      if (matrix) {
        const cell = shownBy === key() ? matrix.signal("cell") : null;
        ofCell.textContent = cell ? `${cell.names}: effect size of the overlap ${cell.value.toFixed(2)} (0 unrelated, 1 the same subspace). ${chosen.length ? status.textContent : "No edge of the graph joins them."}`
          : chosen.length ? status.textContent : "Select a cell to show its overlap.";
      }
      const marked = new Set([...graph.signal("picked"), ...graph.signal("partners")].map((id) => blockOf.get(id)));
      if (matrix) await matrix.signal("marked", [...marked]).runAsync();
    };
    const pick = (picked, partners = []) => graph.signal("picked", picked).signal("partners", partners).runAsync().then(settle);
    for (const signal of ["picked", "partners", "threshold", "kind", "spaces", "search"]) {
      graph.addSignalListener(signal, () => {
        if (["threshold", "kind", "search"].includes(signal)) sought = null;
        graph.runAfter(settle);
      });
    }
    await settle();
    document.getElementById("graph-figure").addEventListener("keydown", (event) => {
      if (event.key === "Escape") pick([]);
      else if (event.key.startsWith("Arrow")) pick(neighbour(graph, event.key));
      else return;
      event.preventDefault();
    });
    matrix?.addSignalListener("cell", (_, cell) => {
      if (!cell) return;
      const [row, column] = [cell.i, cell.j].map((place) => data.matrix.blocks[place].nodes);
      // Without a significant pair at either end there is nothing to select in the graph.
      const chosen = cell.i === cell.j ? [row, []] : row.length && column.length ? [row, column] : [[], []];
      shownBy = JSON.stringify(chosen);
      pick(...chosen);
    });
  }
  if (views[2]) followKind(views[2]);
  document.querySelectorAll("details.folded").forEach((part) => { part.open = false; });
  document.addEventListener("click", (event) => {
    const name = event.target.closest("button.name");
    if (name) return lead(name.dataset.name, views);
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    unfold(link.hash.slice(1));
    const names = JSON.parse(link.dataset.picked ?? "[]");
    if (names.length) select(names, views);
  });
  addEventListener("popstate", ({state}) => { if (state) requestAnimationFrame(() => scrollTo(0, state.top)); });
  if (location.hash) {
    unfold(location.hash.slice(1));
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }
  document.body.dataset.ready = "yes";
}

// The table below the heads has the links of the kind that is drawn.
function followKind(heads) {
  const rows = document.querySelectorAll('section[aria-labelledby="heads"] table')[0].tBodies[0].rows;
  const follow = () => [...rows].forEach((row) => { row.hidden = row.cells[0].textContent.trim() !== heads.signal("kind"); });
  heads.addSignalListener("kind", follow);
  follow();
}

// What a name stands for, selected in every chart that has it, and the first of these brought into view.
function lead(name, views) {
  const places = select([name], views);
  const anchor = places[0] ?? "graph";
  unfold(anchor);
  const heading = document.getElementById(anchor);
  // So that Back returns to where the name was, which a browser forgets where the address stays the same.
  history.replaceState({top: scrollY}, "");
  history.pushState(null, "", `#${anchor}`);
  heading.scrollIntoView();
  sought = places.length ? null : name;
  const figure = document.getElementById(`${anchor}-figure`) ?? heading;
  figure.focus({preventScroll: true});
}

// Select subspaces, or all of weights, by their names; gives the sections that show some of them.
function select(names, [graph, , heads]) {
  const places = [];
  if (graph) {
    const idsOf = (name) => graph.data("nodes").filter((node) => node.name === name || node.name.startsWith(`${name}.`)).map((node) => node.id);
    // What lies in the spaces of single layers alone is hidden at first.
    if (!names.some((name) => idsOf(name).length)) graph.signal("spaces", "all spaces").run();
    const [first, ...others] = names.map(idsOf);
    // Of two, what is between them; of a group, all that is inside it.
    const group = [first, ...others].flat();
    const [picked, partners] = names.length > 2 ? [group, group] : [first, others.flat()];
    graph.signal("picked", picked).signal("partners", partners).runAsync();
    if (first.length) places.push("graph");
  }
  const parts = names.map((name) => name.match(/layers\.(?<layer>\d+)\.(?<role>\w+)\.heads\.(?<head>\d+)/)?.groups);
  if (heads && parts[0]) {
    const squares = heads.data("heads"), grouped = squares.some((square) => square.shape === "circle");
    const is = (square, part) => square.layer === Number(part.layer) && square.head === Number(part.head)
      && (square.shape === "circle") === (grouped && ["k", "v"].includes(part.role));
    const square = squares.find((one) => is(one, parts[0]));
    if (square) {
      const links = heads.data("edges").filter((edge) => [edge.s, edge.t].includes(square.id));
      const kind = parts[1] ? (parts[0].role + parts[1].role).toUpperCase() : undefined;
      const link = links.find((edge) => kind && edge.kind.endsWith(kind)) ?? links.at(-1);
      if (link) heads.signal("kind", link.kind);
      heads.signal("head", square.id).runAsync();
      places.push("heads");
    }
  }
  return places;
}

open();
