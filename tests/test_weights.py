"""Each way to a weights file and its hash, with servers that misbehave, damaged caches and wrong files."""

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from servers import BODY, Handler, Server, serving

from bgad.errors import ConfigError, FileError
from bgad.features import weights
from bgad.features.backbone import Backbone, load_backbone
from bgad.features.weights import Release, at_hand, find_weights, published

CPU = torch.device("cpu")
SMALL = "test_efficientnet.r160_in1k"  # 82300 parameters; on the hub, without a published file of another kind
REPOSITORY = f"timm/{SMALL}"
OFF_HUB = "gcvit_xxtiny.in1k"  # timm has an address for it, and no repository on the hub


class HubHandler(Handler):
    """Answers as the Hugging Face hub does: a file's hash in the header of a HEAD request."""

    def do_HEAD(self):
        body = self.server.files.get(self.path)
        common = {"X-Repo-Commit": "c" * 40}
        if body is None:
            return self.answer(404, b"", common | {"X-Error-Code": "EntryNotFound"})
        self.answer(200, b"", common | {"ETag": f'"{sha256(body)}"', "Content-Length": len(body)})


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(HubHandler) as server:
        yield server


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch) -> Path:
    """Empty caches for each test, and pauses that take no time; returns the folder of torch hub's cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish(monkeypatch, server: Server, content: bytes, mirrors: int = 1, digits: int = 8) -> Release:
    """Makes ``content`` the published file of SMALL, at /0/<file>, /1/<file>, ... of the server."""
    file = f"small-{sha256(content)[:8]}.pth"
    paths = [f"/{number}/{file}" for number in range(mirrors)]
    server.files |= dict.fromkeys(paths, content)
    release = Release(file, sha256(content)[:digits], [server.url(path) for path in paths])
    monkeypatch.setattr(weights, "published", lambda: {SMALL: release})
    return release


def small_network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(SMALL, pretrained=False).eval()


def saved(network: torch.nn.Module, path: Path) -> bytes:
    """The bytes of the network's weights file, in the container that the path's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (save_file if path.suffix == ".safetensors" else torch.save)(network.state_dict(), path)
    return path.read_bytes()


def assert_features_of(network: torch.nn.Module, backbone: Backbone) -> None:
    """The backbone's levels are the network's own stages: stem, then blocks at strides 4, 8 and 16."""
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    stages = {}
    with torch.inference_mode():
        x = network.bn1(network.conv_stem(x))
        for block in network.blocks:
            x = block(x)
            stages[64 // x.shape[-1]] = x  # the last one of its stride
    for level, stride in zip(backbone.features(images), (4, 8, 16), strict=True):
        torch.testing.assert_close(level, stages[stride].flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


def in_hub_cache(folder: Path, file: str, content: bytes, blob: str | None = None) -> Path:
    """Puts ``content`` where the Hugging Face client keeps it: a blob named by its hash, and a link to it."""
    repository = folder / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    path = repository / "snapshots" / ("c" * 40) / file
    for parent in (repository / "blobs", repository / "refs", path.parent):
        parent.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text("c" * 40)
    (repository / "blobs" / (blob or sha256(content))).write_bytes(content)
    path.symlink_to(os.path.relpath(repository / "blobs" / (blob or sha256(content)), path.parent))
    return path


def on_the_hub(monkeypatch, server: Server, file: str, content: bytes) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url(""))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url("/{repo_id}/resolve/{revision}/{filename}"))
    server.files[f"/{REPOSITORY}/resolve/main/{file}"] = content


