"""Splits: nothing is in training and in test, every k has the same test set, and only names decide the draw."""

import json
import random
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from folders import make_category

from bgad.config.settings import Dataset
from bgad.data.download import presets
from bgad.data.layouts import ImageRecord, Index, build_index
from bgad.data.splits import Split, draw
from bgad.errors import BgadError, ConfigError, DataError, FileError

# Every category that can be downloaded, and shapes that these do not have.
DOWNLOADS = {
    f"{name}/{category}": counts for name in ("mvtec", "btad") for category, counts in presets.dataset(name).counts.items()
}
SHAPES = DOWNLOADS | {
    "own/rare types": {"train": 5, "good": 3, "a": 1, "b": 2, "c": 30},
    "own/more types than the pool": {"train": 5, "good": 3, **{f"type {number}": 2 for number in range(13)}},
    "own/one image a type": {"train": 5, "good": 3, **{f"type {number}": 1 for number in range(12)}},
    "own/eleven": {"train": 1, "good": 0, "a": 6, "b": 5},
}
SEEDS = (0, 1, 42, 100)


def index_of(shape: dict[str, int], name="mvtec/bottle") -> Index:
    """An index without files: ``shape`` counts the images, as in presets.yaml."""
    dataset, category = name.split("/")
    folders = [("train", "good", shape["train"]), ("test", "good", shape["good"])]
    folders += [("test", kind, count) for kind, count in shape.items() if kind not in ("train", "good")]
    images = [record(f"{part}/{kind}/{number:03}.png", part, kind) for part, kind, count in folders for number in range(count)]
    return Index(dataset, category, False, True, tuple(images))


def record(path: str, part="test", kind=None, content=None) -> ImageRecord:
    kind = kind or path.split("/")[1]
    mask = None if kind == "good" else f"ground_truth/{kind}/mask.png"
    return ImageRecord(path, part, kind, mask, sha256=content or f"content of {path}")


def kinds_of(shape: dict[str, int]) -> list[str]:
    return [kind for kind in shape if kind not in ("train", "good")]


def kind_of(path: str) -> str:
    return path.split("/")[1]


BOTTLE = index_of(DOWNLOADS["mvtec/bottle"])


def test_a_known_draw():
    """Any change of the draw changes published numbers: it must not go unnoticed."""
    index = index_of({"train": 2, "good": 1, "crack": 4, "poke": 5, "squeeze": 4}, "mvtec/capsule")
    seen = draw(index, "seen", 0)
    assert " ".join(path.removeprefix("test/").removesuffix(".png") for path in seen.pool) == (
        "crack/000 poke/003 squeeze/001 poke/004 squeeze/000 crack/003 crack/002 squeeze/003 poke/002 squeeze/002"
    )
    assert seen.further == ("test/poke/001.png", "test/poke/000.png", "test/crack/001.png")
    assert seen.sha256 == "8425cdb8d52234ba3fe8746b1c8c2f3f648cd9cca6fb722ab82618c106d68f6e"
    hard = draw(index, "hard-poke", 42)
    assert hard.pool == tuple(f"test/poke/00{number}.png" for number in (3, 1, 0, 2, 4))


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_is_in_training_and_in_test(name):
    shape = SHAPES[name]
    index = index_of(shape, name)
    everything = {image.path: image for image in index.images}
    anomalous = {path for path, image in everything.items() if image.anomalous}
    normal_test = {path for path, image in everything.items() if image.part == "test" and not image.anomalous}
    kinds = kinds_of(shape)
    for kind in [None, *(kinds if len(kinds) > 1 else [])]:
        drawable = shape[kind] if kind else len(anomalous) - 1
        for seed in SEEDS:
            split = draw(index, f"hard-{kind}" if kind else "seen", seed)
            for k in {0, 1, 2, 5, 9, 10, 11, 13, 20, drawable}:
                if k > drawable:
                    continue
                known, test = split.known(k), split.test(k)
                assert len(known) == len(set(known)) == k
                assert set(known) <= anomalous
                assert len(set(test)) == len(test)
                assert not set(test) & (set(known) | set(split.train_normal))
                assert normal_test < set(test) <= normal_test | anomalous
                if kind:
                    assert {kind_of(path) for path in known} <= {kind}
                    assert set(test) - normal_test == {path for path in anomalous if kind_of(path) != kind}
                elif k <= 10:
                    assert set(test) == (normal_test | anomalous) - set(split.known(10))
                else:
                    assert set(test) == (normal_test | anomalous) - set(known)
            assert set(split.train_normal) == {path for path, image in everything.items() if image.part == "train"}
            assert Counter(split.full_test()) == Counter(normal_test | anomalous)
            assert split.excluded == ()


@pytest.mark.parametrize("name", SHAPES)
def test_every_k_up_to_the_pool_has_the_same_test_set_in_the_same_order(name):
    shape = SHAPES[name]
    kinds = kinds_of(shape)
    for split in ["seen", *(f"hard-{kind}" for kind in kinds if len(kinds) > 1)]:
        drawn = draw(index_of(shape, name), split, 0)
        size = len(drawn.pool)
        assert size == min(10, shape[split.removeprefix("hard-")] if split != "seen" else 10)
        assert len({drawn.test(k) for k in range(size + 1)}) == 1
        for k in range(size):
            assert drawn.known(k + 1)[:k] == drawn.known(k)


@pytest.mark.parametrize("name", SHAPES)
def test_seen_takes_as_many_of_each_type_and_every_start_is_spread(name):
    shape = SHAPES[name]
    kinds = kinds_of(shape)
    each = 10 // len(kinds)
    for seed in range(12):
        pool = draw(index_of(shape, name), "seen", seed).pool
        counts = Counter(map(kind_of, pool))
        for kind in kinds:
            assert counts[kind] >= min(each, shape[kind])
        if min(shape[kind] for kind in kinds) >= each:
            for k in range(each * len(kinds) + 1):
                so_far = Counter(map(kind_of, pool[:k]))
                numbers = [so_far[kind] for kind in kinds]
                assert max(numbers) - min(numbers) <= 1, (seed, k)


def test_another_pool_size():
    split = draw(BOTTLE, "seen", 0, pool_size=4)
    assert len(split.pool) == 4
    assert Counter(map(kind_of, split.pool[:3])) == dict.fromkeys(kinds_of(DOWNLOADS["mvtec/bottle"]), 1)
    assert len(split.test(4)) == len(split.test(0)) == 20 + 63 - 4
    assert len(split.test(10)) == 20 + 63 - 10


def test_known_anomalies_beyond_the_pool_leave_the_test_set_one_by_one():
    split = draw(BOTTLE, "seen", 0)
    assert len(split.known(62)) == 62
    for k in range(11, 62):
        assert split.known(k)[: k - 1] == split.known(k - 1)
        assert set(split.test(k - 1)) - set(split.test(k)) == {split.known(k)[-1]}


def test_seeds_and_names_draw_differently():
    def pool(index=BOTTLE, split="seen", seed=0):
        return draw(index, split, seed).pool

    pools = {pool(seed=seed) for seed in range(30)}
    assert len(pools) == 30
    pools |= {pool(replace(BOTTLE, category="vial")), pool(replace(BOTTLE, dataset="own"))}
    assert len(pools) == 32
    hard = draw(BOTTLE, "hard-contamination", 0).pool
    assert hard[:3] != tuple(path for path in pool() if kind_of(path) == "contamination")


def test_every_anomaly_is_drawn_about_equally_often():
    shape = DOWNLOADS["mvtec/bottle"]
    pools = [draw(BOTTLE, "seen", seed).pool for seed in range(300)]
    drawn = Counter(path for pool in pools for path in pool)
    assert len(drawn) == 63
    # 10 of 63 images in 300 draws: about 48 each, with a standard deviation of about 6.3.
    assert min(drawn.values()) > 20
    assert max(drawn.values()) < 76
    for place in (0, 9):
        types = Counter(kind_of(pool[place]) for pool in pools)
        assert min(types[kind] for kind in kinds_of(shape)) > 70, place  # about 100 each, deviation 8


