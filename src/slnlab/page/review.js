"use strict";
// A decision is the label that a sample shall have: the number of a class, or null for a sample left out. It is stored by the
// name of the sample, so that it outlives another ranking. `listing` holds the samples that pass the filters, `at` the
// place of the current one in it. A decision does not change `listing`, so cards stay where they are until the page turns.
const contents = JSON.parse(document.getElementById("contents").textContent);
const PER_PAGE = 60, { classes, droppable } = contents;
const samples = contents.samples.map(([name, given, suggested, wrong, suspected, scores, reason], rank) =>
  ({ name, given, suggested, wrong, suspected, scores, reason, rank, picture: contents.pictures[rank] }));
const element = id => document.getElementById(id);
const percent = share => (100 * share).toFixed(share < 0.095 && share > 0 ? 1 : 0);
const title = name => contents.place === "path" ? name : `row ${name}`;
let decisions = new Map(), history = [], listing = [], at = 0, shownPage = -1, unsaved = false;

function add(parent, tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

// Decisions

function kind(sample) { // keep | relabel | drop | undefined
  const label = decisions.get(sample.name);
  return label === undefined ? undefined : label === null ? "drop" : label === sample.given ? "keep" : "relabel";
}

function words(sample) {
  const found = kind(sample);
  return found === "relabel" ? `→ ${classes[decisions.get(sample.name)]}` : { keep: "✓ keep", drop: "✕ drop" }[found] || "";
}

/** Decide on samples; labelOf gives the label of each. One undo takes all of it back. */
function decide(chosen, labelOf) {
  if (!chosen.length) return say("There is no sample to decide on.");
  history.push(chosen.map(sample => [sample, decisions.get(sample.name)]));
  chosen.forEach(sample => decisions.set(sample.name, labelOf(sample)));
  say(chosen.length === 1 ? `${title(chosen[0].name)}: ${words(chosen[0])}` : `${chosen.length} samples decided`);
  changed();
}

const LABELS = {
  keep: sample => sample.given,
  relabel: sample => sample === listing[at] ? Number(element("label").value) : sample.suggested,
  drop: () => null,
};

function decideHere(which) {
  if (which === "drop" && !droppable) return say("No sample of this data set can be left out: keep or relabel.");
  if (!listing.length) return say("There is no sample to decide on.");
  decide([listing[at]], LABELS[which]);
  move(1);
}

function decidePage(which) {
  if (which === "drop" && !droppable) return say("No sample of this data set can be left out: keep or relabel.");
  const first = page() * PER_PAGE;
  decide(listing.slice(first, first + PER_PAGE).filter(sample => !kind(sample)), LABELS[which]);
}

function undo() {
  const last = history.pop();
  if (!last) return say("There is nothing to undo.");
  for (const [sample, before] of last) {
    if (before === undefined) decisions.delete(sample.name);
    else decisions.set(sample.name, before);
  }
  say(`Undone: ${last.length === 1 ? title(last[0][0].name) : `${last.length} samples`}`);
  changed();
  if (!listing.includes(last[0][0])) filter();
  goTo(Math.max(0, listing.indexOf(last[0][0])));
}

function changed() {
  save();
  document.querySelectorAll(".card").forEach(card => mark(card, samples[card.dataset.rank]));
  showCounts();
  showCurrent();
}

// Decisions outlive the page in the browser's storage, which some browsers refuse to files.

const STORAGE = `slnlab review ${contents.digest}`;

function load() {
  decisions = new Map(Object.entries(contents.decisions));
  try {
    Object.entries(JSON.parse(localStorage.getItem(STORAGE) || "{}")).forEach(([name, label]) => decisions.set(name, label));
    localStorage.setItem(STORAGE, JSON.stringify(Object.fromEntries(decisions)));
  } catch {
    unsaved = true;
    add(element("notes"), "li", "This browser does not store decisions of a file: export them before you close the page.");
  }
}

function save() {
  try {
    localStorage.setItem(STORAGE, JSON.stringify(Object.fromEntries(decisions)));
    unsaved = false;
  } catch {
    unsaved = true;
  }
}

window.addEventListener("beforeunload", event => { if (unsaved && history.length) event.preventDefault(); });

function csv() {
  const cell = text => /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const known = samples.filter(sample => decisions.has(sample.name)).map(sample => [sample.name, sample.given, kind(sample)]);
  const names = new Set(known.map(([name]) => name)); // others have a decision of --reviewed, but no card
  const others = [...decisions].filter(([name]) => !names.has(name));
  known.push(...others.map(([name, label]) => [name, undefined, label === null ? "drop" : "relabel"]));
  const lines = known.map(([name, given, which]) => [name, which, classes[decisions.get(name)] ?? "", classes[given] ?? ""]);
  return [[contents.place, "decision", "label", "given_label"], ...lines].map(line => line.map(cell).join(",") + "\n").join("");
}

// File names need not be UTF-8: Python passes each such byte as a lone surrogate, U+DC80 to U+DCFF.
function bytes(text) {
  const parts = text.split(/([\uDC80-\uDCFF])/u); // not those of a pair
  return parts.map((part, place) => place % 2 ? new Uint8Array([part.charCodeAt(0) - 0xDC00]) : part);
}

function exportDecisions() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(bytes(csv()), { type: "text/csv" }));
  link.download = "decisions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000); // some browsers read it later
  unsaved = false;
  say(`${decisions.size} decisions exported as decisions.csv`);
}

