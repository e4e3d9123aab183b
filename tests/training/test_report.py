"""What is told at the end of an epoch: rates, a line, curves."""

from __future__ import annotations

import builtins
import json
import logging
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from tests.tones import ROOT
from zipasr.base.distributed import World
from zipasr.base.recipe import load_recipe
from zipasr.cli.command_flags import read
from zipasr.cli.train import train_configs
from zipasr.cli.training_commands import TRAIN
from zipasr.data.loaders import load_cuts
from zipasr.data.manifests import evenly_spread
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.epoch_report import (
    REFERENCE_FILE,
    copy_reference,
    course_line,
    dev_errors,
    draw_curves,
    sparkline,
)
from zipasr.training.metrics import MetricWriter, metric_series
from zipasr.training.worker import build_session


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0.0, 1.0, 7.0, 3.5]) == "▁▂█▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(n) for n in range(99)], width=30)) == 30


def history(folder: Path) -> MetricWriter:
    writer = MetricWriter(folder, 0, tensorboard=False)
    for step in range(1, 121):
        if step % 40 == 1:
            writer.epoch = 1 + step // 40
            writer.add_scalar("train/epoch", writer.epoch, step)
        writer.add_scalar("train/tot_loss", 3 * math.exp(-step / 40) + 0.1, step)
        writer.add_scalar("train/learning_rate", 0.04 / (1 + step / 60), step)
        writer.add_scalar("train/grad_norm", 5 + math.sin(step), step)
        if step % 40 == 0:
            writer.add_scalar("train/valid_loss", 3 * math.exp(-step / 40) + 0.2, step)
            writer.add_scalar("train/valid_wer", 100 * math.exp(-step / 80), step)
    return writer


def test_curves_become_a_picture(tmp_path: Path) -> None:
    history(tmp_path)
    draw_curves(tmp_path)
    picture = (tmp_path / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    assert width > height > 600
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_reference_run_is_drawn_thin_and_grey_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure, picture: Path, **_: object) -> None:
        drawn.append(figure)
        picture.touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    history(tmp_path)
    for _ in range(2):
        draw_curves(tmp_path)
        copy_reference(ROOT / "egs" / "espeak", tmp_path, causal=True)
    alone, beside = drawn
    more = [len(b.lines) - len(a.lines) for a, b in zip(alone.axes, beside.axes, strict=True)]
    assert more == [2, 1, 0, 0]
    steps, rates = metric_series(tmp_path / REFERENCE_FILE, "wer", "valid")
    line = beside.axes[1].lines[-1]
    assert (line.get_linewidth(), line.get_label()) == (0.9, "reference run, greedy search")
    assert [*line.get_xdata()] == steps
    assert [*line.get_ydata()] == rates
    assert max(steps) <= beside.axes[1].get_xlim()[1]
    assert alone.get_supxlabel() == ""
    assert beside.get_supxlabel().startswith("reference run: train.py --recipe espeak ")


def test_a_reference_that_is_there_stays_and_no_recipe_needs_one(tmp_path: Path) -> None:
    copy_reference(tmp_path / "recipe", tmp_path, causal=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / REFERENCE_FILE).write_text("mine")
    copy_reference(ROOT / "egs" / "espeak", tmp_path, causal=True)
    assert (tmp_path / REFERENCE_FILE).read_text() == "mine"


@pytest.mark.parametrize("path", sorted((ROOT / "egs").rglob("reference*.jsonl")), ids=str)
def test_references_are_small_and_say_how_they_were_made(path: Path) -> None:
    assert path.stat().st_size < 20_000
    first, *records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert all(word in first["about"] for word in ("train.py --recipe", "seed", "revision"))
    epochs = int(load_recipe(str(path.parent)).flags["num-epochs"])
    for name, split in (("tot_loss", "train"), ("loss", "valid"), ("wer", "valid")):
        steps, values = metric_series(path, name, split)
        assert len(steps) >= epochs
        assert split == "train" or len(steps) == epochs
        assert steps == sorted(steps)
        assert values[-1] < values[0]
    assert {record["name"] for record in records} == {"tot_loss", "loss", "wer"}


def test_a_picture_that_fails_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("no matplotlib here")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING):
        draw_curves(tmp_path)
    assert "curves.png is not drawn: no matplotlib here" in caplog.text


def test_the_line_after_an_epoch(tmp_path: Path) -> None:
    history(tmp_path)
    train = SimpleNamespace(exp_dir=tmp_path)
    session: Any = SimpleNamespace(
        configs=SimpleNamespace(train=train),
        state=SimpleNamespace(cur_epoch=3, best_valid_epoch=3, best_wer_epoch=2),
    )
    assert course_line(session) == (
        "epoch 3 is over: dev loss █▃▁ 0.349 (best), dev wer █▄▁ 22.3 %"
    )
    writer = MetricWriter(tmp_path, 100_000, tensorboard=False)
    writer.add_scalar("train/host_gib", 1.26, 8)
    assert course_line(session).endswith(" 22.3 %, memory 1.3 GiB")
    writer.add_scalar("train/loading_gib", 2.04, 9)
    assert course_line(session).endswith(" 22.3 %, memory 1.3 GiB and 2.0 in loading processes")


@pytest.mark.usefixtures("here")
def test_some_utterances_stand_for_the_dev_set_and_are_shared_out() -> None:
    """Rates of two processes together are those of one; the search is a stand-in."""
    words = "--recipe ./tones --num-workers 0 --valid-wer-cuts 5"
    configs = train_configs(read(TRAIN, words.split()))
    tokenizer = Tokenizer.from_file("data/tones/lang_bpe/bpe.model")
    cuts = load_cuts(Path("data/tones/fbank"), "manifests", ["dev"])
    session = build_session(World(0, 1, torch.device("cpu")), configs, tokenizer)
    seen: list[str] = []

    def one_word_less(session: Any, batch: Any) -> list[str]:
        assert not session.model.training
        seen.extend(batch.cut_ids)
        return [text.partition(" ")[2] for text in batch.texts]

    before = torch.get_rng_state()
    errors = dev_errors(session, cuts, one_word_less)
    assert torch.equal(before, torch.get_rng_state())
    assert session.model.training
    assert sorted(seen) == sorted(cut.id for cut in evenly_spread(cuts, 5))
    assert (errors.ins, errors.dels, errors.subs) == (0, 5, 0)
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    assert errors.ref_words == sum(len(texts[name].split()) for name in seen)
