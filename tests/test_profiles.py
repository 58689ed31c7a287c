"""Profiles use options that Snakemake has and rules that exist. tests/slurm runs one of them on a real Slurm."""

import re

import pytest
from conftest import ROOT
from snakemake.cli import get_argument_parser
from snakemake.profiles import ProfileConfigFileParser

PROFILES = sorted((ROOT / "workflow" / "profiles").glob("*/profile.yaml"))
PLUGINS = ("slurm-", "kubernetes-", "storage-s3-")  # whose options exist only if they are installed


def read(path) -> dict:
    with path.open() as file:
        return ProfileConfigFileParser().parse(file)


def test_there_are_profiles_for_one_machine_and_for_clusters():
    assert [path.parent.name for path in PROFILES] == ["default", "kubernetes", "slurm"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_a_profile_has_options_that_snakemake_has(path):
    options = get_argument_parser()._option_string_actions
    assert [key for key in read(path) if f"--{key}" not in options and not key.startswith(PLUGINS)] == []


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_a_profile_names_rules_that_exist(path):
    text = "".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.MULTILINE)) | set(
        re.findall(r"^use rule \w+ as (\w+)", text, re.MULTILINE)
    )
    profile = read(path)
    named = {line.partition("=")[0] for line in profile.get("groups", [])}
    named |= {line.partition(":")[0] for line in profile.get("set-resources", [])}
    assert named <= rules
    groups = {line.partition("=")[2] for line in profile.get("groups", [])}
    assert {line.partition("=")[0] for line in profile.get("group-components", [])} <= groups


def test_slurm_groups_every_rule_that_makes_a_cell():
    cells = re.findall(r"^(?:use )?rule .*?(\w+)(?: with)?:$", (ROOT / "workflow/rules/train.smk").read_text(), re.MULTILINE)
    assert len(cells) >= 3
    profile = read(ROOT / "workflow/profiles/slurm/profile.yaml")
    assert {f"{rule}=cells" for rule in cells} <= set(profile["groups"])
    assert {f"{rule}:gpu=1" for rule in cells} <= set(profile["set-resources"])


def test_an_account_is_passed_on_only_if_there_is_one(tmp_path):
    text = (ROOT / "workflow/profiles/slurm/profile.yaml").read_text()
    assert read(ROOT / "workflow/profiles/slurm/profile.yaml")["default-resources"] == ["slurm_partition=short"]
    changed = tmp_path / "profile.yaml"
    changed.write_text(text.replace('account: ""', "account: mine").replace("gpus: 1", "gpus: 0"))
    profile = read(changed)
    assert profile["default-resources"] == ["slurm_partition=short", "slurm_account=mine"]
    assert profile["slurm-no-account"] in (False, "false", "False")
    assert "train:gpu=0" in profile["set-resources"]
