"""A cell's model card: Hugging Face's own reader takes it, its figures are the cell's, and no name can break it."""

import json
import re
import shutil
from dataclasses import asdict, replace

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from tiny import CELL, TinyProject, make_project

from bgad.config import paths
from bgad.data.download import presets
from bgad.data.splits import Split
from bgad.errors import BgadError
from bgad.io import read_json
from bgad.report.export.card import LICENCES, METHODS, card

FIGURES = {
    "image_auroc": {"last": 91.234, "best": 95.5, "best_epoch": 1},
    "pixel_auroc": {"last": 92.345, "best": 96.5, "best_epoch": 0},
    "aupro": {"last": 93.456, "best": 97.5, "best_epoch": 2},
    "released_pro": {"last": None, "best": None, "best_epoch": None},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> TinyProject:
    return make_project(tmp_path_factory.mktemp("project"))


def another(project, *, by_type=None, full_test=None, **names):
    """The folder of a cell with other names and the figures FIGURES, made from the trained one."""
    cell = replace(CELL, **names)
    folder = project.folder / cell.folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project.cell, folder)
    values = read_json(project.cell / "metrics.json") | {"cell": asdict(cell)} | FIGURES
    values |= {"by_type": by_type} if by_type else {}
    values |= {"full_test": full_test or FIGURES} if cell.k == 0 else {}
    (folder / "metrics.json").write_text(json.dumps(values))
    return folder


def front_matter(text) -> dict:
    return yaml.safe_load(text.split("\n---\n")[0])


def html(text) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("\n---\n", 1)[1])


def rows(text, heading) -> list[list[str]]:
    """The cells of each table row after ``heading``, up to the next one."""
    part = text.split(f"\n{heading}", 1)[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("| ")]


def test_the_hub_s_reader_takes_it_with_every_figure(project):
    data = ModelCard(card(another(project, seed=1))).data
    assert data.license == "unknown"
    assert data.library_name == "bgad-suite"
    assert data.datasets == ["own"]
    assert data.metrics == ["aupro", "roc_auc"]
    assert data.model_name == "bgad, own/part, seen, k 3, seed 1"
    found = {result.metric_name: (result.metric_type, result.metric_value) for result in data.eval_results}
    assert found == {
        "image AUROC in percent, last epoch": ("roc_auc", 91.234),
        "image AUROC in percent, best epoch, chosen on the test set": ("roc_auc", 95.5),
        "pixel AUROC in percent, last epoch": ("roc_auc", 92.345),
        "pixel AUROC in percent, best epoch, chosen on the test set": ("roc_auc", 96.5),
        "AUPRO in percent, last epoch": ("aupro", 93.456),
        "AUPRO in percent, best epoch, chosen on the test set": ("aupro", 97.5),
    }
    assert {(result.dataset_type, result.dataset_config, result.dataset_split) for result in data.eval_results} == {
        ("own", "part", "test")
    }
    assert all(result.dataset_args == {"split": "seen", "k": 3, "seed": 1} for result in data.eval_results)


def test_its_tables_have_last_and_best_apart_and_the_types(project):
    by_type = {
        "cut": {"image_auroc": 81.125, "pixel_auroc": None, "n": 4, "known": True},
        "hole": {"image_auroc": 71.5, "pixel_auroc": 72.5, "n": 2, "known": False},
    }
    head, image, pixel, aupro, released, *types = rows(card(another(project, by_type=by_type, seed=1)), "## Evaluation")
    assert head == ["metric", "last", "best", "epoch of best, from 0"]
    assert image == ["image AUROC", "91.23", "95.50", "1"]
    assert pixel == ["pixel AUROC", "92.34", "96.50", "0"]
    assert aupro == ["AUPRO", "93.46", "97.50", "2"]
    assert released == ["PRO (released)", "—", "—", "—"]
    assert types == [
        ["type", "in training", "pictures", "image AUROC", "pixel AUROC"],
        ["cut", "known", "4", "81.12", "—"],
        ["hole", "unseen", "2", "71.50", "72.50"],
    ]


def test_it_says_what_it_was_trained_on_and_where_it_comes_from(project):
    text, metrics = card(project.cell), read_json(project.cell / "metrics.json")
    split = Split.load(project.folder / paths.SPLIT.format(draws="own", **vars(CELL)))
    assert re.findall(r"^\* (test/.*)$", text, flags=re.MULTILINE) == [*split.known(3)]
    assert "6 normal pictures of own/part, and 3 known anomalies, drawn over all defect types." in text
    assert "on 4 normal and 6 anomalous pictures" in text
    assert "Licence of the data: not known." in text
    assert "resized to 32 x 32 pixels" in text
    for name in ("recipe_sha256", "source_sha256", "split_sha256", "weights_sha256"):
        assert f": {metrics[name]}\n" in text
    assert f": {metrics['environment']['torch']}\n" in text
    assert f"snakemake --cores all -f {CELL.folder}/metrics.json\n" in text
    assert text.endswith("```\n")
    assert "\n\n\n" not in text


