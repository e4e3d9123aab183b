"""Rescoring with an attention decoder that has learnt something, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Call
from tests.cli.test_decode import HERE
from tests.training.short import train
from zipasr.cli import decode
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import CTC_DECODE, recognition_config
from zipasr.data import loaders
from zipasr.data.config import DataConfig
from zipasr.recognition.decode_sets import load_test_sets
from zipasr.recognition.recogniser import load_recogniser
from zipasr.search.rescoring import ATTENTION_SCALES, WholeUtteranceSearch

METHOD = "attention-decoder-rescoring-no-ngram"
TRAINING = """
--use-transducer 0 --use-ctc 1 --use-attention-decoder 1 --ctc-loss-scale 0.3
--attention-decoder-loss-scale 0.7 --attention-decoder-dim 32 --attention-decoder-num-layers 1
--attention-decoder-attention-dim 32 --attention-decoder-num-heads 2
--attention-decoder-feedforward-dim 32 --enable-spec-aug 0 --max-duration 10 --num-epochs 8
--valid-wer-cuts 0 --save-every-n 1000 --log-interval 50
"""
# Log-probability of a token that was said, after what was said before it. Seeds 42, 1, 2, 3 and 4
# end at -1.12, -1.40, -1.11, -1.42 and -1.20 (mean -1.25, standard deviation 0.15); guessing among
# the 18 tokens gives -2.89.
LEARNT = -2.1
# The attention decoder's width and feed-forward channels follow --base-dim where none is typed.
ZAPFORMER = """
--encoder-type zapformer --base-dim 8 --embed-multiple 4 --encoder-multiple 3,4
--feedforward-multiple 2 --conv-params 7 --use-attention-decoder 1 --ctc-loss-scale 0.3
--attention-decoder-loss-scale 0.7 --attention-decoder-num-layers 1
--attention-decoder-num-heads 2 --valid-wer-cuts 0
"""


def log_prob(recogniser, frames: torch.Tensor, tokens: list[int]) -> float:
    """What the attention decoder gives a transcript: token by token, of one utterance alone."""
    decoder, total = recogniser.acoustics.model.attention_decoder.decoder, 0.0
    no_padding = torch.zeros(1, frames.size(0), dtype=torch.bool)
    for place, token in enumerate([*tokens, 1]):
        before = torch.tensor([[1, *tokens[:place]]])
        scores = decoder(before, frames[None], no_padding)[0, -1]
        total += (scores[token] - scores.exp().sum().log()).item()
    return total


def test_a_trained_attention_decoder_finds_the_words(
    workdir: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir)
    train(Path("exp"), TRAINING)
    words = [*HERE, "--epoch", "8", "--use-averaged-model", "0", "--decoding-method", METHOD]
    said = call(decode.ctc, workdir, *words, "--attention-decoder-loss-scale", "0.7")
    assert said.status == 0, said.err
    (summary,) = (workdir / "exp" / METHOD).glob("wer-summary-test-*.txt")
    rates = dict(line.split("\t") for line in summary.read_text().splitlines()[1:])
    assert len(rates) == len(ATTENTION_SCALES)

    run = read(CTC_DECODE, ["--recipe", "./tones", *words])
    config = recognition_config(run)
    recogniser, (cuts,) = load_recogniser(config), load_test_sets(config).values()
    assert isinstance(recogniser.search, WholeUtteranceSearch)
    scores: list[float] = []
    with torch.inference_mode():
        for batch in loaders.test_loader(cuts, run[DataConfig]):
            check_scores_and_choices(recogniser, batch)
            scores += scores_of_transcripts(recogniser, batch)
    assert sum(scores) / len(scores) > LEARNT


def test_the_hypotheses_of_a_zapformer_are_rescored(
    workdir: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir)
    heads = train(Path("exp"), ZAPFORMER)["configs"]["heads"]
    assert (heads["attention_decoder_dim"], heads["attention_decoder_feedforward_dim"]) == (64, 256)
    words = [*HERE, "--epoch", "1", "--use-averaged-model", "0", "--decoding-method", METHOD]
    said = call(decode.main, workdir, *words)
    assert said.status == 0, said.err
    run = read(CTC_DECODE, ["--recipe", "./tones", *words])
    config = recognition_config(run)
    recogniser, (cuts,) = load_recogniser(config), load_test_sets(config).values()
    with torch.inference_mode():
        for batch in loaders.test_loader(cuts, run[DataConfig]):
            check_scores_and_choices(recogniser, batch)


def scores_of_transcripts(recogniser, batch) -> list[float]:
    """Log-probability per token of what was said, for each utterance."""
    frames, lens = recogniser.acoustics.encode(batch.features, batch.feature_lens)
    return [
        log_prob(recogniser, frames[row, : lens[row]], tokens) / (len(tokens) + 1)
        for row, tokens in enumerate(recogniser.tokenizer.encode(batch.texts))
    ]


def check_scores_and_choices(recogniser, batch) -> None:
    frames, lens = recogniser.acoustics.encode(batch.features, batch.feature_lens)
    search = recogniser.search
    nbest, found = search.nbest(frames, lens), recogniser.best_by_setting(frames, lens, batch.texts)
    (judged,) = (score(frames, lens, nbest) for score in search.rescorers)
    for row, hypotheses in enumerate(nbest):
        own = frames[row, : lens[row]]
        want = [log_prob(recogniser, own, one.tokens) for one in hypotheses]
        assert judged[row] == pytest.approx(want, abs=1e-3)
        for scale in ATTENTION_SCALES:
            totals = [a.log_prob + scale * b for a, b in zip(hypotheses, want, strict=True)]
            best = hypotheses[totals.index(max(totals))]
            assert found[f"_attention_scale_{scale}"][row].tokens == best.tokens
