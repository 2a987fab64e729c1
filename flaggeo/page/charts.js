// Opens the charts of a page, all of which find their data in it.
const data = JSON.parse(document.getElementById("data").textContent);

// A chart of panels has as many in a row as the page has room for.
function fitted(spec, width) {
  if (!spec.columns) return spec;
  const panel = (spec.spec ?? spec.concat[0]).width + 60;
  return {...spec, columns: Math.max(1, Math.min(spec.columns, Math.floor(width / panel)))};
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
