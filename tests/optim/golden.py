"""The stored trajectories, and a way to run one of them again."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zipasr.optim.parameter_batches import OptimizerBackend
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.optim.schedules import Eden

FOLDER = Path(__file__).parents[1] / "golden" / "optim"
INPUTS = {
    k: torch.from_numpy(np.asarray(v))
    for k, v in np.load(FOLDER / "scaled_adam_inputs.npz").items()
}
EXPECTED = {k: torch.from_numpy(v) for k, v in np.load(FOLDER / "scaled_adam_expected.npz").items()}
META = json.loads((FOLDER / "scaled_adam_meta.json").read_text())
NAMES: list[str] = META["names"]
SCENARIOS: list[str] = list(META["scenarios"])
BASE_LR = 0.045


@dataclass
class Run:
    """One scenario: its parameters, its optimizer, and the steps done so far."""

    scenario: str
    params: dict[str, nn.Parameter] = field(default_factory=dict)
    step: int = 0
    backend: OptimizerBackend = "auto"

    def __post_init__(self) -> None:
        self.kwargs: dict[str, Any] = META["scenarios"][self.scenario]["kwargs"]
        if not self.params:
            self.params = {name: nn.Parameter(INPUTS[f"init/{name}"].clone()) for name in NAMES}
        default = [[NAMES, self.kwargs.get("lr", BASE_LR)]]
        groups = [
            {"named_params": [(name, self.params[name]) for name in names], "lr": lr}
            for names, lr in self.kwargs.get("groups", default)
        ]
        self.optimizer = ScaledAdam(
            groups,
            lr=BASE_LR,
            clipping_scale=self.kwargs["clipping_scale"],
            clipping_update_period=self.kwargs.get("period", 100),
            backend=self.backend,
        )
        self.eden = Eden(self.optimizer, 7.5, 3.5, 10, 0.1) if "eden" in self.kwargs else None

    def set_gradients(self) -> None:
        for name, param in self.params.items():
            row = self.step % 50
            missing = META["grad_none"].get(name)
            is_missing = missing == "always" or (missing is not None and row % 2 == 0)
            param.grad = None if is_missing else INPUTS[f"grads/{name}"][row].clone()
        if self.kwargs.get("inf_at") == self.step:
            self.params["enc.lin2.weight"].grad[0, 0] = float("inf")

    def update(self) -> None:
        self.set_gradients()
        if self.eden is not None:
            if self.step in (0, 25):
                self.eden.step_epoch(self.step // 25)
            self.eden.step_batch(self.step + 1)
        self.optimizer.step()
        self.step += 1

    def values(self) -> Tensor:
        """All parameters, flattened and joined."""
        return torch.cat([self.params[name].detach().flatten() for name in NAMES])

    def check(self) -> None:
        """Compare each parameter with the stored one."""
        expected = EXPECTED[f"{self.scenario}/step{self.step}"]
        sizes = [param.numel() for param in self.params.values()]
        for name, want in zip(NAMES, expected.split(sizes), strict=True):
            found = self.params[name].detach().flatten()
            tolerance = 1e-5 * want.abs().max() + 1e-10
            assert (found - want).abs().max() <= tolerance, (name, self.step)
