"""Hostile images, YAML, JSON and models, case by case. Archives are in test_unpack.py, names in test_names.py."""

import os
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import make_category
from PIL import Image

from bgad.config.plain_yaml import read_yaml
from bgad.config.settings import Dataset
from bgad.data.images import read_image, read_mask
from bgad.data.layouts import build_index
from bgad.errors import BgadError, ConfigError, DataError, FileError
from bgad.io import read_json
from bgad.methods.predict import read_model

CPU = torch.device("cpu")


class Canary:
    """An object whose pickle makes a folder when it is loaded without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(reader, path: Path, kind: type[BgadError] = DataError) -> str:
    """The error, which is one line and names the file."""
    with pytest.raises(kind) as error:
        reader(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


# --- images --------------------------------------------------------------------------------------------------


def write_noise(path: Path, mode="RGB", **options) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return pixels


def png_of(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", head),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    return PNG + b"".join(chunk(*of) for of in chunks)


PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    for reader in (read_image, read_mask):
        assert "89 million pixels" in refused(reader, path)


def test_nothing_is_printed_about_an_image_but_the_error(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(9_500, 9_500))
    code = "from pathlib import Path; from bgad.data.images import read_image; read_image(Path('bomb.png'))"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    assert "DataError" in said and "Warning" not in said


@pytest.mark.parametrize("ending", ["GIF", "PPM", "ICO", "EPS", "PDF"])
def test_other_formats_are_refused_whatever_the_file_is_called(tmp_path, ending, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))  # EPS starts Ghostscript
    path = tmp_path / "image.png"
    write_noise(path, format=ending)
    assert "PNG, JPEG, BMP, TIFF or WEBP" in refused(read_image, path)


@pytest.mark.parametrize("content", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"#!/bin/sh\ntouch x\n", png_of(0, 5)])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "image.png").write_bytes(content)
    assert "not a complete image" in refused(read_image, tmp_path / "image.png")


@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_several_images_in_a_file_are_refused(tmp_path, ending):
    path = tmp_path / f"moving.{ending}"
    write_noise(path, save_all=True, append_images=[Image.new("RGB", (4, 6))])
    assert "several images" in refused(read_image, path)


def test_an_image_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    pixels = write_noise(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_modes_that_have_three_channels_of_8_bits_are_read(tmp_path):
    write_noise(tmp_path / "print.jpg", "CMYK")
    assert read_image(tmp_path / "print.jpg").shape == (6, 4, 3)
    Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(tmp_path / "red.tiff")
    assert np.array_equal(read_image(tmp_path / "red.tiff"), [[[255, 0, 0]] * 2])
    Image.new("F", (2, 1), 0.5).save(tmp_path / "mask.tiff")
    assert "floating-point" in refused(read_mask, tmp_path / "mask.tiff")  # which would be 0, no defect
    for mode in ("F", "I"):
        Image.new(mode, (2, 1), 1).save(tmp_path / "deep.tiff")
        assert "8 or 16 bits" in refused(read_image, tmp_path / "deep.tiff")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "image.png")
    assert "not a file" in refused(read_image, tmp_path / "image.png")


def test_links_are_followed_and_the_content_of_their_targets_is_never_shown(tmp_path):
    folder = make_category(tmp_path / "data")
    secret = tmp_path / "secret"
    secret.write_text("password")
    link = folder / "train/good/link.png"
    link.symlink_to(secret)
    said = refused(lambda path: build_index("own", "bottle", path, Dataset(path=path)), tmp_path / "data")
    assert said.startswith(f"{link}: not a complete image") and "password" not in said
    link.unlink()
    (folder / "test/loop").symlink_to("loop")
    shutil.move(folder / "train/good", tmp_path / "elsewhere")
    (folder / "train/good").symlink_to(tmp_path / "elsewhere")
    assert len(build_index("own", "bottle", tmp_path / "data", Dataset(path=tmp_path / "data")).images) == 12


# --- YAML and JSON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x: !!python/object/apply:os.mkdir [canary]", "line 1"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "line 4 (the key c"),
        ("a: &a {x: 1}\nb: {<<: *a}", "line 2 (merge keys"),
        ("a: &a [*a, *a]", "100000 values"),
        ("[" * 1000, "not valid YAML"),
        ("x: 2001-99-99", "not valid YAML"),
        ("x: " + "9" * 5000, "not valid YAML"),
        ("__use_yte__: true\nx: ?__import__('os').mkdir('canary')", "__use_yte__"),
    ],
)
def test_yaml_is_only_data(tmp_path, monkeypatch, text, why):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(text)
    assert why in refused(read_yaml, Path("x.yaml"), ConfigError)
    assert not Path("canary").exists()


def test_a_configuration_that_is_a_program_is_refused_before_snakemake_runs_it(project):
    config = project.folder / "config/config.yaml"
    config.write_text(config.read_text() + "__use_yte__: true\nx: ?__import__('os').mkdir('CANARY')\n")
    said = project.snakemake("-n", "reports/demo/table.md", check=False)
    assert "error: config/config.yaml: is a template (__use_yte__)" in said
    assert not (project.folder / "CANARY").exists()


def test_a_billion_laughs_are_refused(tmp_path):
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{after}: &{after} [{', '.join([f'*{name}'] * 10)}]" for name, after in zip("abcdefgh", "bcdefghi", strict=True)]
    (tmp_path / "x.yaml").write_text("\n".join(lines))
    assert "aliases" in refused(read_yaml, tmp_path / "x.yaml", ConfigError)
    (tmp_path / "x.yaml").write_text("\n".join(lines[:3]))
    assert read_yaml(tmp_path / "x.yaml")["c"][9][9][9] == 1


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e999", "[" * 100_000, "1" * 30, r'"\ud800"', r'{"\udfff": 1}'])
def test_json_that_would_break_its_readers_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert "not valid JSON" in refused(read_json, tmp_path / "x.json", FileError)
    (tmp_path / "x.json").write_text(r'{"a": "\ud83d\ude00"}')
    assert read_json(tmp_path / "x.json") == {"a": "\U0001f600"}


# --- checkpoints ---------------------------------------------------------------------------------------------


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "model.pt"
    torch.save({"flows": [Canary(canary)]}, path)
    refused(lambda of: read_model(of.parent, CPU), path, FileError)
    path.write_bytes(pickle.dumps(Canary(canary)))
    refused(lambda of: read_model(of.parent, CPU), path, FileError)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()
