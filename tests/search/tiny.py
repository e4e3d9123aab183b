"""Small random transducers, and the searches written down one hypothesis at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.search.protocol import Utterance
from zipasr.search.transducer_step import TransducerSteps

ENCODER_DIM, DECODER_DIM, JOINER_DIM = 6, 8, 5


def tiny_steps(
    seed: int,
    vocab_size: int = 7,
    context_size: int = 2,
    blank_penalty: float = 0.0,
    temperature: float = 1.0,
    blank_bias: float = 2.0,
) -> TransducerSteps:
    """A random transducer sharp enough that contexts and frames matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = Decoder(vocab_size, DECODER_DIM, 0, context_size)
        joiner = Joiner(ENCODER_DIM, DECODER_DIM, JOINER_DIM, vocab_size)
    with torch.no_grad():
        joiner.encoder_proj.weight *= 4
        joiner.decoder_proj.weight *= 4
        joiner.output_linear.weight *= 6
        joiner.output_linear.bias[0] += blank_bias
    return TransducerSteps(decoder.eval(), joiner.eval(), blank_penalty, temperature)


def tiny_batch(seed: int, lens: list[int]) -> tuple[Tensor, Tensor]:
    """Random frames, also beyond the lengths."""
    generator = torch.Generator().manual_seed(seed)
    return (
        2 * torch.randn(len(lens), max(lens), ENCODER_DIM, generator=generator),
        torch.tensor(lens),
    )


@dataclass
class Loops:
    """The definitions, in plain Python: one joiner call per hypothesis and frame."""

    steps: TransducerSteps

    def scores(self, frame: Tensor, tokens: tuple[int, ...]) -> list[float]:
        """Log-probabilities of the next symbol, from the modules and the formula alone."""
        decoder, joiner = self.steps.decoder, self.steps.joiner
        context = [-1] * (decoder.context_size - 1) + [0, *tokens]
        with torch.no_grad():
            ids = torch.tensor([context[-decoder.context_size :]])
            prediction = joiner.decoder_proj(decoder(ids, need_pad=False))[0]
            logits = joiner(joiner.encoder_proj(frame)[None], prediction, project_input=False)[0]
            logits[0] -= self.steps.blank_penalty
            return torch.log_softmax(logits / self.steps.temperature, dim=0).tolist()

    def greedy(self, frames: Tensor, max_sym_per_frame: int) -> Utterance:
        tokens, times, total, t, num_here = [], [], 0.0, 0, 0
        while t < len(frames):
            if num_here >= max_sym_per_frame:
                t, num_here = t + 1, 0
                continue
            scores = self.scores(frames[t], tuple(tokens))
            best = max(range(len(scores)), key=scores.__getitem__)
            total += scores[best]
            if best == 0:
                t, num_here = t + 1, 0
            else:
                tokens.append(best)
                times.append(t)
                num_here += 1
        return Utterance(tokens, times, total)

    def beam(
        self,
        frames: Tensor,
        beam_size: int,
        rank: Callable[[tuple[int, ...]], float] = lambda _: 0.0,
    ) -> Utterance:
        """``rank`` of the tokens before a frame counts in the choice of the best, nowhere else."""
        beam = {(): (0.0, ())}
        for t, frame in enumerate(frames):
            candidates = [
                (total + score, tokens, times, symbol)
                for tokens, (total, times) in beam.items()
                for symbol, score in enumerate(self.scores(frame, tokens))
            ]
            beam = {}
            candidates.sort(key=lambda one: one[0] + rank(one[1]), reverse=True)
            for total, tokens, times, symbol in candidates[:beam_size]:
                if symbol != 0:
                    tokens, times = (*tokens, symbol), (*times, t)
                if tokens in beam:
                    old, old_times = beam[tokens]
                    beam[tokens] = (log_add(old, total), old_times)
                else:
                    beam[tokens] = (total, times)
        return self.choose(beam)

    def enumerate(self, frames: Tensor) -> Utterance:
        """Sum over all alignments with at most one token per frame; times are not defined."""
        vocab_size = len(self.scores(frames[0], ()))
        totals: dict[tuple[int, ...], float] = {}
        for path in product(range(vocab_size), repeat=len(frames)):
            tokens, total = (), 0.0
            for frame, symbol in zip(frames, path, strict=True):
                total += self.scores(frame, tokens)[symbol]
                tokens = (*tokens, symbol) if symbol != 0 else tokens
            totals[tokens] = log_add(totals.get(tokens, -math.inf), total)
        return self.choose({tokens: (total, ()) for tokens, total in totals.items()})

    def choose(self, beam: dict) -> Utterance:
        context_size = self.steps.decoder.context_size
        tokens = max(beam, key=lambda tokens: beam[tokens][0] / (len(tokens) + context_size))
        total, times = beam[tokens]
        return Utterance(list(tokens), list(times), total)


def log_add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def assert_same(got: list[Utterance], want: list[Utterance], tolerance: float = 1e-4) -> None:
    """Equal tokens and times, log-probabilities within ``tolerance``."""
    assert [u.tokens for u in got] == [u.tokens for u in want]
    assert [u.frames for u in got] == [u.frames for u in want]
    for one, other in zip(got, want, strict=True):
        # Without a hypothesis that ends it is -inf, which has no difference from itself.
        assert one.log_prob == other.log_prob or abs(one.log_prob - other.log_prob) < tolerance
