// A row that is hidden is not laid out: of many runs only the first are shown until all are asked for.
const rows = [...document.querySelectorAll("tbody[data-values]")];
const choices = [...document.querySelectorAll("select")];
const all = document.getElementById("all");
let most = 300;
function filter() {
  let fit = 0;
  for (const row of rows) {
    const values = JSON.parse(row.dataset.values);
    const out = choices.some((c) => c.value && c.value !== "=" + values[c.name]);
    row.hidden = out || ++fit > most;
  }
  const shown = Math.min(fit, most);
  document.getElementById("shown").textContent = shown + " of " + rows.length + " shown";
  all.hidden = shown === fit;
  all.textContent = "Show all " + fit;
}
for (const choice of choices) choice.addEventListener("change", filter);
all.addEventListener("click", () => { most = Infinity; filter(); });
filter();
// What differs between the two runs that were chosen last.
let chosen = [];
function compare(event) {
  const row = event.target.closest("tbody");
  chosen = chosen.filter((other) => other !== row);
  if (event.target.checked) chosen.push(row);
  for (const out of chosen.splice(0, chosen.length - 2)) out.querySelector("input").checked = false;
  const place = document.getElementById("differences");
  place.hidden = chosen.length < 2;
  if (place.hidden) return;
  const [old, now] = chosen.map((each) => JSON.parse(each.dataset.facts));
  const names = [...new Set([...Object.keys(old), ...Object.keys(now)])];
  const table = place.querySelector("tbody");
  table.replaceChildren();
  for (const name of names.filter((each) => old[each] !== now[each])) {
    const line = table.insertRow();
    for (const text of [name, old[name] ?? "none", now[name] ?? "none"]) line.insertCell().textContent = text;
  }
}
for (const box of document.querySelectorAll("input[type=checkbox]")) box.addEventListener("change", compare);
