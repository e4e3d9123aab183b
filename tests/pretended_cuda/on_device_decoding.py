"""Decoding on a pretended CUDA device; run by test_pretended_cuda.py in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lhotse.utils import LOG_EPSILON
from torch import Tensor

from tests.pretended_cuda import device as pretended
from tests.pretended_cuda.graphs import Graph
from tests.pretended_cuda.kernels import use_kernels
from tests.pretended_cuda.record import recorded

pretended.install()
use_kernels()

from tests.encoder.sizes import small_config  # noqa: E402
from tests.lm.test_transformer import tiny as tiny_transformer  # noqa: E402
from tests.search.test_method_outputs import (  # noqa: E402
    PIECES,
    TOKEN_NGRAM,
    VOCAB_SIZE,
    language_model,
)
from tests.search.tiny import ENCODER_DIM, assert_same, tiny_batch, tiny_steps  # noqa: E402
from zipasr.base.errors import NumericError  # noqa: E402
from zipasr.base.seed import seeded  # noqa: E402
from zipasr.data.augment import MaskFeatures  # noqa: E402
from zipasr.data.batch_inputs import HeldSounds  # noqa: E402
from zipasr.data.config import AugmentConfig  # noqa: E402
from zipasr.data.dataset import Batch  # noqa: E402
from zipasr.data.feature_store import fbank_extractor  # noqa: E402
from zipasr.model.build import build_model  # noqa: E402
from zipasr.model.config import ModelConfig  # noqa: E402
from zipasr.model.decoder import CachedDecoder  # noqa: E402
from zipasr.model.joiner import PreparedJoiner  # noqa: E402
from zipasr.recognition import alignment  # noqa: E402
from zipasr.recognition.acoustic_model import AcousticModel  # noqa: E402
from zipasr.search import triton_steps  # noqa: E402
from zipasr.search.components import DecodingResources, ModelParts  # noqa: E402
from zipasr.search.config import DecodingConfig  # noqa: E402
from zipasr.search.hot_words import ContextGraph  # noqa: E402
from zipasr.search.language_models import NeuralTokens, NgramTokens  # noqa: E402
from zipasr.search.protocol import Search  # noqa: E402
from zipasr.search.registry import build_search  # noqa: E402

LENS = [44, 29, 1]
NGRAM = NgramTokens(TOKEN_NGRAM.with_unknown(), PIECES)


def nothing(_: str) -> DecodingResources:
    return DecodingResources()


def hot_words(_: str) -> DecodingResources:
    return DecodingResources(hot_words=ContextGraph([[1, 2], [3], [2, 2, 4], [4, 1]], 0.7))


def bigram(_: str) -> DecodingResources:
    return DecodingResources(lm=NGRAM, lm_scale=0.3, low_order=NGRAM, low_order_scale=0.3)


def recurrent(place: str) -> DecodingResources:
    model = language_model().model.to(place)
    return DecodingResources(lm=NeuralTokens(model), hot_words=hot_words(place).hot_words)


class Case(NamedTuple):
    """A search, and its most launches of a frame outside a CUDA graph.

    What a batch begins and ends with is included. No search waits more than twice for a batch.
    """

    method: str
    launches: float
    resources: Callable[[str], DecodingResources] = nothing
    max_sym_per_frame: int = 1
    blank_bias: float = 1.0

    def search_on(self, place: str, graphs: bool = False) -> Search:
        steps = tiny_steps(11, VOCAB_SIZE, blank_bias=self.blank_bias)
        weight = torch.randn(ENCODER_DIM, VOCAB_SIZE, generator=torch.Generator().manual_seed(12))
        weight = weight.to(place)
        parts = ModelParts(
            CachedDecoder(steps.decoder.to(place)),
            PreparedJoiner(steps.joiner.to(place)),
            lambda x: x @ weight,
        )
        config = DecodingConfig(
            decoding_method=self.method, max_sym_per_frame=self.max_sym_per_frame
        )
        search: Any = build_search(config, parts, self.resources(place))
        has_graphs = hasattr(search, "cuda_graphs")
        return replace(search, cuda_graphs=graphs) if has_graphs else search


FUSED = "modified_beam_search_lm_shallow_fusion"
CASES = {
    # Most frames of this model emit tokens: greedy search takes all the steps that it may need.
    "greedy": Case("greedy_search", 6),
    "greedy, 2 tokens a frame": Case("greedy_search", 15, max_sym_per_frame=2),
    "greedy, few tokens": Case("greedy_search", 5, blank_bias=8.0),
    "beam": Case("modified_beam_search", 8),
    "beam, hot-words": Case("modified_beam_search", 32, hot_words),
    "beam, bigram": Case(FUSED, 78, bigram),
    "beam, ranked": Case("modified_beam_search_ngram_rescoring", 78, bigram),
    "beam, recurrent and hot-words": Case(FUSED, 80, recurrent),
    "CTC greedy": Case("ctc-greedy-search", 1),
    "CTC prefix": Case("ctc-prefix-beam-search", 92),
    "CTC prefix, hot-words": Case("ctc-prefix-beam-search", 134, hot_words),
    "CTC prefix, bigram": Case("ctc-prefix-beam-search-shallow-fussion", 370, bigram),
    "fast beam": Case("fast_beam_search", 134),
}
IN_GRAPHS = [name for name in CASES if name.startswith(("greedy", "beam"))]


@pytest.mark.parametrize("name", CASES)
def test_a_method_finds_on_the_device_what_it_finds_on_a_cpu(name: str) -> None:
    case = CASES[name]
    frames, lens = tiny_batch(11, LENS)
    wanted = case.search_on("cpu")(frames, lens)
    search, on_device = case.search_on("cuda"), frames.to("cuda")
    search(on_device, lens)  # makes tables, and compares kernels with their definitions
    with recorded() as record:
        found = search(on_device, lens)
    assert_same(found, wanted)
    assert record.num_waits <= 2, record.told(30)
    assert record.total.launches <= case.launches * max(LENS), record.told(60)


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_what_is_replayed_is_what_is_done(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Batches of the same shape, and one that is padded to it."""
    case = CASES[name]
    search: Any = case.search_on("cuda", graphs=True)
    other = case.search_on("cpu")
    batches = [(11, LENS), (12, LENS), (13, [37, 44, 2]), (14, [20, 44, 0, 35])]
    for seed, some_lens in batches:
        frames, lens = tiny_batch(seed, some_lens)
        on_device = frames.to("cuda")
        with recorded() as record:
            found = search(on_device, lens)
        assert_same(found, other(frames, lens))
        assert record.num_waits <= 2, record.told(30)
    assert record.total.launches <= 100, record.told(60)
    (block,) = search._blocks._things.values()
    graph = block._replay.graph
    assert isinstance(graph, Graph)
    assert graph.num_kernels > 100
    assert not caplog.records


