"""Decoding on a pretended CUDA device; run by test_pretended_cuda.py in a process of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.pretended_cuda import device as pretended
from tests.pretended_cuda.kernels import use_kernels
from tests.pretended_cuda.record import recorded

pretended.install()
use_kernels()

from tests.encoder.sizes import small_config  # noqa: E402
from tests.search.test_method_outputs import VOCAB_SIZE  # noqa: E402
from tests.search.tiny import ENCODER_DIM, assert_same, tiny_batch, tiny_steps  # noqa: E402
from zipasr.base.errors import NumericError  # noqa: E402
from zipasr.model.build import build_model  # noqa: E402
from zipasr.model.config import ModelConfig  # noqa: E402
from zipasr.recognition.acoustic_model import AcousticModel  # noqa: E402
from zipasr.search.components import DecodingResources, ModelParts  # noqa: E402
from zipasr.search.config import DecodingConfig  # noqa: E402
from zipasr.search.protocol import Search  # noqa: E402
from zipasr.search.registry import build_search  # noqa: E402

LENS = [14, 9, 1]
#: Method and settings -> most waits of a batch, most launches of a frame.
METHODS: dict[str, tuple[DecodingConfig, int, float]] = {
    "greedy": (DecodingConfig(decoding_method="greedy_search"), 2, 30.0),
    "greedy, 2 tokens a frame": (
        DecodingConfig(decoding_method="greedy_search", max_sym_per_frame=2), 2, 60.0
    ),
    "beam": (DecodingConfig(decoding_method="modified_beam_search"), 2, 60.0),
    "CTC greedy": (DecodingConfig(decoding_method="ctc_greedy_search"), 2, 2.0),
    "CTC prefix": (DecodingConfig(decoding_method="ctc-prefix-beam-search"), 2, 94.0),
    "fast beam": (DecodingConfig(decoding_method="fast_beam_search"), 2, 160.0),
}  # fmt: skip


def search_on(place: str, config: DecodingConfig) -> Search:
    steps = tiny_steps(11, VOCAB_SIZE, blank_bias=1.0)
    weight = torch.randn(ENCODER_DIM, VOCAB_SIZE, generator=torch.Generator().manual_seed(12))
    weight = weight.to(place)
    parts = ModelParts(steps.decoder.to(place), steps.joiner.to(place), lambda x: x @ weight)
    return build_search(config, parts, DecodingResources())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_finds_on_the_device_what_it_finds_on_a_cpu(name: str) -> None:
    config, most_waits, most_launches = METHODS[name]
    frames, lens = tiny_batch(11, LENS)
    wanted = search_on("cpu", config)(frames, lens)
    search, on_device = search_on("cuda", config), frames.to("cuda")
    with recorded() as record:
        found = search(on_device, lens)
    assert_same(found, wanted)
    assert record.num_waits <= most_waits, record.told(30)
    assert record.total.launches <= most_launches * max(LENS), record.told(60)


@pytest.mark.parametrize("name", ["greedy", "beam"])
def test_chunks_give_what_whole_utterances_give(name: str) -> None:
    search = search_on("cuda", METHODS[name][0])
    frames, lens = tiny_batch(11, LENS)
    whole = search(frames.to("cuda"), lens)
    state = search.start(len(LENS), pretended.DEVICE)
    for first in range(0, max(LENS), 5):
        part = frames[:, first : first + 5]
        state = search.advance(state, part.to("cuda"), (lens - first).clamp(0, part.size(1)))
    assert_same(search.results(state), whole)


def test_scores_that_are_not_finite_are_told() -> None:
    frames, lens = tiny_batch(11, LENS)
    frames[2, 3:] = torch.nan  # beyond its length
    search = search_on("cuda", METHODS["greedy"][0])
    search(frames.to("cuda"), lens)
    frames[1, 2, 0] = torch.nan
    with pytest.raises(NumericError):
        search(frames.to("cuda"), lens)


def test_the_encoder_does_not_wait() -> None:
    torch.manual_seed(0)
    encoder = small_config()
    model = build_model(encoder, ModelConfig(decoder_dim=16, joiner_dim=16), 20).eval()
    features, lens = torch.randn(2, 120, 80), torch.tensor([120, 80])

    @torch.inference_mode()
    def frames_on(place: str) -> tuple[Tensor, Tensor]:
        acoustics = AcousticModel(model.to(place), encoder, 2)
        return acoustics.encode(features, lens)

    wanted, wanted_lens = frames_on("cpu")
    frames_on("cuda")  # makes tables
    with recorded() as record:
        found, found_lens = frames_on("cuda")
    assert record.num_waits == 0, record.told()
    assert found_lens.tolist() == wanted_lens.tolist()
    torch.testing.assert_close(found[0].cpu(), wanted[0], rtol=1e-4, atol=1e-4)
