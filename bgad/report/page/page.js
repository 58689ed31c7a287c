// Draws the page at the start, after every choice, in dark mode and for print.
function draw() {
  const cells = chosen();
  draw_choice(cells);
  draw_grid(cells);
  draw_by_k(cells);
  draw_by_known(cells);
  draw_types(cells);
  write_address();
}

// Lists the measured cells. The chosen one stays if it is among them; else the first with images is chosen.
function draw_choice(cells) {
  const done = cells.filter(cell => DATA.cells[cell].status === "done");
  const name = cell => {
    const of = DATA.cells[cell];
    const several = ["recipe", "dataset"].filter(field => values_of(field).length > 1).map(field => of[field]);
    return [of.category, of.split, `k ${of.k}`, of.method, `seed ${of.seed}`, ...several].join(", ") +
      (DATA.galleries[cell] ? " (with images)" : "");
  };
  by_id("cell").replaceChildren(...done.map(cell => element("option", { value: String(cell) }, name(cell))));
  const with_images = done.filter(cell => DATA.galleries[cell]);
  const first = with_images.find(cell => DATA.cells[cell].k) ?? with_images[0] ?? done[0];
  const next = done.includes(state.cell) ? state.cell : first;
  if (next === undefined) {
    [state.cell, state.cell_was_chosen] = [null, false];
    by_id("cell-text").textContent = "None of the chosen cells is measured.";
    empty("curves", "");
    empty("likelihoods", "");
    draw_gallery(null);
    return;
  }
  if (next !== state.cell) state.cell_was_chosen = false;
  choose(next, false);
}

function choose(cell, mark = true) {
  state.cell = cell;
  by_id("cell").value = String(cell);
  by_id("cell-text").replaceChildren(element("code", {}, DATA.cells[cell].folder));
  draw_curves(cell);
  draw_likelihoods(cell);
  draw_gallery(cell);
  if (!mark) return;
  state.cell_was_chosen = true;
  write_address();
  draw_grid(chosen());
}

read_address();
make_filters();
make_gallery();
by_id("metric").append(...Object.entries(DATA.names).map(([metric, name]) =>
  element("option", { value: metric, selected: metric === state.metric }, name)));
by_id("rule").value = state.rule;
for (const id of ["metric", "rule"]) by_id(id).addEventListener("change", () => { state[id] = by_id(id).value; draw(); });
by_id("cell").addEventListener("change", () => choose(Number(by_id("cell").value)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => { printing = true; draw(); });
addEventListener("afterprint", () => { printing = false; draw(); });
draw();