def test_what_cannot_be_recorded_goes_on_as_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["beam"]
    search: Any = case.search_on("cuda", graphs=True)
    search.steps.decoder.__class__ = type("Asking", (CachedDecoder,), {"__call__": _asking})
    frames, lens = tiny_batch(11, LENS)
    with caplog.at_level(logging.WARNING):
        found = [search(frames.to("cuda"), lens) for _ in range(3)]
    assert_same(found[2], case.search_on("cpu")(frames, lens))
    (line,) = caplog.messages
    assert "not recorded as a CUDA graph" in line


def _asking(self: CachedDecoder, y: Tensor, need_pad: bool = False) -> Tensor:
    assert int(y.max()) < VOCAB_SIZE
    return CachedDecoder.__call__(self, y, need_pad)


@pytest.mark.parametrize("name", ["greedy", "greedy, 2 tokens a frame", "beam", "beam, bigram"])
def test_without_the_kernels_the_same_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_steps.KERNELS, "work_on", lambda device: False)
    case = CASES[name]
    frames, lens = tiny_batch(11, LENS)
    search, on_device = case.search_on("cuda"), frames.to("cuda")
    search(on_device, lens)  # brings tables to the device
    with recorded() as record:
        found = search(on_device, lens)
    assert_same(found, case.search_on("cpu")(frames, lens))
    assert record.num_waits <= 2, record.told(30)


