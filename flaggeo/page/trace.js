"use strict";

// Opens the charts; their parameter `at` follows the slider, which stands outside of them all.
const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.getElementById("step");
const status = document.getElementById("step-name");

function announce() {
  status.textContent = data.labels[slider.value];
  slider.setAttribute("aria-valuetext", status.textContent);
}

slider.addEventListener("input", announce);
announce();

Promise.all(
  Object.entries(data.charts).filter(([, spec]) => spec).map(([name, spec]) => {
    const controls = document.getElementById(`${name}-controls`);
    return vegaEmbed(`#${name}-chart`, spec, {
      renderer: "svg", actions: false, ast: true, ...(controls && {bind: controls}),
      config: {
        background: null,
        axis: {domainColor: "#999", tickColor: "#999", gridColor: "#9994"},
        view: {stroke: null},
      },
    });
  })
).then(() => { document.body.dataset.ready = "yes"; });
