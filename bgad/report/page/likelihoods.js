// The log-likelihoods of normal vectors, known and unseen anomalies around the boundary, level by level.
const GROUP_COLOURS = {
  "normal": "#029e73", "known anomalies": "#d55e00", "unseen images of known types": "#de8f05", "unseen types": "#cc78bc",
};

function draw_likelihoods(cell) {
  const found = DATA.likelihoods[cell];
  if (!found) {
    empty("likelihoods", "This page has no histograms of this cell.<br>If there are any, they are in its likelihoods.json.");
    return;
  }
  const layout = { shapes: [], annotations: [], legend: { orientation: "h", y: -0.16 } };
  const traces = found.levels.flatMap((level, place) => {
    add_axes(layout, level, place, found.levels.length);
    add_boundaries(layout, level, place);
    return histograms(level, place, found.bins);
  });
  plot("likelihoods", traces, layout);
}

const axis_of = (letter, place) => letter + (place ? place + 1 : "");

function histograms(level, place, bins) {
  const width = (level.high - level.low) / bins;
  const x = Array.from({ length: bins }, (_, bin) => level.low + (bin + 0.5) * width);
  return Object.entries(level.groups).map(([name, group]) => {
    const color = GROUP_COLOURS[name], dash = DASHES[Object.keys(GROUP_COLOURS).indexOf(name)];
    return {
      name, x, y: group.share, xaxis: axis_of("x", place), yaxis: axis_of("y", place), mode: "lines",
      line: { shape: "hvh", color, dash }, fill: "tozeroy", fillcolor: color + "22", legendgroup: name, showlegend: !place,
      hovertemplate: `l %{x:.2f}: %{y:.3f} of ${group.count}<extra>${name}</extra>`,
    };
  });
}

function add_axes(layout, level, place, levels) {
  const edge = 0.05 * (level.high - level.low); // room for a label at the lowest value
  const last = place === levels - 1;
  layout["y" + axis_of("axis", place)] = {
    domain: [1 - (place + 0.8) / levels, 1 - place / levels], title: { text: `level ${place + 1}` }, rangemode: "tozero",
  };
  layout["x" + axis_of("axis", place)] = {
    anchor: axis_of("y", place), range: [level.low - edge, level.high], title: last ? { text: "l", standoff: 4 } : undefined,
  };
}

function add_boundaries(layout, level, place) {
  const color = printing ? COLOURS[0] : style_of("--accent");
  const on = { xref: axis_of("x", place), yref: `${axis_of("y", place)} domain` };
  for (const [name, dash, side] of [["b_n", "solid", "left"], ["b_a", "dash", "right"]]) {
    const x = level[name];
    layout.shapes.push({ ...on, type: "line", x0: x, x1: x, y0: 0, y1: 1, line: { dash, width: 2, color } });
    const text = name.replace(/_(.)/, "<sub>$1</sub>");
    layout.annotations.push({ ...on, text, x, y: 1, showarrow: false, xanchor: side, yanchor: "top", font: { color } });
  }
}
