// The filters, the grid of results, and the table of defect types.
let sorted_by = null, descending = false;

function make_filters() {
  for (const field of FIELDS) {
    const values = values_of(field);
    if (values.length < 2) continue;
    const ticks = values.map(value => element("input", { type: "checkbox", name: field, value: String(value) }));
    const read = () => {
      const ticked = ticks.filter(tick => tick.checked).map(tick => tick.value);
      state.filters[field] = ticked.length === values.length ? null : new Set(ticked);
      draw();
    };
    const every = (word, checked) => {
      const button = element("button", { type: "button" }, word);
      button.setAttribute("aria-label", `${field}: ${word}`);
      button.addEventListener("click", () => { ticks.forEach(tick => { tick.checked = checked; }); read(); });
      return button;
    };
    const labels = ticks.map(tick => {
      tick.addEventListener("change", read);
      return element("label", {}, tick, " ", field === "k" || field === "seed" ? `${field} ${tick.value}` : tick.value);
    });
    by_id("filters").append(element("fieldset", {}, element("legend", {}, field, " ", every("all", true), every("none", false)),
      element("div", {}, ...labels)));
  }
  by_id("all").addEventListener("click", () => { state.filters = {}; show_filters(); draw(); });
  show_filters();
}

function show_filters() {
  for (const tick of document.querySelectorAll("#filters input")) {
    tick.checked = state.filters[tick.name]?.has(tick.value) ?? true;
  }
}

function grid_columns() {
  const fields = FIELDS.filter(field => field !== "recipe" && field !== "dataset" || values_of(field).length > 1);
  const columns = fields.map(field =>
    ({ name: field, value: cell => DATA.cells[cell][field], number: field === "k" || field === "seed" }));
  for (const [metric, name] of Object.entries(DATA.names)) {
    for (const rule of ["last", "best"]) {
      columns.push({ name: `${name}, ${rule}`, value: cell => metrics[cell]?.[metric]?.[rule], number: true, metric: true });
    }
  }
  return columns;
}

function draw_grid(cells) {
  const columns = grid_columns();
  const order = sorted_by == null ? cells : [...cells].sort((a, b) => {
    const [x, y] = [columns[sorted_by].value(a), columns[sorted_by].value(b)];
    if (x == null || y == null) return (x == null) - (y == null); // empty values stay at the bottom, either way
    return (x < y ? -1 : x > y ? 1 : 0) * (descending ? -1 : 1);
  });
  const heads = columns.map((column, place) => {
    const arrow = place !== sorted_by ? "" : descending ? " ↓" : " ↑";
    const button = element("button", { type: "button" }, column.name, arrow);
    button.addEventListener("click", () => {
      descending = place === sorted_by ? !descending : Boolean(column.metric);
      sorted_by = place;
      draw_grid(cells);
      by_id("grid").querySelectorAll("th button")[place].focus();
    });
    const sort = place !== sorted_by ? "none" : descending ? "descending" : "ascending";
    return element("th", { className: column.number ? "number" : "", "aria-sort": sort, scope: "col" }, button);
  });
  const rows = order.map(cell => {
    const { status } = DATA.cells[cell];
    const cut = columns.findIndex(column => column.metric);
    const texts = columns.slice(0, cut).map(column =>
      element("td", { className: column.number ? "number" : "" }, String(column.value(cell))));
    const found = status === "done"
      ? columns.slice(cut).map(column => element("td", { className: "number" }, shown(column.value(cell))))
      : [element("td", { className: "reason", colSpan: columns.length - cut }, status)];
    const open = element("button", { type: "button" }, "show");
    open.setAttribute("aria-label", `show ${DATA.cells[cell].folder}`);
    open.addEventListener("click", () => { choose(cell); by_id("cell-title").scrollIntoView(); });
    const first = element("td", {}, status === "done" ? open : "");
    return element("tr", { className: cell === state.cell ? "chosen" : "" }, first, ...texts, ...found);
  });
  by_id("grid").replaceChildren(element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "cell"), ...heads)),
    element("tbody", {}, ...rows));
  by_id("count").textContent = `${cells.length} of ${DATA.cells.length} cells shown`;
}

// Rows: category and type. Columns: recipe, method, k, and whether training knew the type. Values: means over cells.
function draw_types(cells) {
  const metric = BY_TYPE.includes(state.metric) ? state.metric : "pixel_auroc";
  const allowed = new Set(cells);
  const several = values_of("recipe").length > 1;
  const rows = DATA.by_type.filter(([cell]) => allowed.has(cell)).map(([cell, type, known, n, image, pixel]) => {
    const of = DATA.cells[cell];
    const column = `${several ? of.recipe + " " : ""}${of.method} k ${of.k}, ${known ? "known" : "not known"}`;
    return { row: `${of.category} / ${type}`, column, value: metric === "image_auroc" ? image : pixel, order: [known, of.k] };
  }).filter(row => row.value != null);
  const columns = [...grouped(rows, row => row.column).entries()].sort(([, a], [, b]) =>
    a[0].order[0] - b[0].order[0] || a[0].order[1] - b[0].order[1]).map(([name]) => name);
  const lowest = Math.min(...rows.map(row => row.value), 100);
  const body = [...grouped(rows, row => row.row)].map(([name, of_row]) => element("tr", {},
    element("th", { scope: "row" }, name),
    ...columns.map(column => {
      const values = of_row.filter(row => row.column === column).map(row => row.value);
      if (!values.length) return element("td", {}, "");
      const value = mean(values), lack = (100 - value) / (100 - lowest || 1);
      const cell = element("td", { className: "number" }, shown(value));
      cell.style.background = `rgba(var(--heat), ${(0.55 * lack).toFixed(3)})`;
      return cell;
    })));
  by_id("types").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "category / type"),
      ...columns.map(name => element("th", { scope: "col", className: "number" }, name)))), element("tbody", {}, ...body));
  by_id("types-note").textContent = rows.length
    ? `${DATA.names[metric]} of each defect type against all normal test images, last epoch, mean over the chosen cells. ` +
      "A stronger colour is a lower value."
    : "The chosen cells have no metrics by defect type.";
}
