"""What is recognised in an utterance does not depend on the others in its batch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import speaking_model
from tests.cli.conftest import Call
from tests.speaking_model import HEADS, SECOND
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import decode
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE, recognition_config
from zipasr.data import loaders
from zipasr.data.config import DataConfig
from zipasr.recognition.recogniser import load_recogniser

# Seconds of a batch: each utterance alone, a few together, all together.
DURATIONS = ("0.5", "3", "600")
MODEL = ("--checkpoint", "exp/speaking_model.pt", "--num-workers", "0", "--use-bf16", "0")
# Batches of other shapes round otherwise: scores move by less than the first (4e-5 were seen), and
# the best symbol of a frame is ahead by more than the second (0.037 at the closest).
ROUNDING, MARGIN = 1e-3, 1e-2


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights whose front end cares for what it looks ahead at."""
    folder = tmp_path_factory.mktemp("batches") / "run"
    shutil.copytree(prepared, folder)
    path = folder / "exp" / "untrained.pt"
    bpe = folder / "data" / "tones" / "lang_bpe" / "bpe.model"
    speaking_model.write_untrained(path, SECOND, bpe, HEADS)
    checkpoint = load_checkpoint(path)
    (name,) = [
        key for key in checkpoint["model"] if key.endswith("convnext.pointwise_conv2.weight")
    ]
    checkpoint["model"][name] *= 100  # the branch begins with a scale of 0.01
    save_checkpoint(path, checkpoint)
    sound = folder / "source" / "test" / "test-000.flac"
    speaking_model.write_talkative(path, folder / "exp" / "speaking_model.pt", sound)
    return folder


def hypotheses(recogs: str) -> list[str]:
    return [line.split("hyp=")[1] for line in recogs.splitlines() if "\thyp=" in line]


def test_max_duration_changes_no_transcript(folder: Path, call: Call) -> None:
    found = set()
    for duration in DURATIONS:
        words = ("--max-duration", duration, "--pad-look-ahead", "1")
        said = call(decode.main, folder, *MODEL, *words)
        assert said.status == 0, said.err
        (path,) = (folder / "exp" / "greedy_search").glob("recogs-test-*_pad-look-ahead_*")
        found.add(path.read_text())
        path.unlink()
    (recogs,) = found
    said_in_each = hypotheses(recogs)
    assert len(said_in_each) == len(set(said_in_each)) == 8
    assert "'" in min(said_in_each, key=len)


def scores_of_greedy_search(
    folder: Path, duration: str, *words: str
) -> Iterator[tuple[str, Tensor, list[int]]]:
    """Yield of each test utterance the scores (T', V) that greedy search compares, and tokens."""
    flags = ["--recipe", "./tones", *MODEL, "--max-duration", duration, *words]
    run = read(DECODE, flags)
    recogniser = load_recogniser(recognition_config(run))
    model = recogniser.acoustics.model
    assert model.decoder is not None
    assert model.joiner is not None
    cuts = loaders.load_cuts(run[DataConfig].manifest_dir, run.recipe.corpus, ["test"])
    for batch in loaders.test_loader(cuts, run[DataConfig]):
        frames, lens = recogniser.acoustics.encode(batch.features, batch.feature_lens)
        for row, cut_id in enumerate(batch.cut_ids):
            context, tokens, scores = [-1, 0], [], []
            for frame in frames[row, : int(lens[row])]:
                prediction = model.decoder(torch.tensor([context]), need_pad=False)[0]
                scores.append(model.joiner(frame[None], prediction)[0])
                scores[-1][1:3] = -100.0  # the two that are ruled out by a bias of -1000
                if best := int(scores[-1].argmax()):
                    context, tokens = [context[1], best], [*tokens, best]
            yield cut_id, torch.stack(scores), tokens


@torch.inference_mode()
def test_batches_move_scores_by_rounding_and_choices_are_far_from_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    padded, published = (
        [
            {name: (scores, tokens) for name, scores, tokens in scores_of_greedy_search(*given)}
            for given in ((folder, duration, *words) for duration in DURATIONS)
        ]
        for words in (("--pad-look-ahead", "1"), ())
    )
    alone, *others = padded
    for name, (scores, tokens) in alone.items():
        assert tokens
        first, second = scores.topk(2, dim=-1).values.unbind(dim=-1)
        assert (first - second).min() > MARGIN
        for other in others:
            assert other[name][1] == tokens
            assert (other[name][0] - scores).abs().max() < ROUNDING
    assert len({token for _, tokens in alone.values() for token in tokens}) > 3
    # As published, what the batch is padded with is seen.
    alone, *_, together = published
    moved = [(together[name][0] - scores).abs().max() for name, (scores, _) in alone.items()]
    assert max(moved) > 100 * ROUNDING
