"""The page in a real browser: nothing is fetched, no errors, filters and keys work, also on a phone, in dark mode and in print;
and the live view while a cell finishes."""

import base64
import io
import json
import os
import shutil
import threading
import time
from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
from pages import IMAGES, several, write_whole
from PIL import Image
from synthetic import cell, suite

from bgad.report.live.server import Live, serve
from bgad.report.page.page import page as page_text
from bgad.report.page.page import write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

FIELDS = ("category", "split", "k", "method", "seed")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox refuses to work for root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The file of a page of 24 cells, its cells, and their image AUROC."""
    root = tmp_path_factory.mktemp("suite")
    cells, values = several(root)
    write_page("a", suite(), cells, root / "report.html", root)
    return root / "report.html", cells, values


class Tabs:
    """Opens each address in its own tab and keeps the errors and requests."""

    def __init__(self, browser):
        self.browser, self.problems, self.contexts = browser, [], []

    def __call__(self, address, **settings):
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        allowed = (address.partition("#")[0], "data:", "blob:")
        page.on("request", lambda asked: asked.url.startswith(allowed) or self.problems.append(f"fetched {asked.url}"))
        page.goto(address)
        page.wait_for_selector("#grid tbody tr" if address.startswith("file:") else "#counts:not(:empty)")
        return page

    def _heard(self, said):
        if said.type in ("error", "warning"):
            self.problems.append(f"{said.type}: {said.text}")

    def close(self):
        for context in self.contexts:
            context.close()
        assert self.problems == []


@pytest.fixture
def opened(browser):
    tabs = Tabs(browser)
    yield tabs
    tabs.close()


@pytest.fixture(scope="module")
def shared(browser, report):
    """The page in one tab for several tests, since it takes long to open."""
    tabs = Tabs(browser)
    yield tabs(report[0].as_uri()), tabs.problems
    tabs.close()


@pytest.fixture
def shown(shared):
    """The page, reset to how it opened."""
    page, problems = shared
    page.emulate_media(media="screen", color_scheme="light")
    page.evaluate(
        """() => {
        Object.assign(state, { filters: {}, metric: "pixel_auroc", rule: "last", cell: null, cell_was_chosen: false });
        [sorted_by, descending] = [null, false];
        for (const name of ["metric", "rule"]) by_id(name).value = state[name];
        for (const name of ["order", "type"]) by_id(name).selectedIndex = 0;
        for (const name of ["heat", "defect", "contour"]) by_id(name).checked = true;
        if (by_id("larger").open) by_id("larger").close();
        show_filters();
        draw();
        }"""
    )
    yield page
    assert problems == []


def until(holds):
    """Waits until the page is done. Playwright's own way needs eval, which the page forbids."""
    for _ in range(300):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


def rows(page):
    return page.locator("#grid tbody tr").count()


def chart(page, name):
    """The points of a chart and the ends of their bars, {name of the line: {x: (low, y, high)}}."""
    traces = json.loads(page.evaluate(f"JSON.stringify(document.getElementById('{name}').data)"))
    found = {}
    for trace in traces:
        bars = zip(trace["y"], trace["error_y"]["arrayminus"], trace["error_y"]["array"], strict=True)
        points = zip(trace["customdata"], bars, strict=True)
        found[trace["name"]] = {k: (y - down, y, y + up) for (k, _), (y, down, up) in points}
    return found


def by_known(cells, values):
    """What the chart of types should show of image AUROC: cut has the cell's value, hole two less; at k 0 none is known."""
    known = {of: value - 2 * of.seed for of, value in values.items() if of.k}
    unseen = {of: value - 2 * (1 - of.seed) if of.k else value - 1 for of, value in values.items()}
    found = {}
    for word, of_word in (("known", known), ("not known", unseen)):
        lines = by_k([of for of in cells if of in of_word], of_word)
        found |= {f"{name}, types {word}": points for name, points in lines.items()}
    return found


def by_k(cells, values):
    """What the chart against k should show: the mean over splits, then categories, then the seeds that have every category and
    split of a setting, between the lowest and the highest of those seeds."""
    settings = defaultdict(list)
    for of in cells:
        settings[("hard" if of.split != "seen" else "seen") + f", {of.method}", of.k].append(of)
    found = defaultdict(dict)
    for (name, k), every in settings.items():
        means = []
        for seed in {of.seed for of in every}:
            needed = {(of.category, of.split) for of in every}
            there = {(of.category, of.split): values[of] for of in every if of.seed == seed and of in values}
            if needed == there.keys():
                categories = {category for category, _ in needed}
                means.append(fmean(fmean(v for (c, _), v in there.items() if c == category) for category in categories))
        if means:
            found[name][k] = min(means), fmean(means), max(means)
    return {name: {k: pytest.approx(of) for k, of in points.items()} for name, points in found.items()}


