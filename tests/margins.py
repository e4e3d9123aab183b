"""Verdicts on two programs that decode the same sound with the same model.

Two programs round differently. Where a search has to choose between two symbols or hypotheses that
are nearly even, one may take the one and the other the other, and which utterances have such a
choice depends on the processor, and on what a training became on it. So transcripts that differ are
judged: both are scored with our model in float64. They may differ only where the two scores are
closer than the two programs' scores of the same symbols are to each other, as measured on the
frames of the utterance. Anything else (other features, another token table, a missing end) is a
fault however weak the model is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests import tones
from zipasr.model.transducer import AsrModel
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.recogniser import Recogniser
from zipasr.search.hot_words import ContextGraph
from zipasr.search.transducer_step import TransducerSteps

BLANK = 0


class Found(NamedTuple):
    """What a program found in an utterance: ids of tokens, and the encoder frame of each."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]


class Scorer(NamedTuple):
    """A program's scores in one utterance.

    Attributes:
        steps: decoder and joiner.
        frames: (T', J), projected encoder frames.
    """

    steps: TransducerSteps
    frames: Tensor

    @torch.no_grad()
    def log_probs(self, histories: Sequence[Sequence[int]], times: Sequence[int]) -> Tensor:
        """Return (H, T, V): log-probabilities of the next symbol at each time, in float64."""
        size = self.steps.context_size
        start = [-1] * (size - 1) + [BLANK]
        contexts = torch.tensor([[*start, *history][-size:] for history in histories])
        predictions = self.steps.predict(contexts)[:, None]
        frames = self.frames[list(times)][None]
        logits = self.steps.joiner(frames, predictions, project_input=False)
        return logits.double().log_softmax(dim=-1)


class Verdict(NamedTuple):
    """Why two transcripts may differ, or not.

    Attributes:
        scores: of our transcript and of the other one, by our model in float64.
        noise: how far two such scores may move between the two programs.
        nearest: the smallest gap of a choice that decides between the two.
    """

    scores: tuple[float, float]
    noise: float
    nearest: float

    @property
    def allowed(self) -> bool:
        """Whether rounding explains the difference."""
        return self.nearest <= self.noise


def in_float64(model: AsrModel, features: Tensor) -> Scorer:
    """Return the scores of our model: features (T, 80) of one utterance.

    Args:
        model: changed to float64 in place.
        features: of the sound, as decode.py computes them.
    """
    model.double().eval()
    assert model.decoder is not None
    assert model.joiner is not None
    steps = TransducerSteps(model.decoder, model.joiner)
    with torch.no_grad():
        encoded = model.encode(features.double()[None], torch.tensor([len(features)]))
        return Scorer(steps, steps.project(encoded.frames[0, : int(encoded.lens[0])]))


@torch.no_grad()
def of_recogniser(recogniser: Recogniser[AcousticModel], features: Tensor) -> Scorer:
    """Return the scores of a model as decode.py uses it: features (T, 80) of one utterance."""
    frames, lens = recogniser.acoustics.encode(features[None], torch.tensor([len(features)]))
    assert recogniser.acoustics.model.decoder is not None
    assert recogniser.acoustics.model.joiner is not None
    steps = TransducerSteps(recogniser.acoustics.model.decoder, recogniser.acoustics.model.joiner)
    return Scorer(steps, steps.project(frames[0, : int(lens[0])]))


def of_client(parts: Mapping[str, str], samples: np.ndarray, context_size: int) -> Scorer:
    """Return the scores of exported files on features of the library that the client is built on.

    Args:
        parts: paths of the encoder, the decoder and the joiner.
        samples: (num_samples,) at 16 kHz.
        context_size: of the decoder.
    """
    from zipasr.recognition.onnx_runtime import OnnxGraph, onnx_steps

    features = client_features(samples)
    encoder = OnnxGraph(Path(parts["encoder"]))
    frames, lens = encoder(features[None], torch.tensor([len(features)]))
    steps = onnx_steps(Path(parts["decoder"]), Path(parts["joiner"]), context_size)
    return Scorer(steps, frames[0, : int(lens[0])])