def test_without_its_split_file_it_says_so(project):
    path = project.folder / paths.SPLIT.format(draws="own", **vars(CELL))
    kept = path.read_bytes()
    path.unlink()
    try:
        text = card(project.cell)
    finally:
        path.write_bytes(kept)
    assert "it was not at hand" in text
    assert "test/" not in text


def test_it_lists_no_anomalies_of_another_draw(project):
    folder = another(project, seed=9)
    split = Split.load(project.folder / paths.SPLIT.format(draws="own", **vars(CELL)))
    replace(split, seed=9).save(project.folder / paths.SPLIT.format(draws="own", **vars(replace(CELL, seed=9))))
    text = card(folder)
    assert "it was not at hand" in text
    assert "test/" not in text


def test_a_cell_without_known_anomalies(project):
    full_test = {**FIGURES, "image_auroc": {"last": 61.0, "best": 62.0, "best_epoch": 1}}
    text = card(another(project, k=0, method="bgad-wo", full_test=full_test))
    assert "and no known anomalies." in text
    assert "not at hand" not in text
    assert ["image AUROC", "61.00", "62.00", "1"] in rows(text, "The same on the whole test set")
    values = {(result.dataset_split, result.metric_value) for result in ModelCard(text).data.eval_results}
    assert {("test", 91.234), ("test", 95.5), ("full_test", 61.0), ("full_test", 62.0)} <= values


def test_a_hard_split_names_its_type(project):
    text = card(another(project, split="hard-broken_large", k=1))
    assert r"and 1 known anomaly, all of the defect type broken\_large, which the test set has none of." in text


def test_a_method_without_flows_is_not_said_to_have_any(project, monkeypatch):
    monkeypatch.delitem(METHODS, "nf")
    of_flows, other = card(another(project, seed=1)), card(another(project, k=0, method="nf"))
    assert "normalizing-flow" in front_matter(of_flows)["tags"]
    assert front_matter(other)["tags"] == ["anomaly-detection", "nf"]
    for words in ("* Flows: three", "Yao et al.", "bgad export model"):
        assert words in of_flows
        assert words not in other


@pytest.mark.parametrize("dataset", LICENCES)
def test_a_licence_that_binds_is_said(project, dataset):
    text = card(another(project, dataset=dataset))
    name = re.search(r"CC [A-Z-]+ [\d.]+", presets.dataset(dataset).licence).group()
    assert LICENCES[dataset] == name.lower().replace(" ", "-")
    assert front_matter(text)["license"] == LICENCES[dataset]
    assert f"licensed under {name}" in text
    assert "not known" not in text.split("## Evaluation")[0]


@pytest.mark.parametrize(
    "name",
    [
        "a`b``",
        "<img src=x onerror=alert(1)>",
        "a|b\n| c",
        "[x](javascript:alert(1))",
        "---\nlicense: mit",
        "*b* _c_ # &amp; ~~d~~",
    ],
)
def test_no_name_breaks_it(project, name):
    kind = "cut" if {"`", "\n"} & {*name} else name  # others no record may hold (test_hostile_results.py)
    by_type = {kind: {"image_auroc": 50.0, "pixel_auroc": 50.0, "n": 1, "known": False}}
    text = card(another(project, category=name, split=f"hard-{name}", by_type=by_type))
    values = front_matter(text)
    assert values["license"] == ModelCard(text).data.license == "unknown"
    assert values["model-index"][0]["results"][0]["dataset"]["config"] == name
    page = html(text)
    assert not re.findall(r"<(img|a|em|strong|del|hr)\b", page.split("<h2>Evaluation")[0] + page.split("Each defect type")[1])
    shown, shown_kind = (
        " ".join(of.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for of in (name, kind)
    )
    assert f"<h1>bgad on own/{shown}, 3 known anomalies</h1>" in page
    assert f'<td style="text-align:left">{shown_kind}</td>' in page
    assert page.count("<table>") == 2
    assert page.count("<h2>") == 6


def test_what_is_not_a_finished_cell_is_named_and_leaves_no_file(project, tmp_path, capsys):
    assert project.bgad("export", "card", "results", "--out", tmp_path / "card.md") == 1
    assert "not the folder of a cell" in capsys.readouterr().err
    with pytest.raises(
        BgadError, match=r"seed7: not a finished cell: not run; run snakemake --cores all .*seed7/metrics\.json"
    ):
        card(project.cell.with_name("seed7"))
    folder = another(project, seed=8)
    (folder / "model.pt").write_bytes(b"no model")
    assert project.bgad("export", "card", folder, "--out", tmp_path / "card.md") == 1
    assert "model.pt: not a model of this project, or damaged" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_card(project, tmp_path):
    assert project.bgad("export", "card", CELL.folder, "--out", tmp_path / "card.md") == 0
    assert (tmp_path / "card.md").read_text() == card(project.cell)