def test_each_filter_changes_grid_charts_and_types(shown, report):
    _, cells, values = report
    shown.select_option("#metric", "image_auroc")
    assert rows(shown) == 24 and chart(shown, "by-k") == by_k(cells, values)
    assert chart(shown, "by-known") == by_known(cells, values)
    before = {name: chart(shown, name) for name in ("by-k", "by-known")}
    for field in FIELDS:
        for value in sorted({getattr(of, field) for of in cells}, key=str):
            shown.click(f"button[aria-label='{field}: none']")
            assert rows(shown) == 0 and shown.inner_text("#count") == "0 of 24 cells shown"
            shown.check(f"#filters input[name='{field}'][value='{value}']")
            left = [of for of in cells if getattr(of, field) == value]
            assert rows(shown) == len(left) == int(shown.inner_text("#count").split()[0])
            assert chart(shown, "by-k") == by_k(left, values) != before["by-k"]
            assert chart(shown, "by-known") == by_known(left, values) != before["by-known"]
            measured = [of for of in left if of in values]
            types = {f"{of.category} / {kind}" for of in measured for kind in ("cut", "hole")}
            assert set(shown.locator("#types tbody th").all_inner_texts()) == types
            heads = shown.locator("#types thead th").all_inner_texts()[1:]
            assert {head.partition(",")[0] for head in heads} == {f"{of.method} k {of.k}" for of in measured}
            assert shown.locator("#cell option").count() == len(measured)
        shown.click("#all")
        assert rows(shown) == 24 and chart(shown, "by-k") == before["by-k"]


def test_choices_are_in_the_address(opened, shown, report):
    shown.click("button[aria-label='seed: none']")
    shown.check("#filters input[name=seed][value='0']")
    shown.select_option("#metric", "aupro")
    shown.select_option("#rule", "best")
    shown.locator("#grid tbody tr", has_text="hard-cut").nth(2).get_by_role("button").click()
    folder = shown.inner_text("#cell-text")
    again = opened(shown.url)
    assert rows(again) == rows(shown) == 12 and again.inner_text("#cell-text") == folder != ""
    assert chart(again, "by-k") == chart(shown, "by-k")
    assert [again.input_value(f"#{name}") for name in ("metric", "rule")] == ["aupro", "best"]
    nonsense = opened(report[0].as_uri() + "#category=none-such&cell=x&metric=y&rule=z")
    assert rows(nonsense) == 24


def test_the_grid_sorts_by_any_column_and_names_what_failed(shown, report):
    _, _, values = report
    column = shown.locator("#grid thead th button", has_text="image AUROC, last")
    place = shown.locator("#grid thead th").all_inner_texts().index("image AUROC, last") + 1
    for order in ("descending", "ascending"):
        column.click()
        texts = shown.locator(f"#grid tbody tr td:nth-child({place})").all_inner_texts()
        values_shown = [float(text) for text in texts[:22]]
        assert values_shown == sorted(values.values(), reverse=order == "descending")
        assert set(texts[22:]) == {"failed: the features are not finite.", "not run"}, "empty values stay at the bottom"
        assert shown.locator("#grid th[aria-sort]:not([aria-sort=none])").get_attribute("aria-sort") == order


def test_the_curves_mark_last_and_best_and_the_likelihoods_their_boundaries(shown):
    traces = json.loads(shown.evaluate("JSON.stringify(document.getElementById('curves').data)"))
    line, last, best = (trace for trace in traces if trace["legendgroup"] == "image_auroc")
    assert line["x"] == [0, 1, 2]
    assert (last["x"], last["marker"]["symbol"], best["marker"]["symbol"]) == ([2], "square-open", "star")
    assert best["y"][0] == last["y"][0] + 1
    layout = json.loads(shown.evaluate("JSON.stringify(document.getElementById('likelihoods').layout)"))
    assert [(shape["x0"], shape["line"]["dash"]) for shape in layout["shapes"]] == [(-1.5, "solid"), (-2.5, "dash")] * 2


def gallery(page):
    """Type and score of the images, in the order shown."""
    texts = page.locator("#gallery button").all_inner_texts()
    return [(text.split(":")[0].strip(), float(text.split(":")[1].split(",")[0])) for text in texts]


