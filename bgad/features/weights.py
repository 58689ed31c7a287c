"""The weights file of a backbone and its SHA-256: from a local file, a cache or a download.

weights.yaml lists the published files that the project knows; for other names, timm says where the weights are.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import yaml
from filelock import FileLock

from bgad.data.download.fetch import DownloadError, check_https, fetch, sha256_of
from bgad.errors import ConfigError, FileError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in a model's repository, in timm's order


class Release(NamedTuple):
    """A published weights file."""

    file: str
    sha256_prefix: str  # its first digits: eight, all 64, or "" if none are published
    urls: list[str]  # the same file, in the order to try


def find_weights(name: str, local: Path | None = None) -> tuple[Path, str]:
    """The weights file of a timm name with its tag, and the file's SHA-256 (hex): the first that exists of

    1. ``local``, a file named in the configuration. If a hash is published for ``name``, another file is refused, since it
    would
       pass for those weights; but a .safetensors file is another container by nature (the hub's files, your own weights), whose
       hash is only recorded.
    2. The published file in torch hub's cache (``$TORCH_HOME/hub/checkpoints``).
    3. A file in the Hugging Face cache, which stores it under its hash.
    4. The published file, downloaded to 2, where it gets its name after its hash is checked. One process downloads; others that
       need the same file wait.
    5. The model's repository on the Hugging Face hub, also if no address of 4 gives the file.

    FileError if there is none or if it has the wrong hash; ConfigError if timm knows no such weights or ``local`` is missing.
    """
    config = pretrained_cfg(name)
    release = _release(name, config)
    if local is not None:
        return local, _local_digest(name, local, release)
    if release and (cached := _cached(release)).is_file():
        return cached, _checked(name, cached, release.sha256_prefix)
    if path := _in_hub_cache(*_hub_place(config)):
        return path, _checked(name, path, _stored_hash(path))
    failures = []
    if release:
        try:
            return _download(name, release)
        except FileError as error:  # no address gave it, or the disk is full
            failures.append(getattr(error, "tried", str(error)).rstrip("."))
    if config.hf_hub_id:
        try:
            path = _from_hub(config)
        except Exception as error:  # of many kinds; all mean the same to a user
            failures.append(f"{config.hf_hub_id} on the Hugging Face hub: {reason(error)}")
        else:
            return path, _checked(name, path, _stored_hash(path))
    place = f"put the file at {_cached(release)}" if release else f"fill the hub's cache with {config.hf_hub_id}"
    raise FileError(
        f"backbone {name}: its weights could not be downloaded ({'; '.join(failures)}); run again with a network, {place}, "
        f"or set weights.{name} in the configuration to a local file."
    )


def at_hand(name: str, local: Path | None = None) -> Path | None:
    """The file that ``find_weights`` would return without a network, its hash unchecked; None if there is none."""
    if local is not None:
        return local if local.is_file() else None
    if release := published().get(name):
        # Asking timm for its repository, which has this name, would take seconds.
        return _cached(release) if _cached(release).is_file() else _in_hub_cache(f"timm/{name}", None, HUB_FILES)
    config = pretrained_cfg(name)
    release = _release(name, config)
    return _cached(release) if release and _cached(release).is_file() else _in_hub_cache(*_hub_place(config))


def pretrained_cfg(name: str) -> "PretrainedCfg":
    """timm's facts about these weights (mean, std, hub id, ...); ConfigError for a name that has no tag or is unknown."""
    import timm  # slow to import

    if "." not in name:
        raise ConfigError(
            f"backbone {name}: add the tag of the weights, {name}.<tag>; timm's default tag has changed over time."
        )
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a known model with an unknown tag
        config = None
    if config is None or not (config.url or config.hf_hub_id):
        raise ConfigError(f"backbone {name}: timm {timm.__version__} has no such weights; check the recipe's backbone.")
    return config


def reason(error: Exception) -> str:
    """The first sentence of an error's text, or else its kind."""
    return (str(error).strip().splitlines() or [""])[0].split(". ")[0].rstrip(".:") or type(error).__name__


@cache
def published() -> dict[str, Release]:
    """The published files of weights.yaml by timm name."""
    with Path(__file__).with_name("weights.yaml").open(encoding="utf-8") as file:
        return {name: Release(**facts) for name, facts in yaml.safe_load(file).items()}


def _release(name: str, config: "PretrainedCfg") -> Release | None:
    """The published file: from weights.yaml, or at timm's only address for a model that is not on the hub."""
    if name in published() or config.hf_hub_id:
        return published().get(name)
    assert isinstance(config.url, str)  # or pretrained_cfg would have refused it
    file = config.url.rpartition("/")[2]
    digits = torch.hub.HASH_REGEX.search(file)
    return Release(file, digits[1] if digits else "", [config.url])


def _cached(release: Release) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", release.file)


def _local_digest(name: str, local: Path, release: Release | None) -> str:
    if not local.is_file():
        raise ConfigError(f"config: weights.{name} is {local}, which is not a file; correct the path.")
    try:
        digest = sha256_of(local)
    except OSError as error:
        raise FileError(
            f"config: weights.{name}: {local} cannot be read ({error.strerror}); change its permissions."
        ) from error
    if release and not digest.startswith(release.sha256_prefix) and local.suffix != ".safetensors":
        raise FileError(
            f"config: weights.{name} is {local}, which is not the published file "
            f"({_difference(digest, release.sha256_prefix)}); remove the key, name {release.file}, or "
            "name a .safetensors file if you mean other weights."
        )
    return digest


def _checked(name: str, path: Path, prefix: str) -> str:
    """The hash of a cached file; FileError unless it begins with ``prefix``."""
    digest = sha256_of(path)
    if not digest.startswith(prefix):
        raise FileError(
            f"backbone {name}: {path} is damaged or another file ({_difference(digest, prefix)}); delete {path.resolve()} "
            f"to have it downloaded again, or set weights.{name} in the configuration to another file."
        )
    return digest


def _difference(digest: str, prefix: str) -> str:
    return f"its SHA-256 is {digest[:12]}... instead of {prefix[:12]}..."


def _download(name: str, release: Release) -> tuple[Path, str]:
    """The published file, downloaded to torch hub's cache; DownloadError if no address gives it."""
    target = _cached(release)
    unchecked = target.with_name(f"{target.name}.unchecked")
    failures = []
    with _alone(target):
        if target.is_file():  # another process was faster
            return target, _checked(name, target, release.sha256_prefix)
        for url in release.urls:
            try:
                digest = _fetch_checked(url, unchecked, release)
            except DownloadError as error:
                failures.append(error.tried)
            else:
                unchecked.replace(target)
                return target, digest
    tried = "; ".join(failures)
    raise DownloadError(f"{target} could not be downloaded ({tried}).", tried)


def _fetch_checked(url: str, unchecked: Path, release: Release) -> str:
    # Twice: the first download may continue the damaged start of an earlier one.
    for _ in range(2):
        digest = fetch([url], unchecked, sha256=None)
        if digest.startswith(release.sha256_prefix):
            return digest
        unchecked.unlink()
    tried = f"{url}: the wrong file, {_difference(digest, release.sha256_prefix)}"
    raise DownloadError(tried, tried)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lets one process at a time write ``target``; FileError if its folder cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            yield
    except OSError as error:
        raise FileError(
            f"{target}: cannot be written ({error.strerror or error}); make room there, or set TORCH_HOME to another folder."
        ) from error


def _hub_place(config: "PretrainedCfg") -> tuple[str, str | None, tuple[str, ...]]:
    """Repository ("" if the model is not on the hub), revision and the files to look for."""
    repository, _, revision = (config.hf_hub_id or "").partition("@")
    return repository, revision or None, (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES


def _in_hub_cache(repository: str, revision: str | None, files: tuple[str, ...]) -> Path | None:
    """The model's file in the Hugging Face cache, without using the network."""
    from huggingface_hub import try_to_load_from_cache

    if not repository:
        return None
    found = (try_to_load_from_cache(repository, file, revision=revision) for file in files)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _from_hub(config: "PretrainedCfg") -> Path:
    from huggingface_hub import constants, hf_hub_download, set_client_factory
    from huggingface_hub.errors import EntryNotFoundError

    check_https(constants.ENDPOINT)
    set_client_factory(_https_client)
    repository, revision, (*others, last) = _hub_place(config)
    for file in others:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, last, revision=revision))


def _https_client():
    """The hub's own client, with a check of each address before it is requested, also after redirects."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.event_hooks["request"].append(lambda request: check_https(str(request.url)))
    return client


def _stored_hash(path: Path) -> str:
    """The hash under which the Hugging Face cache stores a large file: the name of the blob that ``path`` links to."""
    # One link only: the blob may itself link to a store whose names are hashes of another kind.
    blob = path.readlink().name if path.is_symlink() else ""
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else ""
