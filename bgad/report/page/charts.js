// Plotly's charts: AUROC against k, known and unseen types, training curves, log-likelihoods.
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MARKS = ["circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon"];
const GROUP_COLOURS = { "normal": "#029e73", "known anomalies": "#d55e00", "unseen images of known types": "#de8f05", "unseen types": "#cc78bc" };
const PAPER = 680; // pixels of a printed page's width, A4 or Letter
let printing = false;

const style_of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function plot(id, traces, layout) {
  const [ink, line] = printing ? ["#222222", "#cccccc"] : [style_of("--ink"), style_of("--line")];
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const all = {
    font: { color: ink, family: "system-ui, sans-serif", size: 13 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 55, r: 15, t: 15, b: 45 }, legend: { orientation: "h", y: -0.3 }, ...layout,
    ...(printing ? { width: PAPER } : { autosize: true }), // a page being printed is laid out after it is drawn
  };
  for (const key of Object.keys(layout).filter(key => /^[xy]axis/.test(key))) all[key] = { ...axis, ...layout[key] };
  Plotly.react(id, traces, all, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
}

function empty(id, text) {
  plot(id, [], { xaxis: { visible: false }, yaxis: { visible: false }, annotations: [{ text, showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" }] });
}

// A line for each setting but k; a point for each k, with its interval. Returns the points that no seed is complete for.
function lines(id, rows, name_of) {
  const incomplete = [];
  const traces = [...grouped(rows, name_of)].map(([name, of_line], place) => {
    const points = [...grouped(of_line, row => row.k)].map(([k, of_k]) => ({ k, found: over_seeds(of_k) }))
      .filter(point => point.found || (incomplete.push(`${name} k ${point.k}`), false)).sort((a, b) => a.k - b.k);
    return {
      name, x: points.map(point => point.k), y: points.map(point => point.found.mean), mode: "lines+markers",
      error_y: { type: "data", array: points.map(point => point.found.half ?? 0), thickness: 1.5 },
      customdata: points.map(point => point.found.n), hovertemplate: "k %{x}: %{y:.2f} (%{customdata} seeds)<extra>%{fullData.name}</extra>",
      line: { color: COLOURS[place % COLOURS.length], dash: DASHES[place % DASHES.length] },
      marker: { symbol: MARKS[place % MARKS.length], size: 9, color: COLOURS[place % COLOURS.length] },
    };
  }).filter(trace => trace.x.length);
  if (!traces.length) {
    empty(id, rows.length ? "No complete seed among the cells shown." : "Nothing to draw of the cells shown.");
    return incomplete;
  }
  const ticks = [...new Set(traces.flatMap(trace => trace.x))].sort((a, b) => a - b);
  plot(id, traces, { xaxis: { title: { text: "known anomalies k", standoff: 8 }, tickvals: ticks }, yaxis: { title: { text: "percent" } } });
  return incomplete;
}

const left_out = points => points.length ? ` Not drawn, since no seed has every category and split: ${points.join("; ")}.` : "";

function draw_by_k(cells) {
  const rows = cells.map(number => {
    const cell = DATA.cells[number];
    return { ...cell, kind: kind_of(cell), value: figures[number]?.[state.metric]?.[state.rule] };
  });
  const prefix = row => (values_of("recipe").length > 1 ? `${row.recipe}, ` : "") + (values_of("dataset").length > 1 ? `${row.dataset}, ` : "");
  const without = lines("by-k", rows, row => `${prefix(row)}${row.kind}, ${row.method}`);
  by_id("by-k-caption").textContent = `${DATA.metrics[state.metric]}, ${state.rule}, against the number of known anomalies: mean over categories, 95 % interval over seeds.${left_out(without)}`;

  const metric = BY_TYPE.includes(state.metric) ? state.metric : "pixel_auroc";
  const allowed = new Set(cells);
  // The mean over the types of a cell first, as in the suite's table: which types are known is another draw in each seed.
  const of_types = DATA.by_type.filter(([cell]) => allowed.has(cell)).map(([cell, , known, , image, pixel]) =>
    ({ cell, known, value: metric === "image_auroc" ? image : pixel })).filter(row => row.value != null);
  const types = [...grouped(of_types, row => `${row.cell} ${row.known}`).values()].map(of_cell =>
    ({ ...DATA.cells[of_cell[0].cell], known: of_cell[0].known, value: mean(of_cell.map(row => row.value)) }));
  const types_without = lines("by-known", types, row => `${prefix(row)}${kind_of(row)}, ${row.method}, types ${row.known ? "known" : "not known"}`);
  by_id("by-known-caption").textContent = `${DATA.metrics[metric]}, last, of defect types that training knew and of those it did not, each against all normal images: mean over the types of a cell, then over categories.${left_out(types_without)}`;
}

function draw_curves(cell) {
  const rows = DATA.history.filter(([of]) => of === cell);
  if (!rows.length) return empty("curves", "This cell has no history.");
  const epochs = rows.map(row => row[1]);
  const traces = Object.entries(DATA.metrics).flatMap(([metric, name], place) => {
    const colour = COLOURS[place];
    const [x, y] = [epochs, rows.map(row => row[2 + place])];
    const of = figures[cell]?.[metric];
    if (of?.last == null) return [];
    const line = { name, x, y, mode: "lines", line: { color: colour, dash: DASHES[place] }, legendgroup: metric };
    const mark = (epoch, value, symbol, size, what) => ({ name: `${name}, ${what}`, x: [epoch], y: [value], mode: "markers", legendgroup: metric,
      showlegend: false, marker: { symbol, size, color: colour, line: { width: symbol === "star" ? 1 : 2, color: symbol === "star" ? "#ffffff" : colour } } });
    // An open square, so that the star shows in it where the last is the best.
    return [line, mark(epochs[epochs.length - 1], of.last, "square-open", 15, "last"), mark(of.epoch, of.best, "star", 11, "best")];
  });
  plot("curves", traces, { xaxis: { title: { text: "meta epoch", standoff: 8 }, tickvals: epochs.filter((_, place) => place % Math.ceil(epochs.length / 8) === 0) }, yaxis: { title: { text: "percent" } } });
}

function draw_likelihoods(cell) {
  const found = DATA.likelihoods[cell];
  if (!found) return empty("likelihoods", "No histograms of this cell are in this page;<br>likelihoods.json in its folder has them, if it has any.");
  const traces = [], shapes = [], annotations = [], axes = {}, levels = found.levels.length;
  const boundary = printing ? COLOURS[0] : style_of("--accent");
  found.levels.forEach((level, place) => {
    const end = place ? place + 1 : "";
    const width = (level.high - level.low) / found.bins;
    const x = Array.from({ length: found.bins }, (_, bin) => level.low + (bin + 0.5) * width);
    for (const [name, group] of Object.entries(level.groups)) {
      traces.push({ name, x, y: group.share, xaxis: `x${end}`, yaxis: `y${end}`, type: "scatter", mode: "lines", line: { shape: "hvh", color: GROUP_COLOURS[name],
        dash: DASHES[Object.keys(GROUP_COLOURS).indexOf(name)] }, fill: "tozeroy", fillcolor: GROUP_COLOURS[name] + "22", legendgroup: name, showlegend: !place,
        hovertemplate: `l %{x:.2f}: %{y:.3f} of ${group.count}<extra>${name}</extra>` });
    }
    const [from, to] = [1 - (place + 0.8) / levels, 1 - place / levels];
    axes[`yaxis${end}`] = { domain: [from, to], title: { text: `level ${place + 1}` }, rangemode: "tozero" };
    const edge = 0.05 * (level.high - level.low); // room for the word at a boundary that is the lowest value
    axes[`xaxis${end}`] = { anchor: `y${end}`, range: [level.low - edge, level.high], title: place === levels - 1 ? { text: "l", standoff: 4 } : undefined };
    for (const [name, dash] of [["b_n", "solid"], ["b_a", "dash"]]) {
      shapes.push({ type: "line", x0: level[name], x1: level[name], y0: 0, y1: 1, xref: `x${end}`, yref: `y${end} domain`, line: { dash, width: 2, color: boundary } });
      annotations.push({ text: name.replace(/_(.)/, "<sub>$1</sub>"), x: level[name], y: 1, xref: `x${end}`, yref: `y${end} domain`, showarrow: false, xanchor: name === "b_n" ? "left" : "right", yanchor: "top", font: { color: boundary } });
    }
  });
  plot("likelihoods", traces, { ...axes, shapes, annotations, legend: { orientation: "h", y: -0.16 } });
}
