"""Running out of memory: telling it from other failures, and retrying with fewer images at once."""

import errno
import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# How PyTorch words it on a GPU, in its libraries there, and on a CPU; its own error types are RuntimeErrors too. The last is
# for a worker process that makes images: a system without memory kills it.
SAYS = re.compile(
    r"out of memory|ALLOC_FAILED|Create\(handle\)|can't allocate memory|bad_alloc|bad allocation|unexpectedly terminated",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, PyTorch or the system says that there was no memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and SAYS.search(str(error)) is not None)


def out_of_memory(error: BaseException) -> str:
    """The sentence that the user sees."""
    said = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0]
    way = "give each training more of the GPU (gpu_mb in config/config.yaml)" if "CUDA" in str(error) else "add memory"
    return f"out of memory ({said}); run fewer steps at once (--cores), or {way}."


def in_smaller_batches(work: Callable[[int], T], images_at_once: int) -> T:
    """``work(images_at_once)``; if memory runs out, again with half as many, down to one image at a time.

    ``work`` must give the same result for any number, up to rounding, and leave nothing behind when it fails. The last error is
    raised.
    """
    while True:
        try:
            return work(images_at_once)
        except Exception as error:
            if images_at_once == 1 or not is_out_of_memory(error):
                raise
        # Outside the except block the error is gone, and with it the failed work's tensors.
        print(f"out of memory with {images_at_once} images at once; retrying with {images_at_once // 2}")
        images_at_once //= 2
