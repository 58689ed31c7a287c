"""The known anomalies as the released code draws them: one seed for all categories in a row (docs/protocol.md, quirk 3).

The released code seeds Python's global generator once and walks the categories in alphabetical order. In each it shuffles the
sorted files of every defect type and takes the first k // types; the rest of k comes from a shuffle of all that remain. Nothing
else in its main process draws from that generator, so its draws can be replayed: seed 100 gives the anomalies that its file
datasets/anomalies.py lists (tests/test_released_draws.py).
"""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from bgad.data.layouts import Index
from bgad.errors import ConfigError
from bgad.randomness import released_generator


def released_order(index: Index, before: Sequence[Index], seed: int, pool_size: int) -> list[str]:
    """All anomalies of a category in the order in which they become known, drawn after those of the categories ``before``.

    The first ``pool_size`` are the released code's with k = pool_size, in turns over the types, so that a smaller k is spread
    over the types (the released code would draw again). ConfigError unless all categories are of one data set.
    """
    rng = released_generator(seed)
    for earlier in before:
        if earlier.dataset != index.dataset or earlier.category == index.category:
            raise ConfigError(
                f"{index.dataset}/{index.category}: cannot be drawn after {earlier.dataset}/{earlier.category}; "
                "name the other categories of its data set that come before it."
            )
        draw_of_category(earlier, pool_size, rng)
    return draw_of_category(index, pool_size, rng)


def draw_of_category(index: Index, pool_size: int, rng: Random) -> list[str]:
    """One category's draw, with ``rng`` as the categories before have left it."""
    by_type = defaultdict(list)
    for image in index.images:
        if image.anomalous:
            by_type[image.type].append(image.path)
    each, lacking = divmod(pool_size, len(by_type)) if by_type else (0, 0)
    queues = []
    for kind in sorted(by_type):
        paths = sorted(by_type[kind])
        rng.shuffle(paths)
        queues.append(paths)
    rest = [path for queue in queues for path in queue[each:]]
    if lacking:
        order = list(range(len(rest)))
        rng.shuffle(order)
        rest = [rest[place] for place in order]
    return [queue[turn] for turn in range(each) for queue in queues if turn < len(queue)] + rest
