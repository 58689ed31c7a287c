// Plotly's charts: metrics against k, known and unseen types, training curves; log-likelihoods use them too.
const DASHES = ["solid", "dash", "dot", "dashdot"];
const MARKS = ["circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon"];
const PAPER = 680; // width of a printed page in pixels, A4 or Letter
let printing = false;

const style_of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function plot(id, traces, layout) {
  const [ink, line] = printing ? ["#222222", "#cccccc"] : [style_of("--ink"), style_of("--line")];
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const all = {
    font: { color: ink, family: "system-ui, sans-serif", size: 13 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 55, r: 15, t: 15, b: 45 }, legend: { orientation: "h", y: -0.3 }, ...layout,
    ...(printing ? { width: PAPER } : { autosize: true }), // a printed page is laid out after it is drawn
  };
  for (const key of Object.keys(layout).filter(key => /^[xy]axis/.test(key))) all[key] = { ...axis, ...layout[key] };
  Plotly.react(id, traces, all, { displayModeBar: false, responsive: true }); // the bar would cover the top
}

function empty(id, text) {
  by_id(id).style.height = "";
  const word = { text, showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" };
  plot(id, [], { xaxis: { visible: false }, yaxis: { visible: false }, annotations: [word] });
}

// A line for each setting, a point with the range of its seeds for each k; lines are a little apart so that none covers another.
// Returns the points without a complete seed.
function lines(id, rows, name_of) {
  const incomplete = [];
  const traces = [...grouped(rows, name_of)].map(([name, of_line], place) => {
    const points = [...grouped(of_line, row => row.k)].map(([k, of_k]) => ({ k, found: over_seeds(of_k) }))
      .filter(point => point.found || (incomplete.push(`${name} k ${point.k}`), false))
      .sort((a, b) => a.k - b.k);
    const color = COLOURS[place % COLOURS.length];
    return {
      name, mode: "lines+markers", y: points.map(point => point.found.mean),
      error_y: { type: "data", symmetric: false, thickness: 1.5, array: points.map(({ found }) => found.high - found.mean),
        arrayminus: points.map(({ found }) => found.mean - found.low) },
      customdata: points.map(point => [point.k, point.found.n]),
      hovertemplate: "k %{customdata[0]}: %{y:.2f} (%{customdata[1]} seeds)<extra>%{fullData.name}</extra>",
      line: { color, dash: DASHES[place % DASHES.length] },
      marker: { color, symbol: MARKS[place % MARKS.length], size: 9 },
    };
  }).filter(trace => trace.y.length);
  if (!traces.length) {
    empty(id, rows.length ? "The chosen cells have no complete seed." : "The chosen cells have nothing to draw.");
    return incomplete;
  }
  const counts = [...new Set(traces.flatMap(trace => trace.customdata.map(([k]) => k)))].sort((a, b) => a - b);
  traces.forEach((trace, place) => {
    const apart = 0.6 * ((place + 0.5) / traces.length - 0.5);
    trace.x = trace.customdata.map(([k]) => counts.indexOf(k) + apart);
  });
  const height = 300, of_legend = 20 * traces.length; // pixels; the legend has a row for each line
  by_id(id).style.height = `${height + of_legend}px`;
  plot(id, traces, {
    xaxis: { title: { text: "known anomalies k", standoff: 8 }, tickvals: counts.map((_, place) => place), ticktext: counts.map(String),
      range: [-0.5, counts.length - 0.5], zeroline: false },
    yaxis: { title: { text: "percent" } },
    margin: { l: 55, r: 15, t: 15, b: 60 + of_legend }, legend: { x: 0, y: -60 / (height - 75), yanchor: "top" },
  });
  return incomplete;
}

const left_out = points =>
  points.length ? ` Not drawn, because no seed has every category and split: ${points.join("; ")}.` : "";

// The line of a cell: recipe and data set if there are several, kind of split, and method.
function line_of(cell) {
  const several = ["recipe", "dataset"].filter(field => values_of(field).length > 1).map(field => cell[field]);
  return [...several, kind_of(cell), cell.method].join(", ");
}

function draw_by_k(cells) {
  const rows = cells.map(number => ({ ...DATA.cells[number], value: metrics[number]?.[state.metric]?.[state.rule] }));
  const without = lines("by-k", rows, line_of);
  by_id("by-k-caption").textContent = `${DATA.names[state.metric]}, ${state.rule}, against the number of known anomalies: ` +
    `mean over categories; bars reach from the lowest to the highest seed.${left_out(without)}`;
}

// The mean over a cell's types first, as in the suite's table, since each seed draws other known types.
function draw_by_known(cells) {
  const metric = BY_TYPE.includes(state.metric) ? state.metric : "pixel_auroc";
  const allowed = new Set(cells);
  const of_types = DATA.by_type.filter(([cell]) => allowed.has(cell))
    .map(([cell, , known, , image, pixel]) => ({ cell, known, value: metric === "image_auroc" ? image : pixel }))
    .filter(row => row.value != null);
  const rows = [...grouped(of_types, row => `${row.cell} ${row.known}`).values()].map(of_cell =>
    ({ ...DATA.cells[of_cell[0].cell], known: of_cell[0].known, value: mean(of_cell.map(row => row.value)) }));
  const without = lines("by-known", rows, row => `${line_of(row)}, types ${row.known ? "known" : "not known"}`);
  by_id("by-known-caption").textContent = `${DATA.names[metric]}, last, for defect types that training knew and those it ` +
    `did not, each against all normal images: mean over a cell's types, then over categories; bars reach from the lowest to the ` +
    `highest seed.${left_out(without)}`;
}

function draw_curves(cell) {
  const rows = DATA.history.filter(([of]) => of === cell);
  if (!rows.length) return empty("curves", "This cell has no history.");
  const epochs = rows.map(row => row[1]);
  const traces = Object.entries(DATA.names).flatMap(([metric, name], place) => {
    const of = metrics[cell]?.[metric];
    if (of?.last == null) return [];
    const color = COLOURS[place], common = { legendgroup: metric };
    const mark = (epoch, value, what, marker) =>
      ({ ...common, name: `${name}, ${what}`, x: [epoch], y: [value], mode: "markers", showlegend: false, marker });
    return [
      { ...common, name, x: epochs, y: rows.map(row => row[2 + place]), mode: "lines", line: { color, dash: DASHES[place] } },
      // An open square shows the star inside if the last is the best.
      mark(epochs[epochs.length - 1], of.last, "last", { color, symbol: "square-open", size: 15, line: { width: 2 } }),
      mark(of.epoch, of.best, "best", { color, symbol: "star", size: 11, line: { width: 1, color: "#ffffff" } }),
    ];
  });
  const tickvals = epochs.filter((_, place) => place % Math.ceil(epochs.length / 8) === 0);
  plot("curves", traces, {
    xaxis: { title: { text: "meta epoch", standoff: 8 }, tickvals }, yaxis: { title: { text: "percent" } },
  });
}
