"""Adam (Kingma and Ba, ICLR 2015) through the functional form of PyTorch's fused kernel, torch.optim.adam.adam.

torch.optim.Adam imports PyTorch's compiler, torch._dynamo, when it is built: a quarter of a demo cell's time (docs/speed.md,
Adam), in each of thousands of processes. The numbers are those of torch.optim.Adam(fused=True) to the bit (tests/test_adam.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Over ``parameters``, with betas 0.9 and 0.999, epsilon 1e-8 and no weight decay. Set the rate before each step.

    A parameter's moments start at the first step in which it has a gradient; a step skips parameters without one.
    ``recordable``: steps can be recorded as CUDA graphs, because the rate is a tensor on the device.
    """

    def __init__(self, parameters: Sequence[Tensor], recordable: bool = False):
        self.parameters = parameters
        self._recordable = recordable
        self._rate: Tensor | float = torch.zeros((), device=parameters[0].device) if recordable else 0.0
        self._moments: dict[Tensor, tuple[Tensor, Tensor, Tensor]] = {}

    def set_rate(self, rate: float) -> None:
        if isinstance(self._rate, Tensor):
            self._rate.fill_(rate)  # in place: a graph reads it there
        else:
            self._rate = rate

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients, or sets them to 0, and then momentum still moves parameters without a new gradient."""
        if set_to_none:
            for parameter in self.parameters:
                parameter.grad = None
        elif gradients := [parameter.grad for parameter in self.parameters if parameter.grad is not None]:
            torch._foreach_zero_(gradients)  # a few launches on a GPU, not one per parameter

    def state(self) -> list[tuple[Tensor, ...] | None]:
        """Per parameter: first moment, second moment, number of steps; None if no step has moved it yet."""
        return [self._moments.get(parameter) for parameter in self.parameters]

    def resume(self, state: list[tuple[Tensor, ...] | None]) -> None:
        """Restores a ``state()``. A parameter that had moved gets a gradient of 0, as after ``zero_grad(False)``."""
        for parameter, moments in zip(self.parameters, state, strict=True):
            if moments is not None:
                first, second, taken = (moment.to(parameter.device) for moment in moments)
                self._moments[parameter] = first, second, taken
                parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self) -> None:
        moving = [parameter for parameter in self.parameters if parameter.grad is not None]
        if not moving:
            return
        for parameter in moving:
            if parameter not in self._moments:
                none_taken = torch.zeros((), device=parameter.device)
                self._moments[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter), none_taken
        first, second, taken = (list(kind) for kind in zip(*(self._moments[parameter] for parameter in moving), strict=True))
        adam(
            moving,
            [parameter.grad for parameter in moving if parameter.grad is not None],
            first,
            second,
            [],
            taken,
            fused=True,
            capturable=self._recordable,
            lr=self._rate,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )
