"""The page: whole in one file, within its size, safe with any name, and plain about what it lacks."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from pages import IMAGES, several, write_whole
from PIL import Image
from plotly.offline import get_plotlyjs
from synthetic import METRICS, cell, metrics, suite, type_metrics, write_cell

from bgad.report.page.page import LIMIT, TEMPLATES, page, write_page

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&é\u2028日"

PLOTLY = get_plotlyjs()


class Reader(HTMLParser):
    """The elements of a page with their attributes, the text outside scripts and styles, and the embedded data."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.data, self.within = [], "", "", None
        self.feed(text.replace(PLOTLY, ""))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.within = dict(attributes).get("id", tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.within = None

    def handle_data(self, text):
        if self.within == "data":
            self.data += text
        elif self.within is None:
            self.text += text


def read(cells, root, title="A suite", question="Does it hold?", left_out=()):
    text = page("a", suite(title, question), cells, root, left_out)
    reader = Reader(text)
    return text, reader, json.loads(reader.data)


def test_the_page_has_the_metrics_of_its_cells(tmp_path):
    cells, values = several(tmp_path)
    _, reader, data = read(cells, tmp_path)
    assert [of["folder"] for of in data["cells"]] == [of.folder.as_posix() for of in cells]
    last = {cells[of]: value for of, metric, value, *_ in data["metrics"] if metric == "image_auroc"}
    assert last == values
    assert {cells[int(of)] for of in data["galleries"]} == set(values) == {cells[int(of)] for of in data["likelihoods"]}
    assert len([row for row in data["history"] if row[0] == 0]) == 3
    assert "22 of 24 cells measured" in reader.text and "1 failed" in reader.text


def test_cells_without_metrics_are_named_with_the_reason(tmp_path):
    cells, _ = several(tmp_path)
    _, reader, data = read(cells, tmp_path)
    said = " ".join(reader.text.split())
    assert "results/cpu/mvtec/grid/hard-cut/k10/bgad/seed1: failed: the features are not finite." in said
    assert "results/cpu/mvtec/grid/seen/k0/nf/seed1: not run" in said
    assert {of["status"] for of in data["cells"]} == {"done", "not run", "failed: the features are not finite."}


def test_a_hostile_name_stays_a_name(tmp_path):
    kind = HOSTILE.replace("/", "").replace("\u2028", "")
    images = [("test/good/a.png", "good", 1.0), (f"test/{HOSTILE}/0.png", kind, 3.0)]
    write_whole(tmp_path, cell(), images=images)
    # A folder cannot have a slash in its name; the rest of the mischief it can.
    other = replace(cell(), category=HOSTILE.replace("/", ""))
    text, reader, data = read([cell(), other], tmp_path, HOSTILE, HOSTILE, [HOSTILE])
    (image,) = (attributes for tag, attributes in reader.elements if tag == "img")
    assert image["src"].startswith("data:image/png;base64,")
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert text.count("<script") == text.count("</script") == 3
    assert reader.text.count(HOSTILE) == 4  # title of the window and of the page, question, left out
    assert data["cells"][1]["category"] == other.category
    assert data["galleries"]["0"]["images"][1] == [images[1][0], images[1][1], 1, 3.0]


def test_nothing_is_fetched(tmp_path):
    write_whole(tmp_path, cell())
    _, reader, data = read([cell()], tmp_path)
    sources = {"src", "srcset", "poster", "data"}
    fetched = [a.get("src") for tag, a in reader.elements if sources & a.keys() or tag in ("link", "base", "iframe")]
    assert [address[:22] for address in fetched] == ["data:image/png;base64,"]
    assert [a["href"] for tag, a in reader.elements if tag == "a"] == ["#results"]
    policy = next(a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy
    assert all(sheet.startswith("data:image/") for sheet in data["sheets"])
    assert not re.search(r"url\(|@import", (TEMPLATES / "page.css").read_text())


@pytest.mark.parametrize("k", [0, 10])
def test_a_single_cell(tmp_path, k):
    write_whole(tmp_path, cell(k=k))
    _, reader, data = read([cell(k=k)], tmp_path)
    assert "1 of 1 cells measured" in reader.text and "without metrics" not in reader.text
    assert len(data["galleries"]) == 1 and data["without_gallery"] == 0


def test_none_measured(tmp_path):
    _, reader, data = read([cell()], tmp_path)
    assert "0 of 1 cells measured" in reader.text
    assert data["metrics"] == data["history"] == data["by_type"] == data["sheets"] == []


def test_a_category_without_masks_has_no_pixel_metrics(tmp_path):
    write_whole(tmp_path, cell(k=0), masks=False)
    _, _, data = read([cell(k=0)], tmp_path)
    assert data["galleries"]["0"]["has_masks"] is False
    assert {metric: last for _, metric, last, *_ in data["metrics"]} == {
        "image_auroc": 90.0,
        "pixel_auroc": None,
        "aupro": None,
        "released_pro": None,
    }


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("gallery/gallery.json", "delete", "gallery/gallery.json: cannot be read"),
        ("gallery/images.jpg", "delete", "gallery/images.jpg: missing or damaged"),
        ("gallery/images.jpg", "cut", "gallery/images.jpg: missing or damaged"),
        ("gallery/masks.png", "cut", "gallery/masks.png: missing or damaged"),
        ("gallery/maps.png", "cut", "gallery/maps.png: missing or damaged"),
        ("scores.csv", "delete", "scores.csv: missing or damaged"),
        ("scores.csv", "cut", "scores.csv: does not have the images of gallery.json"),
    ],
)
def test_images_that_cannot_be_shown_are_left_out_and_said(tmp_path, name, damage, said):
    for seed in (0, 1):
        write_whole(tmp_path, cell(seed=seed))
    path = tmp_path / cell(seed=0).folder / name
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2].rpartition(b"\n")[0] or path.read_bytes()[:60])
    _, _, data = read([cell(seed=0), cell(seed=1)], tmp_path)
    assert list(data["galleries"]) == ["1"]
    assert data["broken"]["0"].startswith(said) and str(tmp_path) not in data["broken"]["0"]