def left(folder: Path) -> list[str]:
    """The files in a folder, without the lock of a download."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# --- each way, with its hash and network ---------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_local_file(monkeypatch, server, tmp_path, ending):
    if ending == ".safetensors":
        publish(monkeypatch, server, BODY)  # another container, thus another hash: no reason to refuse it
    content = saved(network := small_network(), tmp_path / f"mine{ending}")
    backbone = load_backbone(SMALL, CPU, tmp_path / f"mine{ending}")
    assert backbone.weights_sha256 == sha256(content)
    assert_features_of(network, backbone)


def test_a_training_checkpoint_is_read_as_timm_reads_it(tmp_path):
    # The averaged weights of a distributed training, as timm's own training script leaves them.
    network = small_network()
    averaged = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": small_network(1).state_dict(), "state_dict_ema": averaged}, tmp_path / "mine.pth")
    assert_features_of(network, load_backbone(SMALL, CPU, tmp_path / "mine.pth"))


def test_the_published_file_is_downloaded_once(monkeypatch, server, tmp_path, checkpoints):
    content = saved(network := small_network(), tmp_path / "x.pth")
    release = publish(monkeypatch, server, content)
    for _ in range(2):  # the second time from torch hub's cache
        backbone = load_backbone(SMALL, CPU)
        assert backbone.weights_sha256 == sha256(content)
        assert_features_of(network, backbone)
    assert len(server.seen) == 1
    assert left(checkpoints) == [release.file]


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("pinned", [False, True])
def test_the_filled_cache_of_the_hub(monkeypatch, server, tmp_path, file, pinned):
    content = saved(network := small_network(), tmp_path / file)
    in_hub_cache(tmp_path, file, content)
    if pinned:
        publish(monkeypatch, server, BODY)  # another container, thus another hash: no reason to download
    backbone = load_backbone(SMALL, CPU)
    assert backbone.weights_sha256 == sha256(content)
    assert_features_of(network, backbone)
    assert server.seen == []


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_hub(monkeypatch, server, tmp_path, file):
    content = saved(network := small_network(), tmp_path / file)
    on_the_hub(monkeypatch, server, file, content)
    backbone = load_backbone(SMALL, CPU)
    assert backbone.weights_sha256 == sha256(content)
    assert_features_of(network, backbone)
    asked = len(server.seen)
    assert find_weights(SMALL)[1] == sha256(content)  # from the hub's cache now
    assert len(server.seen) == asked


def test_the_hub_is_the_second_way_to_a_published_file(monkeypatch, server, tmp_path, checkpoints):
    release = publish(monkeypatch, server, BODY)
    server.faults[f"/0/{release.file}"] = [404]
    content = saved(small_network(), tmp_path / "model.safetensors")
    on_the_hub(monkeypatch, server, "model.safetensors", content)
    path, digest = find_weights(SMALL)
    assert path.read_bytes() == content and digest == sha256(content)
    assert left(checkpoints) == []


def test_the_hub_is_asked_over_https_only_also_after_a_redirect(monkeypatch, server, tmp_path):
    content = saved(small_network(), tmp_path / "model.safetensors")
    on_the_hub(monkeypatch, server, "model.safetensors", content)
    server.faults[f"/{REPOSITORY}/resolve/main/model.safetensors"] = [("to", "http://hub.example.org/x")]
    with pytest.raises(FileError, match=r"http://hub\.example\.org/x is not an https address"):
        find_weights(SMALL)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example.org")
    with pytest.raises(FileError, match=r"http://hub\.example\.org is not an https address"):
        find_weights(SMALL)


def test_a_model_that_is_not_on_the_hub_comes_from_timms_address(monkeypatch, server, checkpoints):
    config = timm.get_pretrained_cfg(OFF_HUB)
    assert config.url and not config.hf_hub_id
    file = f"off_hub-{sha256(BODY)[:8]}.pth"
    config.url = server.url(f"/{file}")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    server.files[f"/{file}"] = BODY
    assert find_weights(OFF_HUB) == (checkpoints / file, sha256(BODY))
    (checkpoints / file).write_bytes(b"damaged")  # the digits in the name are a published hash
    with pytest.raises(FileError, match=f"instead of {sha256(BODY)[:8]}"):
        find_weights(OFF_HUB)


# --- a server that misbehaves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(  # test_fetch.py has more faults
    ("faults", "ranges", "digits"),
    [
        ([("cut", 300_000), "ok"], [False, True], 8),
        ([("truncate", 300_000), "ok"], [False, False], 8),
        (["corrupt", "ok"], [False, False], 64),
    ],
    ids=lambda value: str(value),
)
def test_a_passing_fault_is_survived(monkeypatch, server, checkpoints, faults, ranges, digits):
    release = publish(monkeypatch, server, BODY, digits=digits)
    server.faults[f"/0/{release.file}"] = list(faults)
    assert find_weights(SMALL) == (checkpoints / release.file, sha256(BODY))
    assert (checkpoints / release.file).read_bytes() == BODY
    assert left(checkpoints) == [release.file]
    assert [request.range is not None for request in server.seen] == ranges


@pytest.mark.parametrize("fault", [404, "corrupt", ("cut", 70_000)], ids=str)
def test_a_lasting_fault_goes_to_the_mirror(monkeypatch, server, checkpoints, fault):
    release = publish(monkeypatch, server, BODY, mirrors=2)
    server.faults[f"/0/{release.file}"] = [fault]
    assert find_weights(SMALL) == (checkpoints / release.file, sha256(BODY))
    assert (checkpoints / release.file).read_bytes() == BODY
    assert left(checkpoints) == [release.file]
    assert server.seen[-1].path == f"/1/{release.file}"
    assert (server.seen[-1].range is not None) == (fault == ("cut", 70_000))  # the mirror completes what came


@pytest.mark.parametrize("fault", ["corrupt", ("truncate", 300_000), "page"], ids=str)
def test_wrong_bytes_everywhere_leave_nothing(monkeypatch, server, checkpoints, fault):
    release = publish(monkeypatch, server, BODY, mirrors=2)
    server.faults = {f"/{number}/{release.file}": [fault] for number in range(2)}
    with pytest.raises(FileError) as error:
        find_weights(SMALL)
    assert all(url in str(error.value) for url in release.urls)
    assert fault == "page" or f"instead of {sha256(BODY)[:8]}" in str(error.value)
    assert left(checkpoints) == []


def test_a_later_run_resumes_and_a_damaged_start_does_not_stay(monkeypatch, server, checkpoints):
    release = publish(monkeypatch, server, BODY)
    server.faults[f"/0/{release.file}"] = [("cut", 300_000), 404]
    with pytest.raises(FileError):
        find_weights(SMALL)
    (part,) = [path for path in checkpoints.iterdir() if path.name.endswith(".part")]
    kept = part.read_bytes()
    assert len(kept) > 200_000 and BODY.startswith(kept)
    part.write_bytes(b"x" + kept[1:])
    server.faults = {}
    assert find_weights(SMALL)[1] == sha256(BODY)
    assert [request.range for request in server.seen[-2:]] == [f"bytes={len(kept)}-", None]
    assert left(checkpoints) == [release.file]


def test_four_at_once_download_it_once(monkeypatch, server, checkpoints):
    publish(monkeypatch, server, BODY)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(find_weights, [SMALL] * 4))
    assert {digest for _, digest in found} == {sha256(BODY)}
    assert len(server.seen) == 1


def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch, server, tmp_path, checkpoints):
    publish(monkeypatch, server, BODY)
    (tmp_path / "torch").write_text("a file where the folder should be")
    with pytest.raises(FileError, match=r"torch/hub/checkpoints/small-.*TORCH_HOME"):
        find_weights(SMALL)


# --- what is refused --------------------------------------------------------------------------------------------


def test_another_file_in_torch_hubs_cache_is_refused_and_kept(monkeypatch, server, checkpoints):
    release = publish(monkeypatch, server, BODY)
    checkpoints.mkdir(parents=True)
    (checkpoints / release.file).write_bytes(b"damaged")
    with pytest.raises(FileError) as error:
        find_weights(SMALL)
    for words in (sha256(b"damaged")[:12], release.sha256_prefix, f"delete {checkpoints / release.file}", f"weights.{SMALL}"):
        assert words in str(error.value)
    assert (checkpoints / release.file).read_bytes() == b"damaged" and server.seen == []


def test_a_damaged_file_in_the_hubs_cache_is_refused(tmp_path):
    path = in_hub_cache(tmp_path, "model.safetensors", b"damaged", blob=sha256(BODY))
    with pytest.raises(FileError, match=f"instead of {sha256(BODY)[:12]}.*delete {path.resolve()}"):
        find_weights(SMALL)


def test_names_in_the_hubs_cache_that_are_no_sha256_say_nothing(tmp_path):
    path = in_hub_cache(tmp_path, "model.safetensors", BODY)
    store = tmp_path / "store" / ("d" * 64)  # the client can keep a blob in a store where names are hashes of another kind
    store.parent.mkdir()
    blob = path.resolve().rename(store)
    (path.parent / path.readlink()).symlink_to(blob)
    assert find_weights(SMALL) == (path, sha256(BODY))
    path.unlink()
    in_hub_cache(tmp_path, "model.safetensors", BODY, blob="e" * 40)  # a small file's git hash
    assert find_weights(SMALL) == (path, sha256(BODY))


@pytest.mark.parametrize("ending", [".pth", ".bin"])
def test_a_local_file_does_not_pass_for_the_published_one(monkeypatch, server, tmp_path, ending):
    release = publish(monkeypatch, server, BODY)
    (tmp_path / f"mine{ending}").write_bytes(b"mine")
    with pytest.raises(FileError, match=rf"weights\.{SMALL} .*mine{ending}.*{release.sha256_prefix}"):
        find_weights(SMALL, tmp_path / f"mine{ending}")
    (tmp_path / f"mine{ending}").write_bytes(BODY)  # under whatever name
    assert find_weights(SMALL, tmp_path / f"mine{ending}") == (tmp_path / f"mine{ending}", sha256(BODY))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_weights_file_is_not_run(tmp_path):
    torch.save(small_network().state_dict() | {"more": Trap(tmp_path / "sprung")}, tmp_path / "mine.pth")
    with pytest.raises(FileError, match=rf"^backbone {SMALL}: .*mine\.pth") as error:
        load_backbone(SMALL, CPU, tmp_path / "mine.pth")
    assert not (tmp_path / "sprung").exists()
    assert "\n" not in str(error.value)
    torch.load(tmp_path / "mine.pth", weights_only=False)  # the trap does work
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 and no more"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, ending):
    (tmp_path / f"mine{ending}").write_bytes(content)
    with pytest.raises(FileError, match=rf"^backbone {SMALL}: .*mine{ending} \(.+\).*weights\.{SMALL}") as error:
        load_backbone(SMALL, CPU, tmp_path / f"mine{ending}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {}, timm.create_model("test_resnet").state_dict()])
def test_what_is_not_this_models_weights_is_refused(monkeypatch, server, tmp_path, content):
    on_the_hub(monkeypatch, server, "model.safetensors", saved(small_network(), tmp_path / "x.safetensors"))
    torch.save(content, tmp_path / "mine.pth")
    with pytest.raises(FileError, match=rf"^backbone {SMALL}: .*mine\.pth"):
        load_backbone(SMALL, CPU, tmp_path / "mine.pth")
    assert server.seen == []  # nor are others put in their place


@pytest.mark.parametrize("name", ["nothing.in1k", "nothing", "tf_efficientnet_b6.nothing", "tf_efficientnet_b6"])
def test_an_unknown_name_and_one_without_a_tag_are_refused(name, tmp_path):
    for local in (None, tmp_path / "mine.pth"):
        with pytest.raises(ConfigError, match=f"^backbone {name}: "):
            load_backbone(name, CPU, local)


def test_a_local_file_that_is_missing_is_named_with_its_key(tmp_path):
    with pytest.raises(ConfigError, match=rf"weights\.{SMALL} is .*gone\.pth"):
        load_backbone(SMALL, CPU, tmp_path / "gone.pth")


def test_without_network_and_caches_the_error_names_every_way_out(monkeypatch, checkpoints):
    nowhere = "http://127.0.0.1:9/small-00000000.pth"
    monkeypatch.setattr(weights, "published", lambda: {SMALL: Release("small-00000000.pth", "00000000", [nowhere])})
    with pytest.raises(FileError) as pinned:
        find_weights(SMALL)
    monkeypatch.setattr(weights, "published", lambda: {})
    with pytest.raises(FileError) as by_hub:
        find_weights(SMALL)
    for error, place in ((pinned, f"put the file at {checkpoints / 'small-00000000.pth'}"), (by_hub, REPOSITORY)):
        sentence = str(error.value)
        assert "\n" not in sentence and place in sentence and f"weights.{SMALL}" in sentence
    assert nowhere in str(pinned.value)
    assert left(checkpoints) == []


# --- weights.yaml -----------------------------------------------------------------------------------------------


def test_the_published_files_are_the_ones_that_timm_names():
    assert "tf_efficientnet_b6.aa_in1k" in published()
    for name, release in published().items():
        config = timm.get_pretrained_cfg(name)
        assert config.url in release.urls and config.hf_hub_id
        assert release.file.endswith(f"-{release.sha256_prefix[:8]}.pth")
        assert all(url.startswith("https://") and url.endswith(f"/{release.file}") for url in release.urls)
        assert len(release.sha256_prefix) in (8, 64) and int(release.sha256_prefix, 16)


def test_the_hubs_files_are_looked_for_in_timms_order():
    from timm.models import _hub

    assert weights.HUB_FILES == (_hub.HF_SAFE_WEIGHTS_NAME, _hub.HF_WEIGHTS_NAME)


def test_what_is_at_hand_is_found_without_the_network(monkeypatch, server, tmp_path, checkpoints):
    release = publish(monkeypatch, server, BODY)
    local = tmp_path / "local.pth"
    assert at_hand(SMALL) is None
    assert at_hand(SMALL, local) is None
    local.write_bytes(BODY)
    assert at_hand(SMALL, local) == local
    in_hub_cache(tmp_path, "model.safetensors", BODY)
    assert at_hand(SMALL).name == "model.safetensors"
    checkpoints.mkdir(parents=True)
    (checkpoints / release.file).write_bytes(BODY)
    assert at_hand(SMALL) == checkpoints / release.file
    assert at_hand(OFF_HUB) is None
    assert server.seen == []


def test_the_published_files_have_the_hub_s_repositories_that_timm_names():
    for name in published():
        assert timm.get_pretrained_cfg(name).hf_hub_id == f"timm/{name}"
        assert timm.get_pretrained_cfg(name).hf_hub_filename is None