def test_the_gallery_sorts_misses_first_and_by_score(shown):
    assert set(shown.locator("#gallery .miss").all_inner_texts()) == {"good: 2.500, false alarm", "cut: 1.500, missed"}
    assert {score for _, score in gallery(shown)[:2]} == {2.5, 1.5}, "misses first"
    for order, key in {"high": lambda image: -image[1], "low": lambda image: image[1]}.items():
        shown.select_option("#order", order)
        assert gallery(shown) == sorted(((kind, score) for _, kind, score in IMAGES), key=key)
    shown.select_option("#type", "cut")
    assert gallery(shown) == [("cut", 1.5), ("cut", 3.0)]


def count_of(page, canvas, colour):
    """How many pixels of a canvas have a colour, (r, g, b), once its image is drawn."""
    for _ in range(100):
        address = page.locator(canvas).first.evaluate("canvas => canvas.toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
        if pixels.any():
            return int((pixels[..., :3] == colour).all(axis=-1).sum())
        page.wait_for_timeout(50)
    raise AssertionError(f"{canvas} stays empty")


def test_contour_and_defect_appear_where_they_are_asked_for(shown):
    contour, defect = [240, 228, 66], [86, 180, 233]
    shown.select_option("#order", "high")  # the first is an anomaly above the threshold
    first = "#gallery button canvas"
    assert count_of(shown, first, defect) > 0, "drawn last, and over the contour, as the defect is what is above the threshold"
    shown.uncheck("#defect")
    assert count_of(shown, first, contour) > 0 and count_of(shown, first, defect) == 0
    shown.uncheck("#contour")
    assert count_of(shown, first, contour) == 0
    shown.click("#gallery button")
    assert count_of(shown, "#marked", defect) > 0 and count_of(shown, "#plain", defect) == 0


def tab_to(page, wanted, most=120):
    """Presses Tab until an element that matches the selector ``wanted`` has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", wanted):
            return
    raise AssertionError(f"Tab never reaches {wanted}")


def test_everything_is_reached_by_keyboard(opened, report):
    shown = opened(report[0].as_uri())
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.className") == "skip"
    tab_to(shown, "#filters input[name=k]")
    shown.keyboard.press("Space")
    assert rows(shown) == 8
    assert shown.evaluate("document.activeElement.matches('#filters input[name=k]')"), "the focus stays"
    shown.keyboard.press("Space")
    tab_to(shown, "#grid thead button")
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.activeElement.closest('th').ariaSort") == "ascending"
    tab_to(shown, "#metric")
    tab_to(shown, "#cell")
    tab_to(shown, "#order")
    tab_to(shown, "#gallery button")
    first, outline = shown.evaluate("[document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]")
    assert outline == "solid", "the focus is seen"
    shown.keyboard.press("Enter")
    assert shown.locator("#larger").is_visible()
    shown.keyboard.press("Escape")
    assert shown.locator("#larger").is_hidden()
    assert shown.evaluate("document.activeElement.innerText") == first, "the focus returns"
    shown.keyboard.press("Enter")
    shown.keyboard.press("ArrowRight")
    assert "(2 of 5)" in shown.inner_text("#larger-text")
    tab_to(shown, "#close", 5)
    shown.keyboard.press("Enter")
    assert shown.locator("#larger").is_hidden()
    second = shown.locator("#gallery button").nth(1).inner_text()
    assert shown.evaluate("document.activeElement.innerText") == second, "to the last image"


def test_on_a_phone_nothing_is_wider_than_the_screen(opened, report):
    width = 320
    page = opened(report[0].as_uri(), viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True)
    page.locator("details summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#gallery button").first.click()
    box = page.locator("#larger").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width


# The contrast of each element with text against what is under it, as WCAG 2 defines it, lowest first.
CONTRAST = """() => {
  const bands = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const over = ([r, g, b, share = 1], under) => [r, g, b].map((band, at) => share * band + (1 - share) * under[at]);
  const ground = element => element
    ? over(bands(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255];
  const words = "h1, h2, h3, p, th, td, button, label, legend, figcaption, summary, code, small, strong";
  const seen = [...document.querySelectorAll(words)].filter(of => of.textContent.trim() && of.getClientRects().length);
  return seen.map(element => {
    const [a, b] = [light(bands(getComputedStyle(element).color)), light(ground(element))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 80)];
  }).sort(([a], [b]) => a - b);
}"""


def test_all_text_has_contrast_and_dark_mode_changes_page_and_charts_at_once(shown):
    def colours():
        return shown.evaluate(
            "[getComputedStyle(document.body).backgroundColor, document.getElementById('by-k').layout.font.color]"
        )

    for scheme, expected in (("light", ["rgb(255, 255, 255)", "#1d2126"]), ("dark", ["rgb(20, 24, 28)", "#e7ebef"])):
        shown.emulate_media(color_scheme=scheme)
        until(lambda expected=expected: colours() == expected)
        found = shown.evaluate(CONTRAST)
        assert len(found) > 300
        assert found[0][0] >= 4.5, (scheme, found[:3])


def test_in_print_the_controls_are_gone_and_every_section_is_there(shown):
    controls = """() => [...document.querySelectorAll("select, input, button")]
      .filter(of => of.getClientRects().length && !of.closest("#gallery, th")).map(of => of.outerHTML)"""
    sections = shown.locator("section:visible").count()
    assert len(shown.evaluate(controls)) > 20
    shown.emulate_media(media="print")
    assert shown.evaluate(controls) == []
    assert shown.locator("section:visible").count() == sections - 1, "all but the filters"
    cut = "element => getComputedStyle(element).overflowY !== 'visible' && element.scrollHeight > element.clientHeight"
    assert not any(region.evaluate(cut) for region in shown.locator(".tall, .wide").all())
    pdf = shown.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000 and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 2


@pytest.mark.parametrize("case", ["one cell", "none measured", "no masks", "damaged"])
def test_a_page_with_little_in_it_works(opened, tmp_path, case):
    of = cell(k=0 if case == "no masks" else 10)
    if case != "none measured":
        write_whole(tmp_path, of, masks=case != "no masks")
    if case == "damaged":
        (tmp_path / of.folder / "gallery/maps.png").write_bytes(b"no image")
        (tmp_path / of.folder / "likelihoods.json").unlink()
    write_page("a", suite(), [of], tmp_path / "report.html", tmp_path)
    page = opened((tmp_path / "report.html").as_uri())
    assert rows(page) == 1 and page.locator("#filters fieldset").count() == 0, "nothing to choose between"
    images = page.locator("#gallery button").count()
    assert images == (0 if case in ("none measured", "damaged") else 5)
    if case == "damaged":
        assert "gallery/maps.png: missing or damaged" in page.inner_text("#gallery-note")


def test_hostile_names_are_shown_as_they_are(opened, tmp_path):
    name = "<img src=x onerror=alert(1)>\"'&"
    write_whole(tmp_path, cell(name))
    write_whole(tmp_path, cell("b"), images=[(f"{name}/0", "good", 1.0), (f"{name}/1", name, 3.0)])
    write_page("a", suite(name, name), [cell(name), cell("b")], tmp_path / "report.html", tmp_path)
    page = opened((tmp_path / "report.html").as_uri())
    assert page.locator("img").count() == 1, "the plot"
    assert page.inner_text("h1") == name and name in page.locator("#grid td").all_inner_texts()
    page.select_option("#cell", "1")
    page.locator("#gallery button", has_text=name).click()
    assert page.inner_text("#larger-title") == f"{name}/1"
    assert page.locator("img").count() == 1, "the plot"


def test_the_live_view_shows_a_new_result_and_keeps_the_reader_s_choices(opened, tmp_path):
    cells = [cell("carpet", seed=0), cell("carpet", seed=1), cell("grid", seed=0)]
    write_whole(tmp_path, cells[0])
    write_whole(tmp_path, cells[2])

    def make_page(status):
        return page_text("a", suite(), cells, tmp_path)

    with Live(cells, make_page, tmp_path, apart=0.5) as live, serve(live, "A suite") as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        page = opened(f"http://127.0.0.1:{server.server_port}/")
        inside = page.frame_locator("#report")
        inside.locator("#filters input[name=category][value=grid]").uncheck()
        assert inside.locator("#grid tbody tr").count() == 2
        frame = page.frame(url="**/report.html*")
        frame.evaluate("scrollTo(0, 300)")
        assert page.inner_text("#counts") == "3 cells: 2 done, 1 queued"

        write_whole(tmp_path, cells[1])
        until(lambda: page.inner_text("#counts") == "3 cells: 3 done")
        inside.get_by_text("3 of 3 cells measured").wait_for()
        assert inside.locator("#grid tbody tr").count() == 2, "the filter is kept"
        assert not inside.locator("#filters input[name=category][value=grid]").is_checked()
        until(lambda: page.frame(url="**/report.html*").evaluate("scrollY") == 300)
        server.shutdown()
