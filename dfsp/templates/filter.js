const rows = [...document.querySelectorAll("tbody")];
const choices = [...document.querySelectorAll("select")];
function filter() {
  for (const row of rows) {
    const values = JSON.parse(row.dataset.values);
    row.hidden = choices.some((c) => c.value && c.value !== "=" + values[c.name]);
  }
  const left = rows.filter((row) => !row.hidden).length;
  document.getElementById("shown").textContent = left + " of " + rows.length + " shown";
}
for (const choice of choices) choice.addEventListener("change", filter);
filter();
