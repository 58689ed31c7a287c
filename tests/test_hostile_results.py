"""Hostile results: records, logs, models and cells from elsewhere, in commands, reports and memory."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml as escape
from pages import cell, write_whole
from synthetic import suite

from bgad.config.cells import Cell
from bgad.config.paths import check_inside
from bgad.config.settings import load_recipe
from bgad.data.splits import Split
from bgad.errors import ConfigError, FileError
from bgad.io import read_json
from bgad.methods import bgad
from bgad.randomness import frozen_generator, torch_generator
from bgad.report.collect import DONE, NOT_RUN, collect
from bgad.report.page.page import page
from bgad.report.tables.format import escaped, literal, markdown

CPU = torch.device("cpu")


@pytest.mark.parametrize("names", [["", "../out"], ["in", "/out"], ["a/../../out"], ["C:out"], [""]])
def test_a_name_that_leads_out_is_found_behind_any_other(names):
    with pytest.raises(FileError, match="outside its folder"):
        check_inside(names, Path("index.json"))


SMALL, LARGE = {"blocks": 1, "position_channels": 4}, {"blocks": 100, "position_channels": 4096}


def test_a_model_takes_no_memory_before_its_flows_fit_its_recipe(monkeypatch):
    recipe = load_recipe(ROOT / "config/recipes/demo.yaml")
    small, large = (recipe.model_copy(update={"flow": recipe.flow.model_copy(update=of)}) for of in (SMALL, LARGE))
    flows = bgad.build_flows(small, [2, 2, 2], [8, 4, 2], torch_generator("model"), frozen_generator("model"))
    monkeypatch.setattr(bgad, "build_flows", lambda *_: pytest.fail("the flows were made"))
    for content in ([flow.state_dict() for flow in flows], [{}, {}, {}]):
        with pytest.raises(FileError, match="recipe"):
            bgad.restore(content, large, (2, 2, 2), (8, 4, 2), CPU)


MISCHIEF = "<img src=x onerror=alert(1)>"
IN_MARKDOWN = [MISCHIEF, f"\\{MISCHIEF}", f"\\`{MISCHIEF}\\`", f"`{MISCHIEF}", f"``{MISCHIEF}` x"]
IN_MARKDOWN += ["![p](https://evil/x.png)", "[p](x)", "**a** *b* _c_ d_e ~~f~~ $g$ &lt;", "``a` `b"]


@pytest.mark.parametrize("text", IN_MARKDOWN)
def test_what_a_log_says_is_text_in_a_table(text):
    markdown_it = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assert markdown_it.render(escaped(f"- {literal(text)}")) == f"<ul>\n<li>{escape(text)}</li>\n</ul>\n"
    row = "\n".join(map(escaped, markdown(["cell", "reason"], [["`x`", literal(text)]], left=2)))
    assert re.findall("<td[^>]*>(.*)</td>", markdown_it.render(row)) == ["<code>x</code>", escape(text)]


@pytest.mark.parametrize("text", ["=1+1", "a\nb", "\x1b[2J", "@x"])
@pytest.mark.parametrize("place", ["notes", "by_type", "environment"])
def test_what_a_record_says_is_text_to_a_terminal_and_a_spreadsheet(tmp_path, place, text):
    write_whole(tmp_path, cell())
    path = tmp_path / cell().folder / "metrics.json"
    values = read_json(path)
    assert collect([cell()], tmp_path).status == {cell(): "done"}
    some = next(iter(values["by_type"].values()))
    values[place] = {"notes": [text], "by_type": {text: some}, "environment": {"device": text}}[place]
    path.write_text(json.dumps(values))
    assert collect([cell()], tmp_path).status[cell()].startswith(f"failed: {cell().folder}/metrics.json: {place}")


@pytest.mark.parametrize("commit", ["main; touch canary #", 1, "x" * 40, "abc1234 "])
def test_a_commit_is_one(tmp_path, commit):
    write_whole(tmp_path, cell())
    path = tmp_path / cell().folder / "metrics.json"
    path.write_text(json.dumps(read_json(path) | {"environment": {"git_commit": commit}}))
    assert "git_commit" in collect([cell()], tmp_path).status[cell()]


def test_a_folder_s_name_reaches_no_command_unquoted():
    with pytest.raises(ConfigError, match="dataset"):
        Cell.of_folder("results/r/x'; touch canary; '/cat/seen/k0/nf/seed0")


@pytest.mark.parametrize("name", ["metrics.json", "train.log", "history.csv", "scores.csv", "gallery/images.jpg"])
@pytest.mark.parametrize("of", ["/dev/zero", "pipe", "folder", "sparse"])
def test_a_file_without_end_is_not_read(tmp_path, monkeypatch, name, of):
    write_whole(tmp_path, cell())
    path = tmp_path / cell().folder / name
    path.unlink(missing_ok=True)
    if of == "/dev/zero":
        path.symlink_to(of)
    elif of == "pipe":
        os.mkfifo(path)
    elif of == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(10**13)
    if name == "train.log":
        (path.parent / "metrics.json").unlink()
    found = collect([cell()], tmp_path).status[cell()]
    if name == "metrics.json":
        assert found.startswith("failed: ") and "cannot be read" in found
    elif name == "train.log":
        assert found == ("interrupted" if of == "sparse" else NOT_RUN)
    else:
        assert found == DONE
    text = page("x", suite(), [cell()], tmp_path)
    assert len(text) < 10**8


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/passwd", "C:x"])
def test_a_split_stays_in_its_category(tmp_path, path):
    Split("own", "part", "seen", 0, ("train/good/0.png", path), (), (), (), (), (), ()).save(tmp_path / "split.json")
    with pytest.raises(FileError, match="outside its folder"):
        Split.load(tmp_path / "split.json")
