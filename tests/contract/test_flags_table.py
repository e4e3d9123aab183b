"""The flags of train.py and decode.py: none changes by accident, and icefall's are all there.

After a change on purpose: ``python -m tests.contract.test_flags_table`` writes the table again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tones
from zipasr.base.config import Flag, parse_bool, shown
from zipasr.base.recipe import RECIPES, load_recipe
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.cli.command_flags import read
from zipasr.cli.flags import Command
from zipasr.cli.model_commands import AVERAGE, EXPORT
from zipasr.cli.preparation_commands import IMPORT
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE, STREAMING_DECODE
from zipasr.cli.training_commands import TRAIN

TABLE = tones.ROOT / "tests" / "golden" / "contract" / "flags.json"
COMMANDS = {command.name: command for command in (TRAIN, DECODE, IMPORT)}

Row = dict[str, str]

# Names and defaults of the published recipe's train.py, as one types them; but --use-bf16, whose
# default is what the device is good at (False wins when it is given).
TRAINING = """
world-size 1
master-port 12354
tensorboard True
num-epochs 30
start-epoch 1
start-batch 0
exp-dir zipformer/exp
bpe-model data/lang_bpe_500/bpe.model
base-lr 0.045
lr-batches 7500
lr-epochs 3.5
ref-duration 600
context-size 2
prune-range 5
lm-scale 0.25
am-scale 0.0
simple-loss-scale 0.5
ctc-loss-scale 0.2
cr-loss-scale 0.2
time-mask-ratio 2.5
attention-decoder-loss-scale 0.8
seed 42
print-diagnostics False
inf-check False
save-every-n 4000
keep-last-k 30
average-period 200
use-fp16 False
"""
MODEL = """
num-encoder-layers 2,2,3,4,3,2
downsampling-factor 1,2,4,8,4,2
feedforward-dim 512,768,1024,1536,1024,768
num-heads 4,4,4,8,4,4
encoder-dim 192,256,384,512,384,256
query-head-dim 32
value-head-dim 12
pos-head-dim 4
pos-dim 48
encoder-unmasked-dim 192,192,256,256,256,192
cnn-module-kernel 31,31,15,15,15,31
decoder-dim 512
joiner-dim 512
attention-decoder-dim 512
attention-decoder-num-layers 6
attention-decoder-attention-dim 512
attention-decoder-num-heads 8
attention-decoder-feedforward-dim 2048
causal False
chunk-size 16,32,64,-1
left-context-frames 64,128,256,-1
use-transducer True
use-ctc False
use-attention-decoder False
use-cr-ctc False
"""
DATA = """
full-libri True
mini-libri False
manifest-dir data/fbank
max-duration 200
bucketing-sampler True
num-buckets 30
concatenate-cuts False
duration-factor 1.0
gap 1.0
on-the-fly-feats False
shuffle True
drop-last True
return-cuts True
num-workers 2
enable-spec-aug True
spec-aug-time-warp-factor 80
enable-musan True
input-strategy PrecomputedFeatures
"""
# But --epoch, whose default of 30 scores an early model of a longer run: see its own test below.
DECODING = """
iter 0
avg 15
use-averaged-model True
exp-dir zipformer/exp
bpe-model data/lang_bpe_500/bpe.model
lang-dir data/lang_bpe_500
decoding-method greedy_search
beam-size 4
beam 20.0
max-contexts 8
max-states 64
num-paths 200
nbest-scale 0.5
ngram-lm-scale 0.01
context-size 2
max-sym-per-frame 1
use-shallow-fusion False
lm-type rnn
lm-scale 0.3
tokens-ngram 2
backoff-id 500
context-score 2.0
context-file
skip-scoring False
"""


def pairs(*tables: str) -> list[tuple[str, str]]:
    lines = [line for table in tables for line in table.strip().splitlines()]
    return [(name, value) for name, _, value in (line.partition(" ") for line in lines)]


# decode.py has the flags of data and model too.
ICEFALL = [("train.py", *pair) for pair in pairs(TRAINING, MODEL, DATA)] + [
    ("decode.py", *pair) for pair in pairs(DECODING, MODEL, DATA)
]


def flags_table() -> dict[str, dict[str, Row]]:
    """Return command -> flag -> type and default."""
    return {name: dict(sorted(rows(command))) for name, command in COMMANDS.items()}


def rows(command: Command) -> list[tuple[str, Row]]:
    # Where two encoders share a flag, the default is that of the usual one.
    found = [
        (one.name, {"type": one.kind, "default": shown(default_of(one, command))})
        for one in command.flags
    ]
    others = [
        (other, dict(found)[name] | {"default": "that of the checkpoint"})
        for other, name in command.spellings.items()
    ]
    refused = [
        (name, {"type": "not built yet", "default": default})
        for name, (default, _) in command.refused.items()
    ]
    return [*found, *others, *refused]


def default_of(one: Flag, command: Command) -> Any:
    # The settings of a model in a checkpoint have those of its training.
    if one.field == "encoder_type" and command.stored:
        return "that of the checkpoint"
    return command.defaults.get(one.field, one.default)


def write_table() -> None:
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps(flags_table(), indent=1) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_are_those_of_the_table(name: str) -> None:
    golden = json.loads(TABLE.read_text(encoding="utf-8"))[name]
    found = flags_table()[name]
    assert sorted(found) == sorted(golden)
    assert found == golden


@pytest.fixture
def bare_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that sets nothing, in the working directory."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.toml").write_text(
        'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("bare_recipe")
@pytest.mark.parametrize(("command", "name", "default"), ICEFALL)
def test_the_flags_of_the_published_recipe_keep_name_and_default(
    command: str, name: str, default: str
) -> None:
    known = flags_table()[command][f"--{name}"]
    assert same(default, known["default"])
    read(COMMANDS[command], ["--recipe", "./bare", f"--{name}", default])


@pytest.mark.usefixtures("bare_recipe")
@pytest.mark.parametrize("command", COMMANDS)
def test_all_defaults_of_the_published_recipe_together_change_nothing(command: str) -> None:
    words = [
        word for of, name, default in ICEFALL if of == command for word in (f"--{name}", default)
    ]
    assert (
        read(COMMANDS[command], ["--recipe", "./bare", *words]).values
        == read(COMMANDS[command], ["--recipe", "./bare"]).values
    )


@pytest.mark.usefixtures("bare_recipe")
@pytest.mark.parametrize("command", [DECODE, CTC_DECODE, STREAMING_DECODE, EXPORT, AVERAGE])
def test_without_epoch_the_last_one_is_meant(command: Command) -> None:
    assert read(command, ["--recipe", "./bare"])[ChooseCheckpoint].epoch is None
    assert read(command, ["--recipe", "./bare", "--epoch", "30"])[ChooseCheckpoint].epoch == 30


@pytest.mark.parametrize(
    "recipe", sorted(RECIPES.glob("*/recipe.toml")), ids=lambda path: path.parent.name
)
def test_no_recipe_names_an_epoch(recipe: Path) -> None:
    """A run with another --num-epochs is scored at its end."""
    assert "epoch" not in load_recipe(str(recipe.parent)).flags


def same(left: str, right: str) -> bool:
    readers: tuple[Callable[[str], object], ...] = (str, float, parse_bool)
    for reader in readers:
        try:
            if reader(left) == reader(right):
                return True
        except (ValueError, argparse.ArgumentTypeError):
            continue
    return False


if __name__ == "__main__":
    write_table()
