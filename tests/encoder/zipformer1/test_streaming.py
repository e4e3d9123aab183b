"""Chunks of a causal model against the whole utterance, and the layout of its states."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.encoder.zipformer1.published import TINY, TINY_CAUSAL, features, fill
from zipasr.encoder.stream_states import rows_of, stack
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.encoder.zipformer1.streaming import (
    Zipformer1Chunks,
    chunk_frames,
    encode_chunk,
    initial_states,
)


@pytest.fixture(scope="module")
def tiny() -> Zipformer:
    model = Zipformer(TINY_CAUSAL).eval()
    fill(model, "encoder.")
    return model


def stream(model: Zipformer, x: Tensor, num_chunks: int, *, masked: bool) -> Tensor:
    states = initial_states(model.config, x.size(0))
    size, parts = chunk_frames(model.config), []
    lens = torch.full((x.size(0),), size)
    for index in range(num_chunks):
        start = index * model.config.decode_chunk_len
        part, part_lens, states = encode_chunk(
            model, x[:, start : start + size], lens, states, mask_unfilled_cache=masked
        )
        assert part_lens.tolist() == [part.size(1)] * x.size(0)
        parts.append(part)
    return torch.cat(parts, dim=1)


@torch.no_grad()
def test_chunks_give_what_the_whole_utterance_gives(tiny: Zipformer) -> None:
    whole, _ = tiny(features()[:1], torch.tensor([150]))
    chunks = stream(tiny, features()[:1], 4, masked=True)
    torch.testing.assert_close(chunks, whole[:, :32], rtol=0, atol=1e-5)
    # As published, attention also goes to the empty part of the memory.
    published = stream(tiny, features()[:1], 4, masked=False)
    assert (published - whole[:, :32]).abs().max() > 1e-2


@torch.no_grad()
def test_streams_side_by_side_do_not_see_each_other(tiny: Zipformer) -> None:
    both = stream(tiny, features(), 3, masked=False)
    for n in range(2):
        alone = stream(tiny, features()[n : n + 1], 3, masked=False)
        torch.testing.assert_close(both[n : n + 1], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_later_chunks_are_out_of_sight(tiny: Zipformer) -> None:
    x = features()[:1]
    changed = x.clone()
    changed[:, 64 + 7 :] = 0.0
    before, _ = tiny(x, torch.tensor([150]))
    after, _ = tiny(changed, torch.tensor([150]))
    torch.testing.assert_close(after[:, :16], before[:, :16], rtol=0, atol=1e-6)
    assert (after[:, 16:] - before[:, 16:]).abs().max() > 1e-2


def test_states_of_the_published_model() -> None:
    shapes = [list(t.shape) for t in initial_states(Zipformer1Config(causal=True), 1, "meta")]
    assert len(shapes) == 35
    assert shapes[::5] == [
        [2, 1],
        [2, 1, 384],
        [2, 64, 1, 192],
        [2, 64, 1, 96],
        [2, 64, 1, 96],
        [2, 1, 384, 30],
        [2, 1, 384, 30],
    ]
    assert shapes[13] == [2, 8, 1, 192]


@torch.no_grad()
def test_stacked_states_come_apart_again(tiny: Zipformer) -> None:
    states = []
    for n in range(2):
        x = features()[n : n + 1, : chunk_frames(tiny.config)]
        lens = torch.tensor([x.size(1)])
        states.append(encode_chunk(tiny, x, lens, initial_states(tiny.config))[2])
    chunks = Zipformer1Chunks(tiny)
    both = stack(chunks, states)
    for n, state in enumerate(states):
        again = rows_of(chunks, both, [n])
        for tensor, same in zip(state, again, strict=True):
            assert torch.equal(tensor, same)


@torch.no_grad()
def test_what_does_not_fit_is_refused(tiny: Zipformer) -> None:
    size = chunk_frames(tiny.config)
    lens, states = torch.tensor([size]), initial_states(tiny.config)
    with pytest.raises(ValueError, match=f"{size} feature frames, got 30"):
        encode_chunk(tiny, features()[:1, :30], lens, states)
    with pytest.raises(ValueError, match="begin with those of initial_states"):
        encode_chunk(tiny, features()[:, :size], lens, states)
    with pytest.raises(ValueError, match="not causal"):
        initial_states(TINY)
    training = Zipformer(TINY_CAUSAL)
    with pytest.raises(ValueError, match="call eval"):
        encode_chunk(training, features()[:1, :size], lens, states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decode_chunk_len": 24}, "--decode-chunk-len must be a multiple of 16, got 24"),
        ({"num_left_chunks": 0}, "--num-left-chunks must be at least 1"),
        ({"short_chunk_size": 4}, "--short-chunk-size must be at least 8"),
    ],
)
def test_chunks_that_cannot_work(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_CAUSAL, **changes)
