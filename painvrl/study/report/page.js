"use strict";
// Draws the page's pictures, sorts its table, and shows a selection in the front, the lines and the table.
const page = JSON.parse(document.getElementById("page").textContent);
const colours = new Map(Object.entries(page.dark));
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 860px)");
const pictures = [...document.querySelectorAll(".picture")];
const [front, lines] = ["front", "parallel"].map(name => document.getElementById("picture-" + name));
const table = document.getElementById("points"), rows = [...table.tBodies[0].rows];
const rowOf = new Map(rows.map(row => [row.dataset.name, row]));
let chosen = null, source = null;

function figureOf(picture) {
  const tint = (_, value) => (dark.matches && colours.get(value)) || value;
  const figure = JSON.parse(picture.nextElementSibling.textContent, tint), layout = figure.layout;
  if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
  if (picture === front && narrow.matches) { // planes below each other, at the page's whole width
    const axes = Object.keys(layout).filter(name => name.startsWith("xaxis"));
    axes.forEach((name, place) => {
      layout[name].domain = [0, 1];
      layout[name.replace("x", "y")].domain = [1 - (place + 0.8) / axes.length, 1 - place / axes.length];
    });
    layout.height = 320 + 400 * axes.length; // the legend is long there
    layout.legend.font.size = 11;
    layout.modebar.orientation = "v"; // beside the planes: the legend has the whole width
    layout.margin.r = 44;
  }
  picture.style.height = layout.height + "px";
  return figure;
}

function draw() {
  for (const picture of pictures) {
    const { data, layout } = figureOf(picture);
    const zoom = picture === lines ? [] : ["zoom2d", "autoScale2d"];
    Plotly.react(picture, data, layout, {
      responsive: true, displaylogo: false, displayModeBar: true,
      modeBarButtons: [["toImage", ...(picture === front ? ["select2d", "lasso2d"] : []), ...zoom]],
      toImageButtonOptions: { filename: page.study + "-" + picture.id.slice("picture-".length), scale: 2 },
    });
  }
}

// Selections: names of points, from the front or from the axes of the lines; null is no selection.
function choose(names, from) {
  [chosen, source] = [names, from];
  if (front) {
    const places = trace => (trace.customdata ?? []).flatMap((name, at) => (names.has(name) ? [at] : []));
    Plotly.restyle(front, { selectedpoints: names ? front.data.map(places) : [null] });
    if (from !== front) Plotly.relayout(front, { selections: [] });
  }
  if (lines && from !== lines) {
    const { customdata, dimensions, line } = figureOf(lines).data[0];
    const free = dimensions.map((_, place) => [`dimensions[${place}].constraintrange`, null]);
    const shown = names ? customdata.map(name => (names.has(name) ? 1 : 0)) : line.color;
    Plotly.restyle(lines, { ...Object.fromEntries(free), "line.color": [shown] });
  }
  for (const row of rows) row.hidden = names !== null && !names.has(row.dataset.name);
  const shown = rows.filter(row => !row.hidden).length;
  document.getElementById("chosen").textContent = names ? `${shown} of ${rows.length} selected` : "";
  document.getElementById("clear").hidden = names === null;
}

function passing() {
  const { customdata, dimensions } = lines.data[0];
  const limited = dimensions.filter(axis => axis.constraintrange?.length);
  if (!limited.length) return null;
  const passes = (axis, at) => (Array.isArray(axis.constraintrange[0]) ? axis.constraintrange : [axis.constraintrange])
    .some(([low, high]) => low <= axis.values[at] && axis.values[at] <= high);
  return new Set(customdata.filter((_, at) => limited.every(axis => passes(axis, at))));
}

function hideCoveredLabels() { // the last drawn are the most important
  const taken = [];
  for (const label of [...front.querySelectorAll(".textpoint text")].reverse()) {
    const box = label.getBoundingClientRect();
    const free = taken.every(it =>
      box.right <= it.left || it.right <= box.left || box.bottom <= it.top || it.bottom <= box.top);
    label.style.visibility = free ? "" : "hidden";
    if (free) taken.push(box);
  }
}

function sort(column, button) {
  const up = button.parentNode.ariaSort !== "ascending";
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  button.parentNode.ariaSort = up ? "ascending" : "descending";
  const words = new Intl.Collator(undefined, { numeric: true });
  const keyed = rows.map(row => [row.cells[column].dataset.value ?? "", row.cells[column].textContent, row]);
  keyed.sort(([a, aText], [b, bText]) => {
    if (!aText || !bText) return !aText - !bText; // what has none comes last, both ways
    return (up ? 1 : -1) * (a && b ? a - b : words.compare(aText, bText));
  });
  table.tBodies[0].append(...keyed.map(([, , row]) => row));
}

draw();
for (const query of [dark, narrow]) query.addEventListener("change", () => { draw(); choose(null); });
[...table.tHead.querySelectorAll("button")].forEach((button, column) => {
  button.addEventListener("click", () => sort(column, button));
});
document.getElementById("clear").addEventListener("click", () => choose(null));
front?.on("plotly_selected", told => {
  if (told?.points.length) choose(new Set(told.points.map(point => point.customdata)), front);
});
front?.on("plotly_deselect", () => choose(null));
front?.on("plotly_click", told => rowOf.get(told.points[0].customdata)?.querySelector("a")?.click());
front?.on("plotly_afterplot", hideCoveredLabels);
lines?.on("plotly_restyle", ([change]) => {
  const names = Object.keys(change).some(name => name.includes("constraintrange")) && passing();
  if (names || (names === null && source === lines)) choose(names, lines); // else it was set here, for another
});
if (front) hideCoveredLabels();
if (page.refresh) setInterval(() => {
  if (!chosen && !document.hidden && !table.querySelector("[aria-sort]")) location.reload();
}, page.refresh * 1000);
