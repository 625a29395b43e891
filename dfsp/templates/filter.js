// A row that is hidden is not laid out: of many runs only the first are shown until all are asked for.
const rows = [...document.querySelectorAll("tbody")];
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
