"""Connected digits, with the settings of the embedded recipe and a small model."""

from __future__ import annotations

from pathlib import Path

from tests import tones

GRAMMAR = """
[sentences]
digits = [
  "{digit} {digit}",
  "{digit} {digit} {digit}",
  "{digit} {digit} {digit} {digit}",
  "{digit} {digit} {digit} {digit} {digit}",
]
[slots]
digit = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""
VOICES = """
accents = ["en-us", "en-gb-x-rp"]
[voices]
dev = ["Andrea", "ed", "m2"]
test = ["Lee", "f3", "m3", "paul"]
train = [
  "Alex", "Andy", "Denis", "Michael", "Mike", "adam", "announcer", "belinda", "david", "edward",
  "f1", "f2", "f4", "f5", "john", "linda", "m1", "m4", "m6", "m7", "max", "rob", "robert", "steph",
]
"""
SPOKEN_BY_ESPEAK = """
corpus = "espeak"
[corpus-options]
num-train = 600
num-dev = 40
num-test = 40
"""
FLAGS = """
[splits]
train = ["train"]
valid = ["dev"]
test = ["test"]
[flags]
manifest-dir = "data/digits/fbank"
lang-dir = "data/digits/lang_bpe"
vocab-size = 40
bpe-model = "data/digits/lang_bpe/bpe.model"
exp-dir = "exp"
num-encoder-layers = "1,1"
downsampling-factor = "2,4"
encoder-dim = "96,128"
encoder-unmasked-dim = "64,96"
feedforward-dim = "192,256"
embed-channels = "4,8,24"
decoder-dim = 128
joiner-dim = 128
num-epochs = 6
max-duration = 10
lr-batches = 300
lr-epochs = 4
ctc-only-batches = 150
warm-step = 80
ref-duration = 0.25
enable-spec-aug = 0
avg = 2
valid-wer-cuts = 20
"""


def with_flags_of_espeak(recipe: str) -> str:
    """Add the flags of the embedded recipe to a recipe that ends with flags of its own."""
    espeak = (tones.ROOT / "egs" / "espeak" / "recipe.toml").read_text()
    own = {line.split(" = ")[0] for line in recipe.partition("[flags]\n")[2].splitlines()}
    flags = espeak.partition("[flags]\n")[2].splitlines()
    return recipe + "\n".join(line for line in flags if line.split(" = ")[0] not in own) + "\n"


def write_recipe(folder: Path) -> Path:
    """Write a recipe: the flags of the embedded recipe, with those above in place."""
    folder.mkdir()
    (folder / "recipe.toml").write_text(with_flags_of_espeak(SPOKEN_BY_ESPEAK + FLAGS))
    (folder / "grammar.toml").write_text(GRAMMAR)
    (folder / "voices.toml").write_text(VOICES)
    return folder
