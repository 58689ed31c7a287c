"use strict";
// The data, the chosen cells, and their means.
const DATA = JSON.parse(document.getElementById("data").textContent);
const FIELDS = ["recipe", "dataset", "category", "split", "k", "method", "seed"];
const BY_TYPE = ["image_auroc", "pixel_auroc"];
const COLOURS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#949494", "#56b4e9"];
// filters: for a field the values that pass, as strings; without an entry all pass.
const state = { filters: {}, metric: "pixel_auroc", rule: "last", cell: null };
const by_id = id => document.getElementById(id);

// metrics[cell][metric] = {last, best, epoch}
const metrics = {};
for (const [cell, metric, last, best, epoch] of DATA.metrics) (metrics[cell] ??= {})[metric] = { last, best, epoch };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) key in made ? made[key] = value : made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const values_of = field => [...new Set(DATA.cells.map(cell => cell[field]))];
const passes = cell => FIELDS.every(field => !state.filters[field] || state.filters[field].has(String(cell[field])));
const chosen = () => DATA.cells.map((_, number) => number).filter(number => passes(DATA.cells[number]));
const kind_of = cell => cell.split.startsWith("hard-") ? "hard" : "seen";
const shown = value => value == null ? "—" : value.toFixed(2);
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

// rows: {category, split, seed, value}. The mean over a category's splits, then over categories, then over seeds; and the lowest
// and the highest seed. A seed counts if it has every category and split that any seed has.
function over_seeds(rows) {
  const splits = grouped(rows, row => row.category);
  const found = [];
  for (const of_seed of grouped(rows, row => row.seed).values()) {
    const means = [];
    for (const [category, all] of splits) {
      const needed = new Set(all.map(row => row.split));
      const there = of_seed.filter(row => row.category === category && row.value != null);
      means.push(new Set(there.map(row => row.split)).size === needed.size ? mean(there.map(row => row.value)) : null);
    }
    if (!means.includes(null)) found.push(mean(means));
  }
  return found.length ? { mean: mean(found), low: Math.min(...found), high: Math.max(...found), n: found.length } : null;
}
