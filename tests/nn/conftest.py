"""Stored numbers of the reference, as tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nn" / "golden_train.npz"


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as stored:
        return {name: torch.from_numpy(np.asarray(stored[name])) for name in stored}