def client_features(samples: np.ndarray) -> Tensor:
    """Return (T, 80): log-mel energies as sherpa-onnx computes them."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.frame_opts.samp_freq = tones.RATE
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400.0
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(tones.RATE, samples.tolist())
    fbank.input_finished()
    return torch.from_numpy(np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)]))


def noise_of_frames(exact: Scorer, other: Scorer, tokens: Sequence[int]) -> Tensor:
    """Return (T',): at each frame, by how much the two scores of a symbol differ at most.

    Measured for every symbol after every beginning of ``tokens``.
    """
    assert len(exact.frames) == len(other.frames), "the programs see another number of frames"
    histories = [tokens[:n] for n in range(len(tokens) + 1)]
    times = range(len(exact.frames))
    gaps = exact.log_probs(histories, times) - other.log_probs(histories, times)
    return gaps.abs().amax(dim=(0, 2))


def judge_greedy(exact: Scorer, other: Scorer, ours: Found, theirs: Found) -> Verdict:
    """Judge two greedy searches with at most one symbol a frame, where their paths part."""
    taken = [dict(zip(found.frames, found.tokens, strict=True)) for found in (ours, theirs)]
    time = next(
        t for t in range(len(exact.frames)) if len({one.get(t, BLANK) for one in taken}) > 1
    )
    history = [token for frame, token in taken[0].items() if frame < time]
    scores = exact.log_probs([history], [time])[0, 0]
    mine, their = (float(scores[one.get(time, BLANK)]) for one in taken)
    noise = 2 * float(noise_of_frames(exact, other, ours.tokens).max())
    return Verdict((mine, their), noise, abs(mine - their))


def judge_beam(
    exact: Scorer, other: Scorer, ours: Found, theirs: Found, beam_size: int = 4
) -> Verdict:
    """Judge two modified beam searches.

    The transcripts are ranked by log-probability per symbol. They may be nearly even themselves, or
    a beginning of one of them was nearly even with the hypothesis that a beam dropped.
    """
    noise = 2 * float(noise_of_frames(exact, other, ours.tokens).sum())
    size = exact.steps.context_size
    symbols = [len(found.tokens) + size for found in (ours, theirs)]
    mine, their = (
        total_log_prob(exact, found.tokens) / num
        for found, num in zip((ours, theirs), symbols, strict=True)
    )
    gap = abs(mine - their) * min(symbols)
    return Verdict((mine, their), noise, min(gap, nearest_drop(exact, beam_size)))


def total_log_prob(scorer: Scorer, tokens: Sequence[int]) -> float:
    """Return the log-probability of a transcript, of all alignments with one symbol a frame."""
    num = len(tokens)
    grid = scorer.log_probs([tokens[:n] for n in range(num + 1)], range(len(scorer.frames)))
    totals = torch.full((num + 1,), -math.inf, dtype=torch.float64)
    totals[0] = 0.0
    for time in range(grid.size(1)):
        stays = totals + grid[:, time, BLANK]
        moves = [totals[n] + grid[n, time, token] for n, token in enumerate(tokens)]
        stays[1:] = torch.logaddexp(stays[1:], torch.stack(moves)) if moves else stays[1:]
        totals = stays
    return float(totals[-1])


def nearest_choice(
    scorer: Scorer, method: str, beam_size: int = 4, graph: ContextGraph | None = None
) -> float:
    """Return the smallest gap between what a search takes and what it leaves, in one utterance."""
    if method == "modified_beam_search":
        return nearest_drop(scorer, beam_size, graph)
    tokens: list[int] = []
    gaps = []
    for time in range(len(scorer.frames)):
        values, symbols = scorer.log_probs([tokens], [time])[0, 0].topk(2)
        gaps.append(float(values[0] - values[1]))
        tokens += [int(symbols[0])] if symbols[0] != BLANK else []
    return min(gaps)


def nearest_drop(scorer: Scorer, beam_size: int, graph: ContextGraph | None = None) -> float:
    """Return the smallest gap between a hypothesis that a beam search keeps and one it drops.

    The last choice is that of the best one, by log-probability per symbol. The search is written
    for being read: a dictionary of hypotheses, a frame at a time.

    Args:
        scorer: of the utterance.
        beam_size: of the search.
        graph: hot-words, whose bonus a hypothesis has once its token is kept.
    """
    graph = graph or ContextGraph([], 0.0)
    beam: dict[tuple[int, ...], float] = {(): 0.0}
    nodes = {(): graph.root}
    nearest = math.inf
    for time in range(len(scorer.frames)):
        scores = scorer.log_probs(list(beam), [time])[:, 0]
        totals = scores + torch.tensor(list(beam.values()), dtype=torch.float64)[:, None]
        values, places = totals.flatten().topk(beam_size + 1)
        nearest = min(nearest, float(values[-2] - values[-1]))
        histories, grown = list(beam), {}
        for value, place in zip(values[:-1].tolist(), places[:-1].tolist(), strict=True):
            row, symbol = divmod(place, scores.size(1))
            key = old = histories[row]
            if symbol != BLANK:
                key = (*old, symbol)
                step = graph.step(nodes[old], symbol, strict=True)
                nodes[key], value = step.node, value + step.bonus
            grown[key] = float(np.logaddexp(grown.get(key, -math.inf), value))
        beam = grown
    size = scorer.steps.context_size
    ranks = sorted(
        (total + graph.finish(nodes[tokens])) / (len(tokens) + size)
        for tokens, total in beam.items()
    )
    return min(nearest, *(ranks[-1] - rank for rank in ranks[:-1]))


Judge = Callable[[Scorer, Scorer, Found, Found], Verdict]
JUDGES: dict[str, Judge] = {"greedy_search": judge_greedy, "modified_beam_search": judge_beam}


def check_agree(
    ours: Mapping[str, Found],
    theirs: Mapping[str, Found],
    scorers: Callable[[str], tuple[Scorer, Scorer]],
    method: str,
) -> None:
    """Fail if transcripts of two programs differ and rounding does not explain it; tell all others.

    Args:
        ours: of each utterance, what our program found.
        theirs: the same of the other program.
        scorers: of an utterance, our model's scores in float64 and the other program's scores.
        method: the search. The frames of a beam search are not compared one by one: they depend on
            which of several merged paths is kept. That all of them are later is a fault.
    """
    assert ours.keys() == theirs.keys()
    faults = []
    for name in ours:
        mine, their = ours[name], theirs[name]
        if mine == their or (method != "greedy_search" and mine.tokens == their.tokens):
            continue
        verdict = JUDGES[method](*scorers(name), mine, their)
        line = (
            f"{method}, {name}: scores {verdict.scores[0]:.6f} and {verdict.scores[1]:.6f}, "
            f"nearest choice {verdict.nearest:.2e}, noise {verdict.noise:.2e}"
        )
        print(line)  # noqa: T201 - shown when the test fails, and with pytest -s
        if not verdict.allowed:
            faults.append(line)
    shifts = [
        after - before
        for name in ours
        if ours[name].tokens == theirs[name].tokens
        for before, after in zip(ours[name].frames, theirs[name].frames, strict=True)
    ]
    if shifts and median(shifts):
        faults.append(f"{method}: half of the tokens come {median(shifts):g} frames later")
    assert not faults, "differences that rounding does not explain:\n" + "\n".join(faults)


def found_by_decode(path: Path, pieces: Sequence[str]) -> dict[str, Found]:
    """Return what decode.py found in each utterance, by its file ``utterances-*.jsonl``."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    found = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        frames = tuple(round(seconds / 0.04) for seconds in record["times"])
        found[record["id"]] = Found(tuple(ids[piece] for piece in record["tokens"]), frames)
    return found


def client_path(result: Any, ids: Mapping[str, int]) -> Found:
    """Return what a result of sherpa-onnx says.

    Args:
        result: of a stream.
        ids: of the pieces of our tokenizer; the client writes a space for the mark of a word.
    """
    tokens = tuple(ids[piece.replace(" ", "▁")] for piece in result.tokens)
    return Found(tokens, tuple(round(seconds / 0.04) for seconds in result.timestamps))
