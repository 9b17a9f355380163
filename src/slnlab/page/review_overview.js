"use strict";
// The overview of the classes: rates of wrong labels, the transition matrix, counts before and after, earlier corrections.

function showCounts() {
  const decided = classes.map(() => 0), after = [...contents.counts];
  let count = 0;
  for (const sample of samples) {
    const label = decisions.get(sample.name);
    if (label === undefined) continue;
    count += 1;
    decided[sample.given] += 1;
    after[sample.given] -= 1;
    if (label !== null) after[label] += 1;
  }
  classes.forEach((_, c) => {
    const change = after[c] - contents.counts[c];
    element(`decided-${c}`).textContent = decided[c].toLocaleString("en");
    element(`after-${c}`).textContent = after[c].toLocaleString("en") + (change ? ` (${change > 0 ? "+" : "−"}${Math.abs(change)})` : "");
  });
  const all = samples.length.toLocaleString("en");
  element("count").textContent = `${listing.length.toLocaleString("en")} of ${all} samples, ${count.toLocaleString("en")} decided`;
  element("undo").disabled = !history.length;
  element("export").disabled = !decisions.size;
}

function showRates() {
  const order = classes.map((_, c) => c).filter(c => contents.rates[c]);
  order.push(...classes.map((_, c) => c).filter(c => !contents.rates[c]));
  order.sort((a, b) => (contents.rates[b]?.[0] ?? -1) - (contents.rates[a]?.[0] ?? -1));
  for (const c of order) {
    const line = add(document.querySelector("#rates tbody"), "tr");
    const head = add(line, "th");
    head.scope = "row";
    const button = add(head, "button", classes[c]);
    button.title = "show the samples with this given label";
    button.addEventListener("click", () => choose(c, ""));
    add(line, "td", contents.counts[c].toLocaleString("en"));
    add(line, "td", contents.suspected[c].toLocaleString("en"));
    const rate = contents.rates[c], bar = add(add(line, "td", undefined, "wrong"), "span");
    bar.textContent = rate ? `${percent(rate[0])} % (${percent(rate[1])} to ${percent(rate[2])})` : "–";
    bar.style.setProperty("--share", `${rate ? 100 * rate[0] : 0}%`);
    add(line, "td").id = `decided-${c}`;
    add(line, "td").id = `after-${c}`;
  }
}

function showMatrix() {
  const table = element("matrix"), { classes: chosen, shares } = contents.matrix, small = chosen.length > 20;
  table.classList.toggle("small", small);
  const largest = Math.max(1e-9, ...shares.map((row, i) => Math.max(0, ...row.filter((_, j) => i !== j))));
  const head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
  add(head, "td", undefined, "right").style.border = "0";
  chosen.forEach(c => add(head, "th", classes[c]).scope = "col");
  shares.forEach((row, i) => {
    const line = add(body, "tr");
    add(line, "th", classes[chosen[i]]).scope = "row";
    row.forEach((share, j) => {
      const cell = add(line, "td", small ? undefined : percent(share), i === j ? "right" : "");
      cell.title = `true ${classes[chosen[i]]}, given ${classes[chosen[j]]}: ${(100 * share).toFixed(1)} %`;
      cell.style.setProperty("--share", Math.sqrt(share / largest));
      if (i !== j) cell.addEventListener("click", () => choose(chosen[j], chosen[i]));
    });
  });
}

function choose(given, suggested) {
  element("given").value = given;
  element("suggested").value = suggested;
  refilter();
  element("bar").scrollIntoView();
}

function showEarlier() {
  const names = Object.keys(contents.corrections), out = names.filter(name => contents.corrections[name][1] === null);
  element("earlier").hidden = !names.length;
  element("earlier").querySelector("summary").textContent =
    `Before this run, corrections changed ${names.length - out.length} labels and left out ${out.length} images`;
  const lines = names.slice(0, 1000).map(name => {
    const [before, after] = contents.corrections[name];
    return `${name}: ${classes[before]} → ${after === null ? "left out" : classes[after]}`;
  });
  if (names.length > lines.length) lines.push(`and ${names.length - lines.length} more`);
  lines.forEach(line => add(element("earlier").querySelector("ul"), "li", line));
}