def test_the_page_stays_within_its_limit_and_says_how_many_images_it_left_out(tmp_path):
    """Of noise, which no format makes small, and as large as an MVTec category's: 150 tiles of 96 pixels."""
    cells = [cell(category, seed=seed) for category in ("carpet", "grid", "tile") for seed in range(8)]
    noise = np.random.default_rng(0)
    for of in cells:
        write_whole(tmp_path, of)
        pixels = noise.integers(0, 256, (15 * 96, 10 * 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / of.folder / "gallery" / "images.jpg", quality=80)
    write_page("a", suite(), cells, tmp_path / "report.html", tmp_path)
    size = (tmp_path / "report.html").stat().st_size
    data = json.loads(Reader((tmp_path / "report.html").read_text(encoding="utf-8")).data)
    there = {cells[int(of)].category for of in data["galleries"]}
    assert there == {"carpet", "grid", "tile"}, "room is shared between categories"
    assert len(data["galleries"]) + data["without_gallery"] == len(cells) and data["without_gallery"] > 0
    assert 12_000_000 < size < LIMIT


def test_the_largest_suite_leaves_room_for_images(tmp_path):
    """642 cells, as the suite `unseen` has, each with six types and the 25 evaluations of the recipe paper."""
    types = {f"type{number}": type_metrics(91.23, 93.45, known=False) for number in range(6)}
    history = [{"epoch": epoch, **dict.fromkeys(METRICS, 91.2345)} for epoch in range(25)]
    cells = [cell(f"category{number % 15}", f"hard-type{number % 5}", seed=number) for number in range(40)]
    for of in cells:
        write_cell(tmp_path, of, metrics((91.23, 92.34)), by_type=types, history=history)
    few, many = (len(page("a", suite(), cells[:count], tmp_path).encode()) for count in (20, 40))
    whole = few + (642 - 20) * (many - few) / 20
    assert LIMIT - whole > 2_000_000


def test_sheets_that_cells_share_are_in_the_page_once(tmp_path):
    for seed in range(3):
        write_whole(tmp_path, cell(seed=seed))
    _, _, data = read([cell(seed=seed) for seed in range(3)], tmp_path)
    assert len(data["sheets"]) == 3 and data["galleries"]["0"]["sheets"] == data["galleries"]["2"]["sheets"] == [0, 1, 2]
    assert [image[0] for image in data["galleries"]["0"]["images"]] == [path for path, *_ in IMAGES]


def test_the_same_cells_give_the_same_bytes_wherever_they_are(tmp_path):
    texts = []
    for name in ("here", "there"):
        cells, _ = several(tmp_path / name)
        texts.append(page("a", suite(), cells, tmp_path / name))
    assert texts[0] == texts[1] and str(tmp_path) not in texts[0]
