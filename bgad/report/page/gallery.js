// The test images of a cell, drawn from its three sheets: thumbnail, anomaly map, true defect and contour at the threshold.
const loaded = {}, HALO = "rgba(0, 0, 0, 0.6)";
let order_shown = [], open_at = 0, gallery_of = null;

function sheet(place) {
  loaded[place] ??= new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error(`sheet ${place} is damaged`));
    image.src = DATA.sheets[place];
  });
  return loaded[place];
}

const is_miss = (of, image) => of.threshold != null && (image[3] >= of.threshold) !== Boolean(image[2]);

function verdict(of, image) {
  if (of.threshold == null) return "";
  const called = image[3] >= of.threshold;
  return called ? (image[2] ? "found" : "false alarm") : (image[2] ? "missed" : "normal");
}

function ordered(of) {
  const type = by_id("type").value;
  const places = of.images.map((_, place) => place).filter(place => type === "" || of.images[place][1] === type);
  const score = place => of.images[place][3];
  const missed = place => is_miss(of, of.images[place]);
  const away = place => Math.abs(score(place) - of.threshold);
  const ways = {
    file: () => 0, high: (a, b) => score(b) - score(a), low: (a, b) => score(a) - score(b),
    // The worst misses first, then what came closest to one.
    misses: (a, b) => missed(b) - missed(a) || (missed(a) ? away(b) - away(a) : away(a) - away(b)),
  };
  return places.sort(ways[by_id("order").value]);
}

function pixels(sheet, of, place) {
  const canvas = element("canvas", { width: of.tile, height: of.tile });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [left, top] = [place % of.columns * of.tile, Math.floor(place / of.columns) * of.tile];
  context.drawImage(sheet, left, top, of.tile, of.tile, 0, 0, of.tile, of.tile);
  return context.getImageData(0, 0, of.tile, of.tile).data;
}

// The border of a region, on its own pixels, with a dark halo that shows it on any image.
function outline(context, side, scale, inside, colour) {
  edges(context, side, scale, inside, HALO, Math.max(2, scale));
  edges(context, side, scale, inside, colour, Math.max(1, scale * 0.6));
}

function edges(context, side, scale, inside, colour, width) {
  context.fillStyle = colour;
  const at = (row, column) => row >= 0 && column >= 0 && row < side && column < side && inside(row * side + column);
  for (let row = 0; row < side; row++) for (let column = 0; column < side; column++) {
    if (!at(row, column)) continue;
    const [x, y] = [column * scale, row * scale];
    if (!at(row - 1, column)) context.fillRect(x, y, scale, width);
    if (!at(row + 1, column)) context.fillRect(x, y + scale - width, scale, width);
    if (!at(row, column - 1)) context.fillRect(x, y, width, scale);
    if (!at(row, column + 1)) context.fillRect(x + scale - width, y, width, scale);
  }
}

async function draw_image(canvas, of, place, marks) {
  const [images, masks, maps] = await Promise.all(of.sheets.map(sheet));
  const context = canvas.getContext("2d"), side = of.tile, scale = canvas.width / side;
  const [left, top] = [place % of.columns * side, Math.floor(place / of.columns) * side];
  context.drawImage(images, left, top, side, side, 0, 0, canvas.width, canvas.height);
  const map = pixels(maps, of, place), mask = pixels(masks, of, place);
  const score = pixel => of.score_of_black + map[4 * pixel] / 255 * (of.score_of_white - of.score_of_black);
  if (marks.heat) {
    const heat = context.createImageData(side, side);
    for (let pixel = 0; pixel < side * side; pixel++) heat.data.set([213, 94, 0, 200 * (map[4 * pixel] / 255) ** 2], 4 * pixel);
    const small = element("canvas", { width: side, height: side });
    small.getContext("2d").putImageData(heat, 0, 0);
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }
  // Half a gray level of tolerance, since the map's values are rounded.
  const step = (of.score_of_white - of.score_of_black) / 510;
  if (marks.contour && of.threshold != null) {
    outline(context, side, scale, pixel => score(pixel) >= of.threshold - step, style_of("--contour"));
  }
  if (marks.defect && of.has_masks) outline(context, side, scale, pixel => mask[4 * pixel] > 127, style_of("--defect"));
}

const say_damaged = error => {
  by_id("gallery-note").textContent = `The images cannot be shown: ${error.message}; run the cell again.`;
};
const marks = () => ({ heat: by_id("heat").checked, defect: by_id("defect").checked, contour: by_id("contour").checked });

function draw_gallery(cell) {
  const of = DATA.galleries[cell];
  by_id("gallery").replaceChildren();
  by_id("gallery-controls").hidden = !of;
  const others = !DATA.without_gallery ? "" : ` ${DATA.without_gallery} more cells have images that would make this page larger ` +
    "than 15 MB; find them in the cell's folder, in gallery/.";
  if (!of) {
    const why = DATA.broken[cell] ? ` (${DATA.broken[cell]})` : "";
    by_id("gallery-note").textContent = cell == null ? "" : `This page has no images of this cell${why}.${others}`;
    return;
  }
  if (gallery_of !== cell) {
    const types = [...new Set(of.images.map(image => image[1]))];
    by_id("type").replaceChildren(...["", ...types].map(type => element("option", { value: type }, type || "all")));
    gallery_of = cell;
  }
  const missed = of.images.filter(image => is_miss(of, image)).length;
  by_id("gallery-note").textContent = of.threshold == null
    ? `No image in this test set is anomalous, so there is no threshold.${others}`
    : `Threshold ${of.threshold.toPrecision(4)}, which has the best F1 on this test set: ` +
      `${missed} of ${of.images.length} images are on the wrong side.${others}`;
  order_shown = ordered(of);
  const now = marks();
  by_id("gallery").append(...order_shown.map((place, position) => {
    const image = of.images[place], canvas = element("canvas", { width: 2 * of.tile, height: 2 * of.tile });
    draw_image(canvas, of, place, now).catch(say_damaged);
    const words = [`${image[1]}: ${image[3].toPrecision(4)}`, verdict(of, image)].filter(Boolean).join(", ");
    const text = element("span", { className: is_miss(of, image) ? "miss" : "" }, words);
    const button = element("button", { type: "button" }, canvas, text);
    button.addEventListener("click", () => open_larger(position));
    return element("div", { role: "listitem" }, button);
  }));
}

function open_larger(position) {
  const of = DATA.galleries[state.cell];
  open_at = (position + order_shown.length) % order_shown.length;
  const place = order_shown[open_at], [path, type, , score] = of.images[place];
  by_id("larger-title").textContent = path;
  by_id("larger-text").textContent = `${type}; score ${score.toPrecision(5)}; ` +
    `${verdict(of, of.images[place]) || "no threshold"} (${open_at + 1} of ${order_shown.length})`;
  draw_image(by_id("plain"), of, place, {}).catch(say_damaged);
  draw_image(by_id("marked"), of, place, { heat: true, defect: true, contour: true }).catch(say_damaged);
  if (!by_id("larger").open) by_id("larger").showModal();
}

function make_gallery() {
  for (const id of ["order", "type", "heat", "defect", "contour"]) {
    by_id(id).addEventListener("change", () => draw_gallery(state.cell));
  }
  by_id("previous").addEventListener("click", () => open_larger(open_at - 1));
  by_id("next").addEventListener("click", () => open_larger(open_at + 1));
  by_id("close").addEventListener("click", () => by_id("larger").close());
  by_id("larger").addEventListener("close", () => by_id("gallery").querySelectorAll("button")[open_at]?.focus());
  by_id("larger").addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); open_larger(open_at + step); }
  });
}
