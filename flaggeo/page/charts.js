// Opens the charts of a page, all of which find their data in it.
const data = JSON.parse(document.getElementById("data").textContent);

// Pixels beside a chart for the names of its rows, and those below which its layers or its cells cannot be told apart.
const BESIDE = 110, LAYER = 18, SQUARE = 240;

// A chart of panels has as many in a row as the page has room for; others shrink as far as they can be read, then scroll.
function fitted(spec, room) {
  if (spec.columns) {
    const panel = (spec.spec ?? spec.concat[0]).width + 60;
    return {...spec, columns: Math.max(1, Math.min(spec.columns, Math.floor(room / panel)))};
  }
  if (spec.$schema.includes("vega-lite")) return spec;
  const side = Math.min(spec.width, Math.max(SQUARE, room - BESIDE));
  if (spec.height === spec.width) return {...spec, width: side, height: side};
  const [first, last] = spec.scales.find((scale) => scale.name === "x").domain;
  const least = BESIDE + LAYER * (last - first + 1);
  return {...spec, width: Math.min(spec.width + BESIDE, Math.max(least, room)), autosize: {type: "fit-x", contains: "padding"}};
}

function embed(name, renderer = "svg") {
  const element = document.getElementById(`${name}-chart`);
  if (!element || !data.charts[name]) return Promise.resolve(null);
  const controls = document.getElementById(`${name}-controls`);
  return vegaEmbed(element, fitted(data.charts[name], element.clientWidth), {
    renderer, actions: false, ast: true, ...(controls && {bind: controls}),
    config: {
      background: null,
      axis: {domainColor: "#999", tickColor: "#999", gridColor: "#9994"},
      view: {stroke: null},
    },
  }).then((result) => result.view);
}

function openCharts() {
  return Promise.all(Object.keys(data.charts).map((name) => embed(name))).then(() => { document.body.dataset.ready = "yes"; });
}

// A closed part prints its title alone.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
