"""Base of the optimizers here: parameters with names, and state that is found again by them."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from zipasr.optim.named_state import Group, NamedShapes, StateLayout, check_kind, fit_state

logger = logging.getLogger(__name__)

ParametersInput = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Group]


class NamedOptimizer(Optimizer, ABC):
    """Optimizer over groups of parameters that may have names.

    A step first measures the gradients, which is its only wait for a device, then moves.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or groups with ``params`` or ``named_params``.
        defaults: options of groups that do not have them.

    Raises:
        ValueError: there are no parameters.
    """

    layout: ClassVar[StateLayout]
    """How the state of parameters of equal shape is stacked."""

    num_skipped: int
    """Updates left out since this object was made because the gradient norm was not finite."""

    grad_norm: float
    """Of all gradients in the last update, each weighted with the size of its parameter."""

    def __init__(self, params: ParametersInput, defaults: dict[str, Any]) -> None:
        self.num_skipped = 0
        self.grad_norm = math.nan
        self._names: dict[Tensor, str] = {}
        self._measured: list[Any] | None = None
        super().__init__(self._as_groups(params), defaults)

    def __getstate__(self) -> dict[str, Any]:
        """Return all that a copy needs."""
        own = ("num_skipped", "grad_norm", "_names")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over state from ``load_state_dict`` or a copy."""
        super().__setstate__(state)
        self._measured = None

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update of all groups from the gradients that are there.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            The loss that ``closure`` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        measured = self._measured or self._measure()
        self._measured = None
        bad = self._bad_norm(measured)
        if bad is None:
            for of_group in measured:
                self._update(of_group)
        else:
            self.num_skipped += 1
            logger.warning(
                "The gradient norm is %s: this update is skipped (%d so far)", bad, self.num_skipped
            )
        return loss

    @torch.no_grad()
    def measure(self) -> None:
        """Measure the gradients for the step to come, whose only wait for a device this is.

        What was sent to the host before has arrived there afterwards. Gradients must not change
        until the step, or until they are set to zero.
        """
        self._measured = self._measure()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, and what was measured of them."""
        self._measured = None
        super().zero_grad(set_to_none)

    @abstractmethod
    def _measure(self) -> list[Any]:
        """Measure the gradients of each group, with one wait for the device in all."""

    @abstractmethod
    def _bad_norm(self, measured: list[Any]) -> float | None:
        """Return a norm for which the update is left out; ``None``: it can be made."""

    @abstractmethod
    def _update(self, measured: Any) -> None:
        """Change the parameters and the state of a group."""

    @abstractmethod
    def _check_options(self, group: Group) -> None:
        """Refuse options outside their range.

        Raises:
            ValueError: names the option.
        """

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters; ``named_params`` may take the place of ``params``."""
        group = dict(param_group)
        if "named_params" in group:
            named = list(group.pop("named_params"))
            self._names.update((param, name) for name, param in named)
            group["params"] = [param for _, param in named]
        super().add_param_group(group)
        self._check_options(self.param_groups[-1])

    def named_shapes(self) -> NamedShapes | None:
        """Return name and shape of the parameters of each group, in the order of ``state_dict``.

        Stored beside ``state_dict``, they let ``load_named`` find its way in it. None where a
        parameter has no name.
        """
        params = [group["params"] for group in self.param_groups]
        if not all(param in self._names for group in params for param in group):
            return None
        return [[(self._names[p], tuple(p.shape)) for p in group] for group in params]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of ``state_dict``, which later steps leave as it is.

        ``torch.optim.Optimizer`` keeps the tensors it is given where type and device agree, so
        that a step would write into the caller's.
        """
        super().load_state_dict(state_dict)
        for entry in self.state.values():
            entry.update((k, v.clone()) for k, v in entry.items() if isinstance(v, Tensor))

    def load_named(self, state_dict: dict[str, Any], shapes: NamedShapes | None) -> list[str]:
        """Load state by name, so that parameters may have been frozen, added or reordered.

        The same parameters in the same order, or ``shapes`` None: as ``load_state_dict``. Otherwise
        saved state of unknown parameters is left out, and the learning rate stays.

        Args:
            state_dict: from ``state_dict``.
            shapes: from ``named_shapes`` of the optimizer that was saved.

        Returns:
            Names of the parameters that begin anew.

        Raises:
            CheckpointError: it is the state of another kind of optimizer, no saved parameter is
                known here, or a shape differs.
        """
        check_kind(state_dict, self.layout)
        own = self.named_shapes()
        if shapes is None or own is None or own == [[(n, tuple(s)) for n, s in g] for g in shapes]:
            self.load_state_dict(state_dict)
            return []
        fitted, fresh = fit_state(self.param_groups, self._names, state_dict, shapes, self.layout)
        self.load_state_dict(fitted)
        return fresh

    def _as_groups(self, params: ParametersInput) -> list[Group]:
        """Bring the accepted inputs into one form: a list of groups."""
        items: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        if not items:
            raise ValueError(f"{type(self).__name__} got no parameters; is every module frozen?")
        if isinstance(items[0], dict):
            return items
        key = "named_params" if isinstance(items[0], tuple) else "params"
        return [{key: items}]
