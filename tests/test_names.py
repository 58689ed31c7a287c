"""Names with any characters, of categories, defect types and images: from the folders through a run to its reports."""

import csv
import json
import random
import re
from pathlib import Path

import pytest
import yaml
from folders import make_category
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from test_own_data import Reader

from bgad.config.cells import Cell
from bgad.config.names import LONGEST, check_names, from_path, in_path
from bgad.config.settings import Dataset
from bgad.data.layouts import build_index, catalogue, image_files
from bgad.errors import ConfigError, DataError
from bgad.report.collect import scores_of
from bgad.report.tables.format import escaped

CATEGORY = "a b; $(touch CANARY) & `x` 'q\" ünï→ #~!%s {k} [x],<b>|*?"
TYPE = "{category} `$y$` *z* [1], <i>| ~7B"
IMAGE = "0 {k} [1]*?$x`y`<b>,;\"'%d #\\n.png"

REFUSED = ["a\nb", "a\\b", "a/b", " a", "a ", "-rf", "..", ".x", "=1+1", "@x", "+x", "", "*", "C:", "c:x"]
REFUSED += ["x" * (LONGEST + 1), "é" * LONGEST, "{" * (LONGEST // 3 + 1), "\udcff", "a\u202eb"]


@pytest.mark.parametrize("name", ["bottle", "metal_nut", "my bolt", "screw-2", "a~b", "~7b", "é→", "it's (new)", "x;y&z"])
def test_a_path_has_plain_names_as_they_are(name):
    assert in_path(name) == from_path(name) == name


def test_every_name_has_a_path_of_its_own_without_what_others_reserve():
    rng = random.Random(0)
    names = {"".join(rng.choices("ab~7BéC5 {},\"$`<>|*?[]%'", k=rng.randint(1, 8))) for _ in range(5000)}
    written = {in_path(name): name for name in names}
    assert len(written) == len(names)
    assert {part: from_path(part) for part in written} == written
    assert not set("".join(written)) & set('{},"$`<>|*?[]%')


@pytest.mark.parametrize("part", ["{k}", "a%b", "~2E~2E", "~2Fx", "~00", "~41", "a~7E"])
def test_a_part_of_a_path_that_no_name_has_is_refused(part):
    with pytest.raises(ConfigError, match="no name"):
        from_path(part)
    with pytest.raises(ConfigError):
        Cell.of_folder(f"results/cpu/own/{part}/seen/k0/nf/seed0")


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_cannot_be_used(name):
    with pytest.raises(DataError, match="rename the folder") as error:
        check_names([name], "a category", Path("data"))
    assert str(error.value).isprintable()


@pytest.mark.parametrize("pair", [("Nut", "nut"), ("n\u00fct", "nu\u0308t"), ("STRASSE", "straße"), ("a{", "a~7b")])
def test_names_that_some_systems_take_for_the_same(pair):
    with pytest.raises(DataError, match="rename one of the two"):
        check_names(pair, "a category", Path("data"))
    check_names([pair[0], "other"], "a category", Path("data"))


def test_names_are_checked_where_folders_are_read(tmp_path):
    make_category(tmp_path, CATEGORY, types={TYPE: 2})
    categories = catalogue("own", Dataset(path=tmp_path))
    assert categories[CATEGORY] == {TYPE: 2}
    make_category(tmp_path, "-k")
    with pytest.raises(DataError, match="-k: the name of a category"):
        catalogue("own", Dataset(path=tmp_path))["-k"]
    with pytest.raises(DataError, match="may not"):
        build_index("own", "../bottle", tmp_path / "x", Dataset(path=tmp_path))
    (tmp_path / CATEGORY / "test" / "=x").mkdir()
    with pytest.raises(DataError, match="test/=x: the name of a defect type"):
        catalogue("own", Dataset(path=tmp_path))[CATEGORY]
    (tmp_path / CATEGORY / "train/good" / "a\nb.png").touch()
    with pytest.raises(DataError, match="rename the file") as error:
        image_files(tmp_path / CATEGORY, "train")
    assert str(error.value).isprintable()


def test_no_name_is_html_in_a_table():
    assert escaped("a <script>x</script> `results/<x>` b") == r"a &lt;script>x&lt;/script> `results/<x>` b"


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    """In a project whose data set has such names only, and a suite of it that has run to its reports."""
    folder = tmp_path_factory.mktemp("a project's") / "the project"
    folder.mkdir()
    reader = Reader(folder)
    category = make_category(folder / "data {x} [y] $z, \"w\" 'v'", CATEGORY, types={"cut": 4, TYPE: 4}, train=4, good=2)
    for part in ("train/good", "test/good", f"test/{TYPE}"):
        (category / part / "000.png").rename(category / part / IMAGE)
    masks = category / "ground_truth" / TYPE
    (masks / "000_mask.png").rename(masks / IMAGE)
    grid = {"recipe": "cpu", "dataset": "own", "seeds": [0]}
    blocks = [
        {"categories": [CATEGORY], "splits": ["seen", f"hard-{TYPE}"], "k": [0], "methods": ["bgad-wo"]},
        {"categories": "all", "splits": ["hard-*"], "k": [9], "methods": ["bgad"]},  # which it cannot have
    ]
    suite = {"title": "Odd", "question": "", "grid": [grid | block for block in blocks]}
    (folder / "config/suites/odd.yaml").write_text(yaml.safe_dump(suite))
    own = {"path": str(category.parent), "pool": 2, "textures": [CATEGORY]}
    (folder / "config/config.yaml").write_text(yaml.safe_dump({"datasets": {"own": own}, "suites": ["odd"]}))
    reader.category = category
    reader.project.snakemake("reports/odd/table.md", "reports/odd/report.html")
    return reader


def test_a_suite_shows_the_names_as_they_are(reader):
    folder = reader.folder / "reports/odd"
    text = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render((folder / "table.md").read_text())
    assert "2 of 2 cells" in text
    plain = re.sub("<code>.*?</code>", "", text)
    assert f">{escapeHtml(CATEGORY)}<" in plain
    assert f"{escapeHtml(CATEGORY)} hard-{escapeHtml(TYPE)} k9: the type has 4" in plain
    assert not {"em", "s", "code", "b", "i"} & {*re.findall(r"<(\w+)[ >]", plain)}
    with (folder / "table.csv").open() as file:
        assert {CATEGORY, f"{CATEGORY} / hard-{TYPE}"} <= {row["row"] for row in csv.DictReader(file)}
    assert escapeHtml(CATEGORY).replace("&quot;", '"') in (folder / "by-category.svg").read_text()
    page = (folder / "report.html").read_text()
    data = json.loads(re.search('<script type="application/json" id="data">(.*?)</script>', page)[1])
    assert {cell["category"] for cell in data["cells"]} == {CATEGORY}
    assert {row[1] for row in data["by_type"]} == {"cut", TYPE}


def test_commands_on_a_suite_know_the_names(reader, tmp_path):
    folders = reader.bgad("cells", "odd").stdout.splitlines()
    assert [Cell.of_folder(Path(folder)).split for folder in folders] == ["seen", f"hard-{TYPE}"]
    assert json.loads(reader.bgad("view", "reports/odd", "--json").stdout)["counts"]["done"] == 2
    assert reader.bgad("export", "results", "odd", "--out", str(tmp_path)).status == 0
    with (tmp_path / "results.csv").open() as file:
        assert {row["category"] for row in csv.DictReader(file)} == {CATEGORY}
    compared = reader.bgad("compare", *folders)
    assert compared.status == 0 and CATEGORY in compared.stdout


def test_a_cell_from_a_folder_to_verdicts(reader, tmp_path):
    said = reader.bgad("train", str(reader.category), "--split", f"hard-{TYPE}", "--k", "1", "--out", str(tmp_path / "copy"))
    assert said.status == 0, said.stderr
    assert f"Training cpu: data-x-y-z-w-v/{CATEGORY} hard-{TYPE} k1" in said.stderr
    metrics = json.loads((tmp_path / "copy/metrics.json").read_text())
    assert (metrics["cell"]["category"], metrics["cell"]["split"]) == (CATEGORY, f"hard-{TYPE}")
    assert f"test/good/{IMAGE}" in {row.path for row in scores_of(tmp_path / "copy")}
    cell = str(Cell(**metrics["cell"]).folder)
    for place in (cell, str(tmp_path / "copy")):
        predicted = reader.bgad(
            "predict", str(reader.category / "test" / TYPE), "--cell", place, "--out", str(tmp_path / "out")
        )
        assert predicted.status == 0, predicted.stderr
    assert len(predicted.stdout.splitlines()) == 4 and len([*(tmp_path / "out").glob("*.png")]) == 4
    assert reader.bgad("explain", cell, "--image", f"test/good/{IMAGE}").status == 0
    assert reader.bgad("export", "model", cell, "--out", str(tmp_path / "x.onnx")).status == 0


def test_a_name_runs_nothing_and_a_path_without_it_is_refused(reader):
    assert not [path for path in reader.folder.parent.rglob("CANARY*")]
    said = reader.project.snakemake("-n", "results/cpu/own/a{b/seen/k0/bgad-wo/seed0/metrics.json", check=False)
    assert "error: a{b: no name looks like this in a path; write a~7Bb." in said
