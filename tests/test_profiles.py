"""Profiles say what Snakemake knows, and what they change keeps what is finished. tests/slurm runs one of them for real."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from folders import make_category, truncate
from snakemake.cli import get_argument_parser
from snakemake.profiles import ProfileConfigFileParser

PROFILES = sorted((ROOT / "workflow" / "profiles").glob("*/profile.yaml"))
PLUGINS = ("slurm-", "kubernetes-", "storage-s3-")  # whose options are there where they are installed


def read(path) -> dict:
    with path.open() as file:
        return ProfileConfigFileParser().parse(file)


def test_there_are_profiles_for_this_machine_and_for_clusters():
    assert [path.parent.name for path in PROFILES] == ["default", "kubernetes", "slurm"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_a_profile_says_what_snakemake_knows(path):
    options = get_argument_parser()._option_string_actions
    assert [key for key in read(path) if f"--{key}" not in options and not key.startswith(PLUGINS)] == []


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_a_profile_names_rules_that_there_are(path):
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


def test_an_account_is_handed_on_only_where_there_is_one(tmp_path):
    text = (ROOT / "workflow/profiles/slurm/profile.yaml").read_text()
    assert read(ROOT / "workflow/profiles/slurm/profile.yaml")["default-resources"] == ["slurm_partition=short"]
    changed = tmp_path / "profile.yaml"
    changed.write_text(text.replace('account: ""', "account: mine").replace("gpus: 1", "gpus: 0"))
    profile = read(changed)
    assert profile["default-resources"] == ["slurm_partition=short", "slurm_account=mine"]
    assert profile["slurm-no-account"] in (False, "false", "False")
    assert "train:gpu=0" in profile["set-resources"]


def test_in_a_job_of_a_cluster_one_step_s_failure_keeps_no_other_from_starting(project):
    steps = [f"mini:category={name}" for name in ("no-1", "gravel", "no-2")]
    options = ["--force", "--nolock", "--ignore-incomplete", "--cores", "1", "--mode", "remote"]
    job = [sys.executable, "-m", "snakemake", *options, "--target-jobs", *steps, "--allowed-rules", "mini"]
    run = subprocess.run(job, cwd=project.folder, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert (project.folder / "resources/datasets/mini/gravel").is_dir(), run.stderr


def test_what_is_to_be_made_anew_goes_first_where_a_failed_job_s_files_stay(project):
    category = make_category(project.folder / "mine")
    truncate(category / "test/good/000.png")  # so that the index fails, and the split never has its turn
    split = project.folder / "resources/splits/own/mine/bottle/seen/seed0.json"
    split.parent.mkdir(parents=True)
    split.write_text("of another version")
    options = ["--keep-incomplete", "--forcerun", "index", "--config", "datasets={mine: {path: mine}}"]
    project.snakemake(str(split.relative_to(project.folder)), *options, check=False)
    assert not split.exists()