// Listing and cards

const SHOWN = {
  "all samples": () => true,
  "undecided": sample => !kind(sample),
  "undecided, suspected": sample => !kind(sample) && sample.suspected,
  "decided": sample => !!kind(sample),
  "kept": sample => kind(sample) === "keep",
  "relabelled": sample => kind(sample) === "relabel",
  "dropped": sample => kind(sample) === "drop",
};
if (Object.keys(contents.corrections).length)
  SHOWN["corrected before this run"] = sample => sample.name in contents.corrections;

const page = () => Math.floor(at / PER_PAGE);

function filter() {
  const [given, suggested] = ["given", "suggested"].map(id => element(id).value);
  const passes = SHOWN[element("show").value];
  listing = samples.filter(sample => (given === "" || sample.given === Number(given)) &&
    (suggested === "" || sample.suggested === Number(suggested)) && passes(sample));
  shownPage = -1;
}

function refilter() {
  filter();
  goTo(0, byPointer);
  showCounts();
}

function goTo(place, focus = true) {
  at = Math.max(0, Math.min(place, listing.length - 1));
  if (page() !== shownPage) showPage();
  document.querySelectorAll(".card").forEach(card => {
    const current = samples[card.dataset.rank] === listing[at];
    card.ariaSelected = String(current);
    card.tabIndex = current ? 0 : -1;
    if (current && focus) card.focus();
  });
  showCurrent();
}

function move(step) {
  const target = Math.max(0, Math.min(at + step, listing.length - 1));
  if (Math.floor(target / PER_PAGE) === shownPage) return goTo(target);
  const wanted = listing[target]; // the page turns, so decided samples leave a listing of undecided ones
  filter();
  goTo(Math.max(0, listing.indexOf(wanted)));
}

function turn(pages) {
  move((page() + pages) * PER_PAGE - at);
}

function byLine(direction) { // as many cards as lie in one line
  const cards = [...document.querySelectorAll(".card")];
  move(direction * (cards.filter(card => card.offsetTop === cards[0].offsetTop).length || 1));
}

function picture(parent, sample) {
  if (!sample.picture) return add(parent, "span", contents.place === "path" ? "no picture" : title(sample.name));
  const image = add(parent, "img");
  image.alt = "";
  image.decoding = "async";
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth < 64);
  image.src = sample.picture;
  return image;
}

function mark(card, sample) {
  const found = kind(sample), line = card.querySelector(".mark");
  card.classList.toggle("decided", !!found);
  line.className = `mark ${found || ""}`;
  line.textContent = words(sample);
}

