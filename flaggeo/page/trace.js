// The parameter `at` of the charts follows the slider, which stands outside of them all.
const slider = document.getElementById("step");
const status = document.getElementById("step-name");

function announce() {
  status.textContent = data.labels[slider.value];
  slider.setAttribute("aria-valuetext", status.textContent);
}

slider.addEventListener("input", announce);
announce();
openCharts();
