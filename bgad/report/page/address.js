// The reader's choices in the page's address, so that a reload or a copied link shows the same.
function write_address() {
  const words = new URLSearchParams();
  for (const [field, values] of Object.entries(state.filters)) {
    if (values) for (const value of values.size ? values : [""]) words.append(field, value);
  }
  if (state.metric !== "pixel_auroc") words.set("metric", state.metric);
  if (state.rule !== "last") words.set("rule", state.rule);
  if (state.cell_was_chosen) words.set("cell", DATA.cells[state.cell].folder);
  history.replaceState(null, "", `#${words}`);
}

// Leaves alone what the address does not name or this page does not have.
function read_address() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const field of FIELDS) {
    const known = new Set(["", ...values_of(field).map(String)]);
    const values = words.getAll(field).filter(value => known.has(value));
    state.filters[field] = values.length ? new Set(values.filter(value => value !== "")) : null;
  }
  if (words.get("metric") in DATA.names) state.metric = words.get("metric");
  if (words.get("rule") === "best") state.rule = "best";
  const cell = DATA.cells.findIndex(cell => cell.folder === words.get("cell"));
  if (cell >= 0) [state.cell, state.cell_was_chosen] = [cell, true];
}
