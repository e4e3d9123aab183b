"""Two corpora on one encoder, as in pruned_transducer_stateless8, through the command line."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from lhotse import CutSet

from tests import tones
from tests.captured_output import Call
from tests.cli.test_zipformer1 import SIZES
from tests.training.kill_at import assert_same_training
from zipasr.base.errors import UserError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import train
from zipasr.cli.command_flags import encoder_config, read
from zipasr.cli.decode import main as decode_main
from zipasr.cli.training_commands import TRAIN
from zipasr.data.config import DataConfig, cuts_path
from zipasr.data.manifests import split_lazily
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.training.config import TrainConfig
from zipasr.training.metrics import metric_series

PUBLISHED = shlex.split(
    "--world-size 8 --num-epochs 20 --full-libri 1 --use-fp16 1 --max-duration 750 "
    "--exp-dir pruned_transducer_stateless8/exp --feedforward-dims 1024,1024,2048,2048,1024 "
    "--master-port 12535 --giga-prob 0.9"
)


def test_the_published_command_means_what_it_meant() -> None:
    run = read(TRAIN, PUBLISHED)
    assert run.recipe.name == "librispeech"
    assert encoder_config(run) == Zipformer1Config()
    assert run[ModelConfig].own_heads == "giga"
    assert (run[DataConfig].giga_prob, run[DataConfig].giga_subset) == (0.9, "XL")
    assert run[TrainConfig].world_size == 8
    with torch.device("meta"):
        model = build_model(encoder_config(run), run[ModelConfig], 500)
    assert sum(p.numel() for p in model.parameters()) == 71_794_763
    less = read(TRAIN, [*PUBLISHED, "--full-libri", "0"])
    assert less[DataConfig].giga_subset == "S"


def test_heads_and_shares_agree() -> None:
    """Either flag means both; 0.5 is the published share, and 0 leaves LibriSpeech alone."""
    run = read(TRAIN, ["--own-heads", "giga"])
    assert (run[DataConfig].giga_prob, run[ModelConfig].own_heads) == (0.5, "giga")
    run = read(TRAIN, ["--own-heads", "giga", "--extra-manifest", "giga=a.jsonl.gz:0.3"])
    assert [extra.weight for extra in run[DataConfig].extras] == [0.3]
    run = read(TRAIN, ["--giga-prob", "0"])
    assert (run[DataConfig].extras, run[ModelConfig].own_heads) == ((), "giga")
    run = read(TRAIN, ["--giga-prob", "0.5", "--use-transducer", "0"])
    assert run[ModelConfig].own_heads == ""
    assert read(TRAIN, []).values == read(TRAIN, ["--giga-subset", "XL"]).values


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--giga-prob 1", "--giga-prob must be at least 0 and below 1"),
        ("--giga-prob -0.1", "--giga-prob must be at least 0 and below 1"),
        ("--giga-prob 0.9 --extra-manifest a=x:0.1", "must leave a share to the recipe's own"),
        ("--giga-prob 0.1 --extra-manifest giga=x:0.1", "two corpora have the same name"),
        ("--own-heads more", "--own-heads more: no corpus of that name is trained on"),
    ],
)
def test_what_cannot_be_is_said(words: str, message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        read(TRAIN, words.split())


def test_without_gigaspeech_there_is_one_line(workdir: Path, call: Call) -> None:
    said = call(train.main, workdir, "--giga-prob", "0.5", "--giga-subset", "S")
    assert said.status == 3
    assert "data/tones/fbank/gigaspeech_cuts_S.jsonl.gz does not exist" in said.error
    assert "./prepare.sh --recipe gigaspeech --giga-dir" in said.error
    assert not (workdir / "exp").exists()


def add_gigaspeech(folder: Path) -> None:
    """Put the dev set among the manifests as if it were GigaSpeech XL, in pieces."""
    fbank = folder / "data" / "tones" / "fbank"
    pieces = fbank / "gigaspeech_XL_split_3"
    cuts = CutSet.from_file(cuts_path(fbank, "manifests", "dev"))
    whole = pieces / "gigaspeech_cuts_XL.jsonl.gz"
    pieces.mkdir()
    cuts.repeat(3).modify_ids(lambda cut_id: f"giga-{cut_id}").to_file(whole)
    assert len(split_lazily(whole, pieces, 3)) == 3
    whole.unlink()


FLAGS = shlex.split(
    "--giga-prob 0.4 --num-epochs 1 --optimizer scaled_adam_v1 --log-interval 1 "
    "--valid-wer-cuts 2 --num-workers 0 --encoder-type zipformer1"
)
FLAGS += [*SIZES, "--world-size", str(tones.processes())]
FLAGS += ["--max-duration", str(8 / tones.processes())]


@pytest.fixture(scope="module")
def two_corpora(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on tones and what stands for GigaSpeech. Do not write to it: copy it."""
    folder = tmp_path_factory.mktemp("two") / "run"
    shutil.copytree(prepared, folder)
    add_gigaspeech(folder)
    done = tones.run(folder, "train.py", *FLAGS)
    tones.check(done)
    assert "giga, 0.4 of the batches: kept 24 of 24 cuts" in done.stderr
    assert "; giga: ctc_loss " in done.stderr
    assert "; manifests: ctc_loss " in done.stderr
    assert "no longer the same" not in done.stderr
    return folder


def test_each_corpus_has_its_totals(two_corpora: Path) -> None:
    file = two_corpora / "exp" / "metrics.jsonl"
    steps = {
        name: metric_series(file, f"{name}_pruned_loss")[0]
        for name in ("current", "current_giga", "current_manifests", "giga_tot", "manifests_tot")
    }
    giga, own = steps["current_giga"], steps["current_manifests"]
    assert len(giga) > 1
    assert len(own) > 1
    # The transducer has no loss in the first six batches, and an epoch ends with its own corpus.
    assert sorted([*giga, *own]) == steps["current"]
    assert own[-1] == steps["current"][-1]
    assert steps["giga_tot"][0] <= giga[0]
    run = json.loads((two_corpora / "exp" / "run.json").read_text())["sessions"][0]
    (mixed,) = run["mixed in"]
    assert (mixed["corpus"], mixed["cuts"]) == ("giga", 24)
    assert mixed["manifest"].endswith("gigaspeech_XL_split_3")


def test_it_goes_on_and_is_decoded_without_the_other_heads(
    two_corpora: Path, tmp_path: Path, call: Call
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(two_corpora, folder)
    exp = folder / "exp"
    batches = min(int(path.stem.split("-")[1]) for path in exp.glob("checkpoint-*.pt"))
    for path in exp.glob("*.pt"):
        if path.name != f"checkpoint-{batches}.pt":
            path.unlink()
    done = tones.run(folder, "train.py", *FLAGS)
    tones.check(done)
    assert f"epoch 1, {batches} of its batches done, {batches} in all" in done.stderr
    assert_same_training(exp / "epoch-1.pt", two_corpora / "exp" / "epoch-1.pt")
    last = load_checkpoint(exp / "epoch-1.pt")
    before = load_checkpoint(exp / f"checkpoint-{batches}.pt")["model"]
    for head in ("joiner", "joiner_giga"):
        name = f"{head}.output_linear.bias"
        assert not torch.equal(last["model"][name], before[name])
    decode = ("--epoch", "1", "--avg", "1", "--use-averaged-model", "0", "--num-workers", "0")
    assert call(decode_main, folder, *decode).status == 0