function showPage() {
  shownPage = page();
  element("cards").replaceChildren();
  for (const sample of listing.slice(shownPage * PER_PAGE, (shownPage + 1) * PER_PAGE)) {
    const card = add(element("cards"), "div", undefined, "card");
    card.role = "option";
    card.dataset.rank = sample.rank;
    picture(add(card, "span", undefined, "frame"), sample);
    add(card, "span", title(sample.name)).title = sample.name;
    const labels = `${classes[sample.given]} → ${classes[sample.suggested]}?`;
    add(card, "span", labels).title = labels;
    add(card, "span", `wrong: ${percent(sample.wrong)} %`);
    add(card, "span", "", "mark");
    mark(card, sample);
    card.addEventListener("click", () => goTo(listing.indexOf(sample)));
  }
  if (!listing.length) add(element("cards"), "p", "No sample passes these filters.", "empty");
  const pages = Math.max(1, Math.ceil(listing.length / PER_PAGE));
  element("pages").textContent = `page ${shownPage + 1} of ${pages.toLocaleString("en")}`;
  element("back").disabled = shownPage === 0;
  element("next").disabled = shownPage + 1 >= pages;
}

function showCurrent() {
  const sample = listing[at];
  element("current").hidden = !sample;
  if (!sample) return;
  element("picture").replaceChildren();
  if (sample.picture) picture(element("picture"), sample);
  element("name").textContent = title(sample.name);
  const earlier = contents.corrections[sample.name];
  element("labels").textContent = `given: ${classes[sample.given]}; suggested: ${classes[sample.suggested]}; wrong with ` +
    `probability ${percent(sample.wrong)} %` + (earlier ? `; before the correction: ${classes[earlier[0]]}` : "");
  element("reason").textContent = sample.reason;
  const label = decisions.get(sample.name);
  element("label").value = label === undefined || label === null || label === sample.given ? sample.suggested : label;
  element("scores").replaceChildren();
  contents.scores.forEach((name, i) => {
    add(element("scores"), "dt", name.replaceAll("_", " "));
    add(element("scores"), "dd", sample.scores[i] === null ? "–" : String(sample.scores[i]));
  });
}

function say(text) {
  element("status").textContent = text;
}

const DECISIONS = { k: "keep", r: "relabel", d: "drop" };
const ARROWS = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowUp: () => byLine(-1), ArrowDown: () => byLine(1) };

let byPointer = false; // a filter chosen with the mouse leaves the keys to the cards, one chosen with keys keeps them
document.addEventListener("pointerdown", () => { byPointer = true; });
document.addEventListener("keydown", event => {
  byPointer = false;
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
  const among = event.target === document.body || event.target.closest("#cards, #current");
  const key = event.key.toLowerCase(), which = DECISIONS[key]; // Caps Lock decides on no page: the shift key does
  if (which) (event.shiftKey ? decidePage : decideHere)(which);
  else if (key === "u") undo();
  else if (among && ARROWS[event.key]) ARROWS[event.key]();
  else return;
  event.preventDefault();
});

element("run").textContent = contents.run;
element("estimate").textContent = contents.estimate;
element("judge").textContent = contents.judge;
contents.notes.forEach(note => add(element("notes"), "li", note));
for (const id of ["given", "suggested", "label"]) {
  classes.forEach((name, c) => add(element(id), "option", name).value = c);
  if (id !== "label") element(id).addEventListener("change", refilter);
}
Object.keys(SHOWN).forEach(name => add(element("show"), "option", name));
element("show").addEventListener("change", refilter);
// Browsers change a focused list at every letter typed, so by keyboard Enter decides.
element("label").addEventListener("change", () => {
  if (byPointer) decideHere("relabel");
  else say(`Enter relabels as ${classes[Number(element("label").value)]}`);
});
element("label").addEventListener("keydown", event => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  decideHere("relabel");
});
for (const which of ["keep", "relabel", "drop"]) element(which).addEventListener("click", () => decideHere(which));
element("drop").hidden = !droppable;
element("undo").addEventListener("click", undo);
element("export").addEventListener("click", exportDecisions);
element("back").addEventListener("click", () => turn(-1));
element("next").addEventListener("click", () => turn(1));
element("command").textContent = contents.command;
showRates();
showMatrix();
showEarlier();
load();
refilter();