def test_only_names_count(tmp_path):
    make_category(tmp_path / "a", "bottle", types={"cut": 7, "hole": 9})
    own = Dataset()
    before = [draw(build_index("own", "bottle", tmp_path / "a", own), split, 0) for split in ("seen", "hard-cut")]

    make_category(tmp_path / "a", "a new one", types={"cut": 12})
    shutil.copytree(tmp_path / "a", tmp_path / "another place" / "b")
    index = build_index("own", "bottle", tmp_path / "another place" / "b", own)
    images = list(index.images)
    for seed in range(5):
        random.Random(seed).shuffle(images)
        shuffled = replace(index, images=tuple(images))
        after = [draw(shuffled, split, 0) for split in ("seen", "hard-cut")]
        assert after == before
        assert [split.sha256 for split in after] == [split.sha256 for split in before]


def test_another_draw_before_changes_nothing():
    alone = draw(BOTTLE, "seen", 42)
    random.seed(3)
    for seed in range(3):
        draw(BOTTLE, "seen", seed)
    assert draw(BOTTLE, "seen", 42) == alone


def test_a_new_image_leaves_the_order_of_the_others():
    more = replace(BOTTLE, images=(*BOTTLE.images, record("test/contamination/900.png")))
    old, new = draw(BOTTLE, "hard-contamination", 0), draw(more, "hard-contamination", 0)
    order = tuple(path for path in new.pool + new.further if path != "test/contamination/900.png")
    assert order == old.pool + old.further


def refused(kind: type[BgadError], call, *words: object) -> None:
    with pytest.raises(kind) as error:
        call()
    assert all(str(word) in str(error.value) for word in words), error.value


def test_a_split_that_cannot_be_is_refused():
    few = index_of({"train": 3, "good": 2, "cut": 4, "hole": 3}, "own/nut")
    refused(DataError, lambda: draw(few, "seen", 0), "own/nut", "all 7", "datasets.own.pool")
    one = index_of({"train": 3, "good": 2, "cut": 30}, "own/nut")
    refused(DataError, lambda: draw(one, "hard-cut", 0), "own/nut", "hard-cut", "all 30")
    two = index_of({"train": 3, "good": 2, "cut": 30, "hole": 3}, "own/nut")
    for split in ("hard-dent", "cut"):
        refused(ConfigError, lambda split=split: draw(two, split, 0), "own/nut", f"split {split}", "cut, hole")


# --- types with few images, and empty masks -----------------------------------------------------------------


def test_a_type_with_fewer_images_than_the_pool_gives_what_it_has():
    wood = index_of(DOWNLOADS["mvtec/wood"], "mvtec/wood")
    split = draw(wood, "hard-color", 0)
    assert sorted(split.pool) == [f"test/color/{number:03}.png" for number in range(8)]
    assert split.further == split.held_out == ()
    assert split.known(1) == split.pool[:1]
    assert len(split.test(0)) == len(split.test(1)) == len(split.test(8)) == 19 + 60 - 8
    refused(DataError, lambda: split.test(10), "mvtec/wood: k 10", "8 images of type color")


def with_empty_masks(index: Index, kind: str, count: int) -> tuple[Index, set[str]]:
    """The first ``count`` images of a type get empty masks."""
    chosen = {f"test/{kind}/{number:03}.png" for number in range(count)}
    images = tuple(replace(image, empty_mask=image.path in chosen) for image in index.images)
    return replace(index, images=images), chosen


def test_an_image_with_an_empty_mask_is_tested_but_never_known():
    index, empty = with_empty_masks(index_of(DOWNLOADS["btad/03"], "btad/03"), "ko", 10)
    for seed in range(20):
        split = draw(index, "seen", seed)
        assert len(split.pool) == 10
        assert not empty & {*split.pool, *split.further}
        assert len(split.known(31)) == 41 - 10
        for k in (0, 1, 10, 31):
            assert empty < set(split.test(k))
            assert len(split.test(k)) == 400 + 41 - max(k, 10)
        assert len(split.full_test()) == 400 + 41
    refused(DataError, lambda: split.known(32), "btad/03: k 32", "31 anomalous images with a mask that marks something")


