"""BiasNorm against its formula."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.other_process import needs_triton, run_python
from zipasr.nn import triton_bias_norm
from zipasr.nn.bias_norm import BiasNorm


@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_values_of_the_reference(golden: dict[str, Tensor], channel_dim: int) -> None:
    stored = {
        key.rpartition(".")[2]: value
        for key, value in golden.items()
        if key.startswith(f"biasnorm.cd{channel_dim}.")
    }
    norm = BiasNorm(10, channel_dim=channel_dim)
    norm.load_state_dict({"bias": stored["bias"], "log_scale": stored["log_scale"]})
    x = stored["x"].clone().requires_grad_()
    y = norm(x)
    y.backward(stored["gout"])
    found = {"y": y.detach(), "gx": x.grad, "gbias": norm.bias.grad}
    found["glog_scale"] = norm.log_scale.grad
    for key, value in found.items():
        torch.testing.assert_close(value, stored[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_derivative_by_finite_differences(channel_dim: int) -> None:
    norm = BiasNorm(5, channel_dim=channel_dim).double().eval()
    x = torch.randn(3, 5, 5, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        return torch.func.functional_call(norm, {"bias": bias, "log_scale": log_scale}, (x,))

    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x, bias, log_scale))


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_output_is_the_input_divided_by_one_number_per_vector(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(4, 3, 8, generator=generator)
    norm = BiasNorm(8)
    with torch.no_grad():
        norm.bias.copy_(torch.randn(8, generator=generator))
        rms = (x - norm.bias).double().square().mean(-1, keepdim=True).sqrt()
        expected = x * norm.log_scale.double().exp() / rms
        torch.testing.assert_close(norm(x).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_zero_frame_stays_zero() -> None:
    norm = BiasNorm(4)
    x = torch.zeros(2, 4, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert not y.any()
    assert all(torch.isfinite(t.grad).all() for t in (x, norm.bias, norm.log_scale))


def test_autocast_input_is_led_back_to_float32() -> None:
    norm = BiasNorm(4)
    x = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    y.sum().backward()
    assert y.dtype == torch.float32
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_scale_above_its_limit_is_pushed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    norm = BiasNorm(4, log_scale=2.0)
    norm(torch.ones(3, 4)).sum().neg().backward()
    assert norm.log_scale.grad is not None
    assert norm.log_scale.grad.item() > 0
    norm.log_scale.grad = None
    norm.eval()(torch.ones(3, 4)).sum().neg().backward()
    assert norm.log_scale.grad.item() < 0


@needs_triton
def test_kernels_when_interpreted() -> None:
    command = "-m pytest -q -p no:cacheprovider tests/nn/interpreted_triton.py"
    run_python(*command.split(), TRITON_INTERPRET="1")


COMPILE = """
from tests.compiled_triton import compile_everywhere
from zipasr.kernels.triton import bias_norm as kernels

floats = dict.fromkeys(("bias", "log_scale", "y", "lengths", "factors"), "*fp32")
for kind, (channels, rows, lanes, warps) in {
    "*bf16": (192, 8, 256, 4), "*fp32": (512, 4, 512, 4), "*fp16": (3000, 1, 4096, 8),
}.items():
    sizes = dict(channels=channels, rows=rows, lanes=lanes)
    forward = {"x": kind, **floats, "num_rows": "i32"}
    backward = dict(grad="*fp32", x=kind, bias="*fp32", lengths="*fp32", factors="*fp32")
    backward |= dict(x_grad=kind, sums="*fp32", num_rows="i32", rounds="i32")
    compile_everywhere(kernels.bias_norm_kernel, forward, {"num_warps": warps}, **sizes)
    compile_everywhere(kernels.bias_norm_grad_kernel, backward, {"num_warps": warps}, **sizes)
"""


@needs_triton
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    run_python("-c", COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_a_device_without_kernels_is_told_in_one_sentence() -> None:
    """Not interpreted, the kernels cannot run on the CPU; without triton they cannot run at all."""
    reason = triton_bias_norm.KERNELS.fault(torch.device("cpu"))
    assert reason is not None
    assert reason.endswith(".")
    assert not triton_bias_norm.KERNELS.work_on(torch.device("cpu"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernels_on_a_gpu() -> None:
    assert triton_bias_norm.KERNELS.fault(torch.device("cuda", 0)) is None
