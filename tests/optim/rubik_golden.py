"""The stored trajectories of BatchedRubik, and a way to run one of them again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zipasr.optim.rubik import BatchedRubik

FOLDER = Path(__file__).parents[1] / "golden" / "rubik"
INPUTS = {k: torch.from_numpy(np.array(v)) for k, v in np.load(FOLDER / "rubik_inputs.npz").items()}
EXPECTED = {
    k: torch.from_numpy(np.array(v)) for k, v in np.load(FOLDER / "rubik_expected.npz").items()
}
META = json.loads((FOLDER / "rubik_meta.json").read_text())
NAMES: list[str] = [name for name, *_ in META["specs"]]
SCENARIOS: dict[str, dict[str, Any]] = META["scenarios"]


def initial(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(INPUTS[f"init/{name}"].to(dtype, copy=True)) for name in NAMES}


def gradient(name: str, step: int) -> Tensor | None:
    row = step % META["steps"]
    return None if META["missing_gradient"][name][row] else INPUTS[f"grads/{name}"][row].clone()


class Run:
    """One scenario: its parameters, its optimizer, and the steps done so far."""

    def __init__(self, scenario: str, params: dict[str, nn.Parameter] | None = None) -> None:
        self.scenario, about = scenario, SCENARIOS[scenario]
        self.params = params or initial()
        self.step = 0
        self.rates = about.get("lr_per_step_and_group")
        groups = about.get("groups", [NAMES])
        rates = self.rates[0] if self.rates else [about["lr"]]
        self.options = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in about["options"].items()
        }
        self.optimizer = BatchedRubik(
            [
                {"named_params": [(name, self.params[name]) for name in names], "lr": lr}
                for names, lr in zip(groups, rates, strict=True)
            ],
            work_dtype=getattr(torch, about["compute_dtype"]),
            **self.options,
        )

    def update(self) -> None:
        is_over = self.scenario.endswith("_stop") and self.step >= 10
        for name, param in self.params.items():
            param.grad = None if is_over else gradient(name, self.step)
        if self.rates:
            for group, lr in zip(self.optimizer.param_groups, self.rates[self.step], strict=True):
                group["lr"] = lr
        self.optimizer.step()
        self.step += 1

    def errors(self) -> dict[str, float]:
        """Largest error of each parameter, relative to its largest value."""
        return {
            name: relative_error(param, EXPECTED[f"{self.scenario}/step{self.step}/{name}"])
            for name, param in self.params.items()
        }


def relative_error(found: Tensor, want: Tensor) -> float:
    scale = want.abs().max().clamp_min(1e-20)
    return float((found.detach().double() - want.double()).abs().max() / scale)