def test_a_hard_split_takes_the_empty_masks_of_its_type_out_as_well():
    index, empty = with_empty_masks(BOTTLE, "contamination", 3)
    split = draw(index, "hard-contamination", 0)
    assert empty < set(split.held_out)
    assert not empty & {*split.pool, *split.further}
    assert {kind_of(path) for path in split.test(10)} == {"good", "broken_large", "broken_small"}
    assert len(split.known(18)) == 21 - 3
    refused(DataError, lambda: split.known(19), "k 19", "18 images of type contamination with a mask that marks something")
    other = draw(index, "hard-broken_large", 0)
    assert empty < set(other.test(10))


def test_an_image_without_a_mask_is_tested_but_never_known():
    missing = {f"test/contamination/{number:03}.png" for number in range(3)}
    images = tuple(replace(image, mask=None if image.path in missing else "x.png") for image in BOTTLE.images)
    index = replace(BOTTLE, images=images)
    assert index.unmasked == missing
    for split in (draw(index, "seen", 0), draw(index, "hard-contamination", 0)):
        assert not missing & {*split.pool, *split.further}
        assert missing < set(split.full_test())
    assert replace(index, has_masks=False).unmasked == frozenset()


def test_empty_masks_leave_the_order_of_the_others():
    index, empty = with_empty_masks(BOTTLE, "contamination", 3)
    before, after = draw(BOTTLE, "hard-contamination", 0), draw(index, "hard-contamination", 0)
    order = tuple(path for path in before.pool + before.further if path not in empty)
    assert after.pool + after.further == order


def test_too_few_anomalies_for_k_is_refused():
    index = index_of({"train": 3, "good": 2, "cut": 4, "hole": 9}, "own/nut")
    seen, hard = draw(index, "seen", 0), draw(index, "hard-cut", 0)
    assert len(seen.test(12)) == 2 + 1
    refused(DataError, lambda: seen.test(13), "own/nut: k 13")
    refused(DataError, lambda: seen.known(14), "own/nut: k 14", "13 anomalous images")
    assert len(hard.test(4)) == 2 + 9
    for method in (hard.known, hard.test):
        refused(DataError, lambda method=method: method(5), "own/nut: k 5", "4 images of type cut")


def test_a_category_without_anomalies_has_a_split_to_train_on():
    split = draw(index_of({"train": 3, "good": 2}), "seen", 0)
    assert split.test(0) == split.full_test() == ("test/good/000.png", "test/good/001.png")
    refused(DataError, lambda: split.known(1), "k 1", "0 anomalous images")


@pytest.mark.parametrize("split", ["seen", "hard-contamination"])
def test_a_split_file_comes_back_as_it_was(tmp_path, split):
    copy = record("test/contamination/900.png", content="content of test/good/007.png")
    drawn = draw(replace(BOTTLE, images=(copy, *BOTTLE.images)), split, 42)
    assert len(drawn.excluded) == 2
    path = tmp_path / "new folder" / "seed42.json"
    drawn.save(path)
    loaded = Split.load(path)
    assert loaded == drawn
    assert loaded.sha256 == drawn.sha256 == json.loads(path.read_text())["sha256"]


def test_a_changed_split_file_is_refused(tmp_path):
    path = tmp_path / "seed0.json"
    draw(BOTTLE, "seen", 0).save(path)
    content = json.loads(path.read_text())

    changed = [
        content | {"seed": 1},
        content | {"pool": content["pool"][::-1]},
        content | {"test_anomalous": content["test_anomalous"] + content["pool"][:1]},
        {key: value for key, value in content.items() if key != "sha256"},
    ]
    no_split = [{key: value for key, value in content.items() if key != "pool"}, content | {"k": 10}, [], None]
    for values, why in [*((of, "hash") for of in changed), *((of, "not the file of a split") for of in no_split)]:
        path.write_text(json.dumps(values))
        refused(FileError, lambda: Split.load(path), path, why)
    path.write_text(json.dumps(content))
    assert Split.load(path) == draw(BOTTLE, "seen", 0)
