"use strict";
const contents = JSON.parse(document.getElementById("contents").textContent);
const COLOURS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]; // Okabe and Ito
const DASHES = ["solid", "dash", "dashdot", "longdash"], SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star"];
const [MEMORISED, RECOVERED] = ["memorised", "recovered"].map(word => Object.keys(contents.curves).find(m => m.startsWith(word)));
const KINDS = [["label correct, prediction correct", "#0072B2", ""], ["label correct, prediction wrong", "#56B4E9", "/"],
  ["label wrong, prediction correct", "#E69F00", ""], ["label wrong, prediction wrong", "#D55E00", "/"]];
const NO_UPLOAD = { showSendToCloud: false, modeBarButtonsToRemove: ["sendChartToCloud"], plotlyServerURL: "" };
const element = id => document.getElementById(id);
const rows = contents.configurations.map((configuration, number) => ({ ...configuration, number }));
let sorted = { column: -1, ascending: true };

function add(parent, tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function filtered() { // every word begins somewhere in the row: "sym" is not "asym"
  const words = element("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = words.map(word => new RegExp("(?<![a-z0-9])" + word.replace(/[^a-z0-9]/g, "\\$&")));
  return rows.filter(row => tests.every(test => test.test(row.cells.join(" ").toLowerCase())));
}

function compareText(a, b) { // its numbers count as numbers, also behind a point: sigma=0.05 comes before sigma=0.5
  const [mine, others] = [a, b].map(text => text.split(/(\d*\.?\d+(?:e[-+]?\d+)?)/)); // every second part is a number
  for (let i = 0; i < Math.min(mine.length, others.length); i++) {
    const order = i % 2 ? parseFloat(mine[i]) - parseFloat(others[i]) : mine[i].localeCompare(others[i], "en");
    if (order) return order;
  }
  return mine.length - others.length;
}

function compare(one, other) { // rows without a number come last in either order
  const [a, b] = [one, other].map(row => row.cells[sorted.column]);
  const sign = sorted.ascending ? 1 : -1;
  if (contents.columns[sorted.column].text) return sign * compareText(a, b);
  const [x, y] = [a, b].map(cell => parseFloat(cell.replace("<", "")));
  return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
}

function showTable() {
  const body = document.querySelector("#configurations tbody");
  const shown = filtered();
  if (sorted.column >= 0) shown.sort((a, b) => compare(a, b) || a.number - b.number);
  body.replaceChildren();
  for (const row of shown) {
    const line = add(body, "tr");
    row.cells.forEach((cell, i) => add(line, "td", cell, contents.columns[i].text ? "text" : ""));
  }
  element("count").textContent = `${shown.length} of ${rows.length} rows`;
  document.querySelectorAll("#configurations th").forEach((head, i) => {
    head.ariaSort = i === sorted.column ? (sorted.ascending ? "ascending" : "descending") : null;
  });
}

function makeHead() {
  const line = add(document.querySelector("#configurations thead"), "tr");
  contents.columns.forEach((column, i) => {
    const button = add(add(line, "th", undefined, column.text ? "text" : ""), "button", column.name);
    button.addEventListener("click", () => {
      const again = sorted.column === i;
      sorted = { column: i, ascending: again ? !sorted.ascending : column.text }; // numbers: the largest first
      showTable();
    });
  });
}

/** Lines with a band of one standard deviation. Their place in the panel chooses a colour, then a dash, then a symbol. */
function lines(measure, look) {
  const panel = rows.filter(row => row.panel === element("panel").value);
  const shown = new Set(filtered().map(row => row.number));
  const traces = [];
  panel.forEach((row, place) => {
    const curve = (contents.curves[measure] || {})[row.number];
    if (!curve || !shown.has(row.number)) return;
    const color = COLOURS[place % COLOURS.length];
    const turn = Math.floor(place / COLOURS.length); // how often the colours were used before
    const dash = look.dash || DASHES[turn % DASHES.length], marked = look.dash ? turn : Math.floor(turn / DASHES.length);
    const std = curve.std || curve.mean.map(() => null);
    if (curve.std) {
      const above = curve.mean.map((mean, i) => mean + std[i]), below = curve.mean.map((mean, i) => mean - std[i]);
      traces.push({ x: [...curve.x, ...[...curve.x].reverse()], y: [...above, ...below.reverse()], fill: "toself",
        fillcolor: color, opacity: 0.15, line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false,
        legendgroup: row.title });
    }
    traces.push({ x: curve.x, y: curve.mean, name: row.title + (look.suffix || ""), legendgroup: row.title,
      mode: marked ? "lines+markers" : "lines", marker: { symbol: SYMBOLS[(marked - 1) % SYMBOLS.length], size: 7 },
      line: { color, dash, width: 2 }, text: std.map(value => value === null ? "" : ` ± ${value.toFixed(2)}`),
      hovertemplate: `%{y:.2f}%{text} (n = ${row.runs})` });
  });
  return traces;
}

function plot(id, traces, x, y) {
  const section = element(`${id}-section`);
  if (section) section.hidden = !traces.length;
  const axis = { gridcolor: "#e4e4e4", zeroline: false, automargin: true };
  Plotly.react(id, traces, { xaxis: { ...axis, title: { text: x } }, yaxis: { ...axis, title: { text: y } },
    hovermode: "x unified", hoverlabel: { namelength: -1 }, margin: { t: 10, r: 10 }, plot_bgcolor: "#fff",
    legend: { orientation: "h", y: -0.18 } }, { displaylogo: false, responsive: true, ...NO_UPLOAD });
}

function sigmaLines() {
  const found = new Map();
  for (const row of filtered()) {
    if (!row.sigma || row.panel !== element("panel").value) continue;
    if (!found.has(row.sigma.line)) found.set(row.sigma.line, []);
    found.get(row.sigma.line).push(row.sigma);
  }
  return [...found].filter(([, points]) => new Set(points.map(point => point.x)).size > 1).map(([name, points], place) => {
    points.sort((a, b) => a.x - b.x);
    return { name, x: points.map(point => point.x), y: points.map(point => point.mean), mode: "lines+markers",
      marker: { symbol: SYMBOLS[place % SYMBOLS.length], size: 8 }, line: { color: COLOURS[place % COLOURS.length] },
      error_y: { type: "data", array: points.map(point => point.std ?? 0), visible: points.some(point => point.std !== null) },
      hovertemplate: "%{y:.2f}" };
  });
}

function kinds() { // stacked shares of the samples; those of wrong predictions are hatched
  return (contents.dissection[element("dissected").value] || []).map((shares, k) => ({
    name: KINDS[k][0], y: shares, x: shares.map((_, i) => i + 1), stackgroup: "kinds", line: { width: 0 },
    fillcolor: KINDS[k][1], hovertemplate: "%{y:.1f} %",
    fillpattern: { shape: KINDS[k][2], bgcolor: KINDS[k][1], fgcolor: "#fff", size: 7 } }));
}

function draw() {
  const measure = element("measure").value;
  plot("curves", measure ? lines(measure, {}) : [], "epoch", measure);
  plot("memorisation", [...lines(MEMORISED, { dash: "solid", suffix: ": memorised" }),
    ...lines(RECOVERED, { dash: "dot", suffix: ": recovered" })], "epoch", "wrongly labelled samples (%)");
  plot("dissection", kinds(), "interval of equally many samples (loss →)", "share of the samples (%)");
  plot("sigma", sigmaLines(), "σ", "test accuracy at the last epoch (%)");
}

function list(id, names, lines) {
  element(`${id}-section`).hidden = !lines.length;
  const head = add(add(element(id), "thead"), "tr");
  names.forEach(name => add(head, "th", name, "text"));
  const body = add(element(id), "tbody");
  for (const line of lines) {
    const row = add(body, "tr");
    line.forEach((cell, i) => add(row, "td", cell, names[i] === "message" ? "text message" : "text"));
  }
}

makeHead();
showTable();
element("note").textContent = contents.note;
contents.remarks.forEach(remark => add(element("remarks"), "li", remark));
contents.panels.forEach(panel => add(element("panel"), "option", panel));
Object.keys(contents.curves).forEach(measure => add(element("measure"), "option", measure));
for (const number of Object.keys(contents.dissection))
  add(element("dissected"), "option", `${rows[number].panel}: ${rows[number].title}`).value = number;
list("slowest", ["run", "minutes", "s/epoch", "processor", "GPUs"], contents.slowest);
list("unfinished", ["run", "state", "epochs", "message"], contents.unfinished);
element("filter").addEventListener("input", () => { showTable(); draw(); });
for (const id of ["panel", "measure", "dissected"]) element(id).addEventListener("change", draw);
draw();
