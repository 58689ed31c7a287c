"""Adam (Kingma and Ba, ICLR 2015) by PyTorch's fused kernel, without torch.optim's optimizer object around it.

That object loads PyTorch's compiler with its first step, for two seconds in each of thousands of processes, to tell it to
keep off. Nothing here is compiled by it. Same numbers to the bit as torch.optim.Adam(fused=True) (tests/test_adam.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Over ``parameters``, with betas 0.9 and 0.999, epsilon 1e-8 and no weight decay. ``rate`` is set before each step.

    A parameter's moments begin with the first step that finds a gradient of it, and a step passes over those without one.
    With ``recordable``, steps can be recorded as CUDA graphs: the rate then lies on the device.
    """

    def __init__(self, parameters: Sequence[Tensor], recordable: bool = False):
        self.parameters = parameters
        self._recordable = recordable
        self._rate: Tensor | float = torch.zeros((), device=parameters[0].device) if recordable else 0.0
        self._moments: dict[Tensor, tuple[Tensor, Tensor, Tensor]] = {}

    def set_rate(self, rate: float) -> None:
        if isinstance(self._rate, Tensor):
            self._rate.fill_(rate)  # where a graph reads it
        else:
            self._rate = rate

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or makes them 0: then a step moves a parameter by its momentum without a new gradient."""
        if set_to_none:
            for parameter in self.parameters:
                parameter.grad = None
        elif gradients := [parameter.grad for parameter in self.parameters if parameter.grad is not None]:
            torch._foreach_zero_(gradients)  # on a GPU a few launches instead of one for each of 144

    def state(self) -> list[tuple[Tensor, ...] | None]:
        """The moments of each parameter and its number of steps; None of one that no step has moved."""
        return [self._moments.get(parameter) for parameter in self.parameters]

    def resume(self, state: list[tuple[Tensor, ...] | None]) -> None:
        """Goes on from a ``state()``. What was moved by a step has a gradient again, of 0, as after ``zero_grad(False)``."""
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
