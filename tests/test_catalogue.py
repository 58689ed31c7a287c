"""What Snakemake's linter and workflow catalog require, and what the citation names."""

import re

import yaml
from conftest import ROOT


def test_snakemake_s_linter_is_content(project):
    assert "Congratulations" in project.snakemake("--lint")


def test_the_catalog_finds_its_files():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["report"] is True
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": False, "apptainer+conda": False}
    for name in ("workflow/Snakefile", "config/README.md", "README.md", "LICENSE", "CHANGELOG.md"):
        assert (ROOT / name).is_file()


def test_every_rule_that_runs_has_the_conda_environment():
    environment = ROOT / "workflow/envs/bgad.yaml"
    assert yaml.safe_load(environment.read_text())["channels"] == ["conda-forge", "nodefaults"]
    for rules in (ROOT / "workflow/rules").glob("*.smk"):
        text = rules.read_text()
        assert len(re.findall(r"^rule ", text, flags=re.M)) == text.count('"../envs/bgad.yaml"')


def test_the_citation_has_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{citation["version"]}"' in project
    assert {"cff-version", "message", "title", "authors", "preferred-citation"} <= citation.keys()
    assert citation["preferred-citation"]["doi"] == "10.1109/CVPR52729.2023.02346"
    assert f"## {citation['version']}" in (ROOT / "CHANGELOG.md").read_text()
