"""What streaming makes of half precision, and of input that does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.encoder.test_streaming import SMALL, Causal, noisy
from zipasr.encoder.stream_states import stack
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.streaming import chunk_frames

CHUNK, LEFT = 4, 8
WIDTH = chunk_frames(CHUNK)
LENS = torch.tensor([WIDTH, WIDTH])


def causal(left_frames: int = LEFT) -> Causal:
    torch.manual_seed(0)
    with torch.no_grad():
        return noisy(Causal(SMALL, CHUNK, left_frames))


@pytest.fixture
def model() -> Iterator[Causal]:
    with torch.no_grad():
        yield causal()


def two_steps(model: Causal, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    for _ in range(2):
        frames, _, state = model.step(x, LENS, state)
    return frames, state


@pytest.mark.parametrize("with_gradients", [True, False])
def test_autocast_leaves_the_type_of_the_state(model: Causal, with_gradients: bool) -> None:
    x = torch.randn(2, WIDTH, 80)
    exact, _ = two_steps(model, x, model.start(2))
    with torch.set_grad_enabled(with_gradients), torch.autocast("cpu", torch.bfloat16):
        frames, state = two_steps(model, x, model.start(2))
    torch.testing.assert_close(frames.float(), exact, rtol=0, atol=0.1)
    assert {t.dtype for t in state[:-1]} == {torch.float32}


def test_a_state_in_half_precision(model: Causal) -> None:
    x = torch.randn(2, WIDTH, 80)
    exact, _ = two_steps(model, x, model.start(2))
    *floats, processed = model.start(2)
    frames, state = two_steps(model, x, [*(t.bfloat16() for t in floats), processed])
    torch.testing.assert_close(frames, exact, rtol=0, atol=0.1)
    assert {t.dtype for t in state[:-1]} == {torch.bfloat16}


def test_lengths_beyond_the_chunk_count_as_the_chunk(model: Causal) -> None:
    _, lens, state = model.step(torch.randn(2, WIDTH, 80), LENS + 50, model.start(2))
    assert lens.tolist() == [2, 2]
    assert state[-1].tolist() == [CHUNK, CHUNK]


def test_training_mode_is_refused(model: Causal) -> None:
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        model.train().step(torch.randn(2, WIDTH, 80), LENS, model.start(2))


def test_lengths_that_do_not_fit_are_refused(model: Causal) -> None:
    with pytest.raises(ValueError, match="2 streams need as many lengths"):
        model.step(torch.randn(2, WIDTH, 80), LENS[:1], model.start(2))


def test_states_that_do_not_fit_are_refused(model: Causal) -> None:
    state = model.start(2)
    with pytest.raises(ValueError, match="left context of 12 frames, got 18 with 8"):
        causal(left_frames=12).step(torch.randn(2, WIDTH, 80), LENS, state)
    with pytest.raises(ValueError, match="different models or left contexts"):
        stack(model.chunks, [state, causal(left_frames=12).start(1)])
    x, mask = torch.randn(CHUNK, 2, 8), torch.zeros(2, LEFT + CHUNK, dtype=torch.bool)
    layers = state[:-2]
    for states in (layers[:-6], layers * 2, []):
        with pytest.raises(ValueError, match="expected 18 states"):
            model.encoder.streaming_forward(x, LENS, states, mask)


def test_chunks_and_masks_that_do_not_fit_are_refused(model: Causal) -> None:
    states, mask = model.start(2)[:-2], torch.zeros(2, LEFT + CHUNK, dtype=torch.bool)
    with pytest.raises(ValueError, match="a chunk has 4 frames of 20 ms, got 5"):
        model.encoder.streaming_forward(torch.randn(5, 2, 8), LENS, states, mask)
    with pytest.raises(ValueError, match=r"mask must be \(2, 12\), got \(2, 4\)"):
        model.encoder.streaming_forward(torch.randn(CHUNK, 2, 8), LENS, states, mask[:, :4])


def test_odd_chunks_are_refused() -> None:
    config = ZipformerConfig(downsampling_factor=(1,), **one_stack())
    with pytest.raises(ValueError, match="--chunk-size 5 must be even"):
        replace(config, causal=True, chunk_size=(5,), left_context_frames=(20,))


def one_stack() -> dict[str, tuple[int, ...]]:
    return {
        "num_encoder_layers": (1,),
        "feedforward_dim": (16,),
        "num_heads": (2,),
        "encoder_dim": (8,),
        "encoder_unmasked_dim": (8,),
        "cnn_module_kernel": (5,),
    }
