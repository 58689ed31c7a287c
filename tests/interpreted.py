"""The Triton kernels of bgad/model/gpu in Triton's interpreter, on a CPU, against FrEIA's own forward in double precision.

Triton decides whether to interpret when it is imported, so test_gpu_chain.py runs this file in a process of its own.
"""

import flows
import torch

from bgad.model import flow as model
from bgad.model.gpu import chain

# channels (odd: P and A differ), position channels, height, width, blocks, vectors: around the tile of 16 and 16 hidden numbers
SHAPES = [(2, 4, 1, 1, 1, 1), (7, 8, 3, 5, 2, 31), (25, 12, 7, 2, 3, 33), (40, 128, 32, 32, 2, 48), (112, 128, 16, 16, 1, 17)]


def equals_freia(of_flow, count: int, device: torch.device) -> None:
    flow, rng = flows.make_flow(*of_flow), torch.Generator().manual_seed(5)
    position = torch.randint(flow.height * flow.width, (count,), generator=rng)
    x, weights = torch.randn(count, flow.channels, generator=rng), torch.randn(count, generator=rng)
    flow, position, x, weights = (of.to(device) for of in (flow, position, x, weights))
    found = flows.values_and_gradients(lambda x: flow.log_likelihood(x, position), flow, x, weights)
    # Vectors that are not contiguous, without gradients: nothing is kept, and the values are the same.
    with torch.inference_mode():
        again = flow.log_likelihood(torch.stack([x, -x], dim=2)[..., 0], position)
    assert torch.equal(again, found["log-likelihood"])
    flow.double()  # which the kernels do not take
    expected = flows.values_and_gradients(lambda x: flow.log_likelihood(x, position), flow, x.double(), weights.double())
    flows.assert_equal(found, expected, 1e-5)


def main() -> None:
    kernels, launched = chain._kernels(), []
    for name in ("forward", "backward"):
        kernel = getattr(kernels, name)
        setattr(kernels, name, _Counting(kernel, launched))
    model.cpu_chain.available = lambda x: False
    chain.switched_on = lambda device: True
    for *of_flow, count in SHAPES:
        equals_freia(of_flow, count, torch.device("cpu"))
        print(*of_flow, count)
    assert len(launched) == 3 * len(SHAPES), "the kernels did not run"


class _Counting:
    def __init__(self, kernel, launched: list):
        self._kernel, self._launched = kernel, launched

    def __getitem__(self, grid):
        self._launched.append(grid)
        return self._kernel[grid]


if __name__ == "__main__":
    main()
