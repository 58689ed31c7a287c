// Plotly's charts: AUROC against k, known and unseen types, training curves, log-likelihoods.
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MARKS = ["circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon"];
const GROUP_COLOURS = { "normal": "#029e73", "known anomalies": "#d55e00", "unseen images of known types": "#de8f05", "unseen types": "#cc78bc" };
let printing = false;

function plot(id, traces, layout) {
  const style = getComputedStyle(document.documentElement);
  const of = name => style.getPropertyValue(name).trim();
  const [ink, line] = printing ? ["#222222", "#cccccc"] : [of("--ink"), of("--line")];
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const all = {
    font: { color: ink, family: "system-ui, sans-serif", size: 13 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 55, r: 15, t: 15, b: 45 }, legend: { orientation: "h", y: -0.3 }, ...layout,
  };
  for (const key of Object.keys(layout).filter(key => /^[xy]axis/.test(key))) all[key] = { ...axis, ...layout[key] };
  Plotly.react(id, traces, all, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
}

function empty(id, text) {
  plot(id, [], { xaxis: { visible: false }, yaxis: { visible: false }, annotations: [{ text, showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" }] });
}

// A line for each setting but k; a point for each k, with its interval.
function lines(id, rows, name_of) {
  const traces = [...grouped(rows, name_of)].map(([name, of_line], place) => {
    const points = [...grouped(of_line, row => row.k)].map(([k, of_k]) => ({ k, found: over_seeds(of_k) }))
      .filter(point => point.found).sort((a, b) => a.k - b.k);
    return {
      name, x: points.map(point => point.k), y: points.map(point => point.found.mean), mode: "lines+markers",
      error_y: { type: "data", array: points.map(point => point.found.half ?? 0), thickness: 1.5 },
      customdata: points.map(point => point.found.n), hovertemplate: "k %{x}: %{y:.2f} (%{customdata} seeds)<extra>%{fullData.name}</extra>",
      line: { color: COLOURS[place % COLOURS.length], dash: DASHES[place % DASHES.length] },
      marker: { symbol: MARKS[place % MARKS.length], size: 9, color: COLOURS[place % COLOURS.length] },
    };
  }).filter(trace => trace.x.length);
  if (!traces.length) return empty(id, "No complete seed among the cells shown.");
  const ticks = [...new Set(traces.flatMap(trace => trace.x))].sort((a, b) => a - b);
  plot(id, traces, { xaxis: { title: { text: "known anomalies k" }, tickvals: ticks }, yaxis: { title: { text: "percent" } } });
}

function draw_by_k(cells) {
  const rows = cells.map(number => {
    const cell = DATA.cells[number];
    return { ...cell, kind: kind_of(cell), value: figures[number]?.[state.metric]?.[state.rule] };
  });
  const prefix = row => (values_of("recipe").length > 1 ? `${row.recipe}, ` : "") + (values_of("dataset").length > 1 ? `${row.dataset}, ` : "");
  lines("by-k", rows, row => `${prefix(row)}${row.kind}, ${row.method}`);
  by_id("by-k-caption").textContent = `${DATA.metrics[state.metric]}, ${state.rule}, against the number of known anomalies: mean over categories, 95 % interval over seeds.`;

  const metric = BY_TYPE.includes(state.metric) ? state.metric : "pixel_auroc";
  const allowed = new Set(cells);
  const types = DATA.by_type.filter(([cell]) => allowed.has(cell)).map(([cell, type, known, , image, pixel]) =>
    ({ ...DATA.cells[cell], split: `${DATA.cells[cell].split}/${type}`, known, value: metric === "image_auroc" ? image : pixel }));
  lines("by-known", types, row => `${prefix(row)}${kind_of(row)}, ${row.method}, types ${row.known ? "known" : "not known"}`);
  by_id("by-known-caption").textContent = `${DATA.metrics[metric]}, last, of defect types that training knew and of those it did not, each against all normal images.`;
}

function draw_curves(cell) {
  const rows = DATA.history.filter(([of]) => of === cell);
  if (!rows.length) return empty("curves", "This cell has no history.");
  const traces = Object.entries(DATA.metrics).flatMap(([metric, name], place) => {
    const colour = COLOURS[place];
    const [x, y] = [rows.map(row => row[1]), rows.map(row => row[2 + place])];
    const of = figures[cell]?.[metric];
    if (of?.last == null) return [];
    const line = { name, x, y, mode: "lines", line: { color: colour, dash: DASHES[place] }, legendgroup: metric };
    const mark = (epoch, value, symbol, what) => ({ name: `${name}, ${what}`, x: [epoch], y: [value], mode: "markers", legendgroup: metric,
      showlegend: false, marker: { symbol, size: 11, color: colour, line: { width: 1, color: "#ffffff" } } });
    return [line, mark(of.epoch, of.best, "star", "best"), mark(x[x.length - 1], of.last, "square", "last")];
  });
  plot("curves", traces, { xaxis: { title: { text: "meta epoch" }, tickformat: "d", nticks: Math.min(rows.length + 1, 10) }, yaxis: { title: { text: "percent" } } });
}

function draw_likelihoods(cell) {
  const found = DATA.likelihoods[cell];
  by_id("likelihoods-caption").textContent = "Log-likelihoods l of single feature vectors, level by level, finest on top: share of each group. " +
    "Solid line: the boundary of normal vectors b_n; dashed: b_a, a margin below it, beyond which anomalies are pushed.";
  if (!found) return empty("likelihoods", "No histograms of this cell are in this page.");
  const traces = [], shapes = [], annotations = [], axes = {}, levels = found.levels.length;
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
    axes[`xaxis${end}`] = { anchor: `y${end}`, range: [level.low, level.high], title: place === levels - 1 ? { text: "l" } : undefined };
    for (const [name, dash] of [["b_n", "solid"], ["b_a", "dash"]]) {
      shapes.push({ type: "line", x0: level[name], x1: level[name], y0: 0, y1: 1, xref: `x${end}`, yref: `y${end} domain`, line: { dash, width: 2, color: COLOURS[0] } });
      annotations.push({ text: name, x: level[name], y: 1, xref: `x${end}`, yref: `y${end} domain`, showarrow: false, xanchor: name === "b_n" ? "left" : "right", yanchor: "top", font: { color: COLOURS[0] } });
    }
  });
  plot("likelihoods", traces, { ...axes, shapes, annotations, legend: { orientation: "h", y: -0.16 } });
}
