"use strict";
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  toImageButtonOptions: { format: "svg" } };
const DAY = [...document.querySelectorAll(".figure[data-day]")];
let following = false;
function follow(from, change) {
  if (following) return;
  const range = change["xaxis.range"] || (change["xaxis.range[0]"] && [change["xaxis.range[0]"], change["xaxis.range[1]"]]);
  if (!range && !change["xaxis.autorange"]) return;
  following = true;
  const wanted = range || FIGURES[from.id].layout.xaxis.range;
  Promise.all(DAY.filter(d => d.data && (d !== from || !range)).map(d => Plotly.relayout(d, { "xaxis.range": [...wanted] })))
    .finally(() => { following = false; });
}
for (const div of document.querySelectorAll(".figure")) {
  const f = FIGURES[div.id];
  const copy = JSON.parse(JSON.stringify(f));
  Plotly.newPlot(div, copy.data, copy.layout, CONFIG).then(() => {
    if (div.dataset.day !== undefined) div.on("plotly_relayout", change => follow(div, change));
    if (div.dataset.hidden !== undefined) div.hidden = true;
  });
}
for (const bar of document.querySelectorAll(".tabs")) {
  const buttons = [...bar.querySelectorAll("button")];
  for (const button of buttons) button.addEventListener("click", () => {
    for (const other of buttons) {
      const chosen = other === button, div = document.getElementById(other.dataset.figure);
      other.setAttribute("aria-selected", String(chosen)); div.hidden = !chosen;
      if (chosen) Plotly.Plots.resize(div);
    }
  });
}
window.addEventListener("beforeprint", () => document.querySelectorAll(".figure:not([hidden])").forEach(d => Plotly.Plots.resize(d)));
document.body.dataset.drawn = "yes";
