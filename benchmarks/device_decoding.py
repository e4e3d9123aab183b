"""What decoding launches and waits for on a CUDA device, counted without one.

    python -m benchmarks.device_decoding [--rows 16] [--frames 100]

A joiner, a decoder and a CTC head of the published medium width with random weights read random
encoder frames; one frame in seven emits, as in English speech. What is counted, and what is not,
stands in ``tests/pretended_cuda``. On a real device ``benchmarks.gpu`` times these searches.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from benchmarks.decoding import VOCAB_SIZE, WIDTH, random_transducer
from zipasr.lm.config import TransformerLmConfig
from zipasr.lm.ngram_estimation import Sentences, kneser_ney
from zipasr.lm.transformer import TransformerLm
from zipasr.model.decoder import CachedDecoder, Decoder
from zipasr.model.joiner import Joiner, PreparedJoiner
from zipasr.search.components import DecodingResources, ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.hot_words import ContextGraph
from zipasr.search.language_models import NeuralTokens, NgramTokens
from zipasr.search.protocol import Search, Utterance
from zipasr.search.registry import build_search

PIECES = [f"p{n}" for n in range(VOCAB_SIZE)]


class Case(NamedTuple):
    """A search to count: its name, its settings, and what helps it."""

    name: str
    config: DecodingConfig
    resources: DecodingResources = DecodingResources()


def cases(methods: str) -> Iterator[Case]:
    """Yield the searches whose methods begin with ``methods``."""
    generator = torch.Generator().manual_seed(1)
    phrases = torch.randint(1, VOCAB_SIZE, (100, 3), generator=generator).tolist()
    text = torch.randint(1, VOCAB_SIZE, (2000, 8), generator=generator).tolist()
    hot = DecodingResources(hot_words=ContextGraph(phrases, 1.5))
    model = NgramTokens(kneser_ney(Sentences.of(text), PIECES, 3).with_unknown(), PIECES)
    ngram = DecodingResources(lm=model, lm_scale=0.3)
    both = replace(ngram, hot_words=hot.hot_words)
    for case in (
        Case("greedy_search", DecodingConfig()),
        Case("greedy_search, 2 tokens a frame", DecodingConfig(max_sym_per_frame=2)),
        *_fused("modified_beam_search", "modified_beam_search_lm_shallow_fusion", hot, ngram, both),
        Case("fast_beam_search", DecodingConfig(decoding_method="fast_beam_search")),
        Case("ctc-greedy-search", DecodingConfig(decoding_method="ctc-greedy-search")),
        *_fused(
            "ctc-prefix-beam-search", "ctc-prefix-beam-search-shallow-fussion", hot, ngram, both
        ),
    ):
        if case.name.startswith(methods):
            yield case


def _fused(
    plain: str,
    fused: str,
    hot: DecodingResources,
    ngram: DecodingResources,
    both: DecodingResources,
) -> Iterator[Case]:
    config = DecodingConfig(decoding_method=plain, beam_size=4)
    with_lm = replace(config, decoding_method=fused)
    yield Case(plain, config)
    yield Case(f"{plain}, hot-words", config, hot)
    yield Case(f"{plain}, trigram", with_lm, ngram)
    yield Case(f"{plain}, hot-words and trigram", with_lm, both)


def with_transformer(methods: str, device: str) -> Iterator[Case]:
    """Yield searches with a transformer on a device, whose methods begin with ``methods``."""
    sizes = TransformerLmConfig(
        transformer_lm_embedding_dim=64,
        transformer_lm_encoder_dim=64,
        transformer_lm_nhead=4,
        transformer_lm_num_layers=3,
    )
    model = TransformerLm(VOCAB_SIZE, sizes, 1).eval().to(device)
    for method in (
        "modified_beam_search_lm_shallow_fusion",
        "ctc-prefix-beam-search-shallow-fussion",
        "modified_beam_search_lm_rescore",
    ):
        resources = DecodingResources(lm=NeuralTokens(model), lm_scale=0.3)
        config = DecodingConfig(decoding_method=method, beam_size=4)
        if method.startswith(methods):
            yield Case(f"{method}, transformer of 3 layers", config, resources)


class Bench:
    """A model with random weights, and the encoder frames of a batch, on a device."""

    def __init__(self, rows: int, num_frames: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        frames = torch.randn(rows, num_frames, WIDTH, generator=generator)
        steps = random_transducer(frames)
        assert isinstance(steps.decoder, Decoder)
        assert isinstance(steps.joiner, Joiner)
        weight = torch.randn(WIDTH, VOCAB_SIZE, generator=generator) / 4
        weight[:, 0] = weight[:, 0] * 2
        weight = weight.to(device)
        self.parts = ModelParts(
            CachedDecoder(steps.decoder.to(device)),
            PreparedJoiner(steps.joiner.to(device)),
            lambda x: x @ weight,
        )
        self.frames = frames.to(device)
        self.lens = torch.linspace(num_frames, num_frames // 2, rows).long()

    def search(self, case: Case) -> Search:
        """Build a search for this model."""
        return build_search(case.config, self.parts, case.resources)

    def run(self, search: Search, most: int | None = None) -> list[Utterance]:
        """Search the batch, or its first ``most`` frames."""
        with torch.inference_mode():
            return search(self.frames[:, :most], self.lens.clamp(max=most or self.frames.size(1)))


def count(rows: int, num_frames: int, methods: str) -> None:
    """Print launches, waits and copies of each search."""
    from tests.pretended_cuda.device import install
    from tests.pretended_cuda.kernels import use_kernels
    from tests.pretended_cuda.record import recorded

    install()
    use_kernels()
    bench = Bench(rows, num_frames, "cuda")
    print("| search | launches of a batch | of a frame | replayed | waits of a batch | copies |")
    print("|---|--:|--:|--:|--:|--:|")
    for case in (*cases(methods), *with_transformer(methods, "cuda")):
        replayed: Any = bench.search(case)
        has_graphs = hasattr(replayed, "cuda_graphs")
        search = replace(replayed, cuda_graphs=False) if has_graphs else replayed
        bench.run(search, 2)  # makes tables
        with recorded() as record:
            bench.run(search)
        launches, of_graphs = record.total.launches, ""
        if has_graphs:
            for _ in range(3):
                with recorded() as again:
                    bench.run(replayed)
            of_graphs = str(again.total.launches)
        print(
            f"| {case.name} | {launches} | {launches / num_frames:.1f} | {of_graphs} | "
            f"{record.num_waits} | {record.num_copies} |",
            flush=True,
        )


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16, help="utterances")
    parser.add_argument("--frames", type=int, default=100, help="of the longest one, encoded")
    parser.add_argument("--methods", default="", help="beginning of their names")
    given = parser.parse_args()
    count(given.rows, given.frames, given.methods)


if __name__ == "__main__":
    main()
