"""Batched decoding against one utterance, and one hypothesis, at a time.

Run from the repository root:

    OMP_NUM_THREADS=1 python -m benchmarks.decoding
    python -m benchmarks.decoding --batch 32 --seconds 15 --device cuda

A joiner and a decoder of the published medium width with random weights read random frames;
a bias on blank makes about one frame in seven emit, as in English speech. The plain loops are
written as the published recipe does: one utterance and one frame at a time, the decoder as a
convolution of torch and after a token only. Each pair of methods must recognise the same tokens.
Every time is the best of several runs, the two of a pair in turn.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipasr.model.decoder import CachedDecoder, Decoder
from zipasr.model.joiner import Joiner
from zipasr.search.greedy import GreedySearch
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.transducer_step import TransducerSteps

WIDTH, VOCAB_SIZE, FRAMES_PER_SECOND = 512, 500, 25
EMITTING_SHARE = 1 / 7


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--batch", type=int, default=16, help="utterances")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the longest one")
    parser.add_argument("--beam-size", type=int, default=4, help="hypotheses per utterance")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of the fast searches, at most 3 of the slow"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)

    num_frames = round(args.seconds * FRAMES_PER_SECOND)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(args.batch, num_frames, WIDTH, generator=generator).to(args.device)
    lens = torch.linspace(num_frames, num_frames // 2, args.batch).long().to(args.device)
    steps = random_transducer(frames)
    seconds = int(lens.sum()) / FRAMES_PER_SECOND
    print(f"{args.batch} utterances, {seconds:.0f} s of speech, {args.device}, ", end="")
    print(f"{torch.get_num_threads()} thread(s), beam {args.beam_size}")

    plain = replace(steps, decoder=ByConvolution(steps.decoder))
    tabled = replace(steps, decoder=CachedDecoder(steps.decoder))

    def greedy_loop() -> list[list[int]]:
        return [looped_greedy_search(frames[n, : int(lens[n])], plain) for n in range(args.batch)]

    def batched() -> list[list[int]]:
        return [u.tokens for u in GreedySearch(tabled)(frames, lens)]

    def beam_loop() -> list[list[int]]:
        return [
            looped_beam_search(frames[n, : int(lens[n])], plain, args.beam_size)
            for n in range(args.batch)
        ]

    def batched_beam() -> list[list[int]]:
        beam_size = args.beam_size
        return [u.tokens for u in ModifiedBeamSearch(tabled, beam_size=beam_size)(frames, lens)]

    share = sum(map(len, batched())) / int(lens.sum())
    print(f"{100 * share:.0f} % of the frames emit a token")
    compare("greedy, plain loop", greedy_loop, "greedy, batched", batched, args.repeats, seconds)
    compare("beam, plain loop", beam_loop, "beam, batched", batched_beam, args.repeats, seconds)


def random_transducer(frames: Tensor) -> TransducerSteps:
    """Sharp random scores, with blank so likely that ``EMITTING_SHARE`` of the frames emit."""
    torch.manual_seed(0)
    decoder = Decoder(VOCAB_SIZE, WIDTH, 0, 2).to(frames.device).eval()
    joiner = Joiner(WIDTH, WIDTH, WIDTH, VOCAB_SIZE).to(frames.device).eval()
    steps = TransducerSteps(decoder, joiner)
    with torch.no_grad():
        joiner.encoder_proj.weight *= 4
        joiner.output_linear.weight *= 6
        start = steps.predict(steps.start_contexts(1, frames.device))
        logits = joiner(steps.project(frames[:4]).flatten(0, 1), start, project_input=False)
        lead = logits[:, 1:].amax(dim=-1) - logits[:, 0]
        joiner.output_linear.bias[0] += lead.quantile(1 - EMITTING_SHARE)
    return steps


@dataclass(frozen=True)
class ByConvolution:
    """The decoder as the published one works: embedding and a convolution of torch."""

    decoder: Decoder
    blank_id: int = 0
    context_size: int = 2

    def __call__(self, y: Tensor, need_pad: bool) -> Tensor:
        """Embed histories (N, 2) as (N, 1, C)."""
        assert not need_pad
        embedded = self.decoder.embedding(y.clamp(min=0)) * (y >= 0).unsqueeze(-1)
        return torch.relu(self.decoder.conv(embedded.permute(0, 2, 1))).permute(0, 2, 1)


@torch.no_grad()
def looped_greedy_search(frames: Tensor, steps: TransducerSteps) -> list[int]:
    """The definition of greedy search: one frame after another, the decoder after a token."""
    history = steps.start_contexts(1, frames.device)[0].tolist()
    num_start = len(history)
    prediction = steps.predict(torch.tensor([history], device=frames.device))
    for frame in steps.project(frames).split(1):
        logits = steps.joiner(frame, prediction, project_input=False)
        symbol = int(logits.argmax())
        if symbol != steps.blank_id:
            history.append(symbol)
            context = torch.tensor([history[-num_start:]], device=frames.device)
            prediction = steps.predict(context)
    return history[num_start:]


@torch.no_grad()
def looped_beam_search(frames: Tensor, steps: TransducerSteps, beam_size: int) -> list[int]:
    """The definition of modified beam search: one joiner call per hypothesis, a dictionary."""
    projected = steps.project(frames)
    start = steps.start_contexts(1, frames.device)
    beam = {tuple(start[0].tolist()): 0.0}
    num_start = start.size(1)
    for frame in projected:
        candidates: list[tuple[float, tuple[int, ...], int]] = []
        for tokens, total in beam.items():
            context = torch.tensor([tokens[-num_start:]], device=frames.device)
            scores = steps.next_scores(frame[None], steps.predict(context))[0] + total
            best = scores.topk(beam_size)
            candidates += [
                (score, tokens, symbol)
                for score, symbol in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        beam = {}
        for score, tokens, symbol in sorted(candidates, reverse=True)[:beam_size]:
            grown = tokens if symbol == steps.blank_id else (*tokens, symbol)
            beam[grown] = log_add(beam[grown], score) if grown in beam else score
    winner = max(beam, key=lambda tokens: beam[tokens] / len(tokens))
    return list(winner[num_start:])


def log_add(a: float, b: float) -> float:
    """Logarithm of the sum of two probabilities given as logarithms."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def compare(
    slow_name: str,
    slow: Callable[[], list[list[int]]],
    fast_name: str,
    fast: Callable[[], list[list[int]]],
    repeats: int,
    audio_seconds: float,
) -> None:
    """Print the times of both and their ratio, after checking that they agree."""
    if slow() != fast():
        print(f"{slow_name} and {fast_name} do not agree")
    slow_time = fast_time = math.inf
    for round_number in range(repeats):
        if round_number < 3:
            slow_time = min(slow_time, time_of(slow))
        fast_time = min(fast_time, time_of(fast))
    for name, elapsed in ((slow_name, slow_time), (fast_name, fast_time)):
        print(f"{name:20}{elapsed:9.3f} s   RTF {elapsed / audio_seconds:.5f}")
    print(f"{'ratio':20}{slow_time / fast_time:9.1f} x")


def time_of(work: Callable[[], object]) -> float:
    """Wall-clock time in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