def with_transformer(place: str) -> DecodingResources:
    model = NeuralTokens(tiny_transformer().to(place))
    return DecodingResources(lm=model, lm_scale=0.3, hot_words=hot_words(place).hot_words)


@pytest.mark.parametrize(
    ("method", "more_waits"),
    [
        (FUSED, max(LENS)),
        ("ctc-prefix-beam-search-shallow-fussion", max(LENS)),
        ("modified_beam_search_lm_rescore", 1),
    ],
)
def test_a_transformer_is_asked_by_the_host(method: str, more_waits: int) -> None:
    """Once a frame, as only what is new is computed; once for all hypotheses that are rescored."""
    case = Case(method, 290, with_transformer)
    frames, lens = tiny_batch(11, LENS)
    wanted = case.search_on("cpu")(frames, lens)
    search, on_device = case.search_on("cuda"), frames.to("cuda")
    search(on_device[:, :2], lens.clamp(max=2))  # makes tables
    with recorded() as record:
        found = search(on_device, lens)
    assert_same(found, wanted)
    assert record.num_waits <= 3 + more_waits, record.told(30)
    assert record.total.launches <= case.launches * max(LENS), record.told(60)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("name", ["greedy", "greedy, 2 tokens a frame", "beam", "beam, hot-words"])
def test_chunks_give_what_whole_utterances_give(name: str, graphs: bool) -> None:
    search = CASES[name].search_on("cuda", graphs)
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
    search = CASES["greedy"].search_on("cuda")
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


def test_features_of_windows_are_computed_on_the_device() -> None:
    """Two windows and one too short for a frame."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 9000).astype(np.float32)
    parts, geometry = [sound, sound[:4000], sound[:100]], small_config().geometry
    with recorded() as record:
        features, lens = alignment._features(parts, geometry, pretended.DEVICE)
    assert record.num_waits == 0, record.told()
    assert record.total.launches <= 25, record.told()
    wanted, wanted_lens = alignment._features(parts, geometry, torch.device("cpu"))
    assert lens.tolist() == wanted_lens.tolist()
    torch.testing.assert_close(features.cpu(), wanted, rtol=0, atol=1e-4)


def test_features_of_a_batch_are_computed_on_the_device() -> None:
    """As ``--on-the-fly-feats 1`` loads it; with SpecAugment, as a training does."""
    generator = np.random.default_rng(0)
    sounds = [generator.uniform(-0.5, 0.5, num).astype(np.float32) for num in (90000, 40000, 500)]
    held = HeldSounds(fbank_extractor())
    shapes = [held.extract(sound, 16000).shape for sound in sounds]
    lens = torch.tensor([num_frames for num_frames, _ in shapes])
    with seeded(1):
        mask = MaskFeatures(AugmentConfig())
        drawn = mask.draw((3, *shapes[0]), [(0, 0, 500), (1, 0, 250)])
    shape = torch.empty(3, *shapes[0], device="meta")
    batch = Batch(shape, lens, ["", "", ""], ["a", "b", "c"], 1.0, sounds=held.mirrored())
    for loaded, launches, copies in ((batch, 17, 4), (replace(batch, drawn=drawn), 71, 7)):
        ready = loaded.pin_memory()
        with recorded() as record:
            found = ready.to(pretended.DEVICE)
        assert record.num_waits == 0, record.told()
        assert record.total.launches <= launches, record.told()
        assert record.num_copies == copies
        assert found.sounds is found.drawn is None
        wanted = loaded.to("cpu").features
        torch.testing.assert_close(found.features.cpu(), wanted, rtol=0, atol=1e-3)
    theirs = torch.from_numpy(fbank_extractor().extract(sounds[1], 16000))
    found = batch.to(pretended.DEVICE).features[1].cpu()
    torch.testing.assert_close(found[: len(theirs)], theirs, rtol=0, atol=1e-3)
    assert (found[len(theirs) :] == LOG_EPSILON).all()
