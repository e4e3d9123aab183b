"""Options of the preparation, which are read without any package beside Python's own."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from zipasr.base.config import parse_bool
from zipasr.base.errors import UserError
from zipasr.cli.recipes import RecipeConfig
from zipasr.text.scripts import UNITS

SHORT_USAGE = """\
usage: ./prepare.sh [--recipe NAME] [OPTIONS]

Make the data of a recipe, in stages; what is done is not done again.

examples:
  ./prepare.sh --recipe espeak  # speech that is synthesised on this machine
  ./prepare.sh --recipe my --from speech/  # speech of your own, and a recipe for it
  ./prepare.sh --recipe librispeech --stage 0 --dry-run  # what the download would need

options:
  --recipe NAME      a folder in egs, or the path of a recipe (default: espeak)
  --from PATH        table, folder of sound and .txt files, Kaldi directory or lhotse manifests
  --stage N          first stage: 0 download, 1 corpus, 2 features, 3 tokenizer, 4 validate, 5 lm
                     (default: 1, or what the recipe says)
  --stop-stage N     last stage (default: 4, or what the recipe says)
  --num-jobs N       processes that work side by side (default: the number of cores)
  --vocab-size N     tokens of the vocabulary (default: what the recipe says)
  --unit UNIT        tokens: bpe, char or byte-bpe (default: by the script of the transcripts)
  --dl-dir DIR       where downloads are, and where they go (default: download)
  --force            do the stages again, even where they are marked as done
  --dry-run          say what would be done and what it needs, and end
  --status           say which stages are done, and end

--help-all describes all options and stages.
"""

USAGE = """\
usage: ./prepare.sh [--recipe NAME] [--stage N] [--stop-stage N] [OPTIONS]
       ./prepare.sh [--recipe NAME] --from PATH [--encoding NAME] [OPTIONS]   speech of your own

  --recipe NAME      a folder in egs, or a recipe that is built in (default: espeak, speech made on
                     this machine); with a slash in it, the path of a recipe folder
  --stage N          first stage (default 1, or what the recipe says)
  --stop-stage N     last stage (default 4, or what the recipe says)
  --num-jobs N       processes that work side by side (default: the number of cores)
  --vocab-size N     tokens of the vocabulary, kept in a folder lang_bpe_N of its own
  --unit UNIT        tokens: bpe, char or byte-bpe, kept in a folder lang_bpe_N, lang_char or
                     lang_bbpe_N (default: by the script of the transcripts: char for Chinese and
                     Japanese, byte-bpe where they are mixed with other scripts, else bpe)
  --dl-dir DIR       where downloads are, and where they go (default: download)
  --giga-dir DIR     GigaSpeech: where your copy is (default: GigaSpeech in --dl-dir)
  --mirror URL       server to download from, instead of the publisher's
  --keep-archives 0  delete each archive when it is unpacked
  --full-libri 0     LibriSpeech: train on the 100 clean hours alone
  --mini-libri 1     LibriSpeech: the five hours of mini LibriSpeech
  --from PATH        a table (.tsv or .csv with the columns audio and text; id, start, end, speaker,
                     split if known), a folder of sound files with .txt files of the same names, a
                     Kaldi data directory, or lhotse manifests. Any rate, any channels. Writes
                     egs/NAME/recipe.toml (NAME: my, unless given), then does the stages
  --encoding NAME    of the text in PATH, if it is not UTF-8
  --normalise HOW    spelling of the transcripts in PATH: none (default), upper, lower,
                     no-punctuation, or two of them with a comma
  --max-bad N        most utterances of PATH that may be left out, in percent (default: 1); ten are
                     tolerated always
  --strict-rate 1    refuse sound files that do not have 16000 Hz, instead of resampling them
  --noise-dir DIR    sound of any kind (stage 2), to mix into the training with --enable-musan 1
  --force            do the stages again, even where they are marked as done: features are computed
                     and the commands of a wav.scp are run again
  --allow-commands 1  run the shell commands that manifests name; for those that you trust alone
  --dry-run          say what would be done and what it needs, and end
  --status           say which stages are done, and end

stages
  0  download   archives of a published corpus -> --dl-dir, checked and unpacked
  1  corpus     audio and transcripts -> data/NAME/manifests
  2  features   manifests -> 80-bin fbank in data/NAME/fbank, noise included
  3  tokenizer  training transcripts -> folder --lang-dir of the recipe (data/NAME/lang_bpe_SIZE)
  4  validate   checks manifests and features, reports what training would drop and why
  5  lm         text for a language model -> data/NAME/lm

A finished stage leaves a mark in data/NAME/.done; remove the mark (or use --force) to do it again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is typed; see ``USAGE``.

    Attributes:
        source: the corpus of ``--from``; None prepares a recipe that is there.
    """

    recipe: str | None
    stage: int | None
    stop_stage: int | None
    num_jobs: int
    vocab_size: int | None
    unit: str | None
    dl_dir: str
    giga_dir: str | None
    mirror: str | None
    keep_archives: bool
    full_libri: bool
    mini_libri: bool
    source: Path | None
    encoding: str | None
    normalise: str | None
    max_bad: str | None
    strict_rate: bool
    noise_dir: Path | None
    allow_commands: bool
    force: bool
    dry_run: bool
    status: bool

    @property
    def name(self) -> str:
        """Of the recipe, as it is typed."""
        return self.recipe or ("my" if self.source else RecipeConfig().recipe)

    @property
    def only_looks(self) -> bool:
        """Whether nothing is to be done."""
        return self.status or self.dry_run

    @property
    def subset(self) -> str | None:
        """The part of the recipe that is prepared; None is the whole."""
        return RecipeConfig(full_libri=self.full_libri, mini_libri=self.mini_libri).subset


#: Option -> what of the corpus it is about.
_OF_SOURCE = {
    "encoding": "text",
    "normalise": "transcripts",
    "max_bad": "utterances",
    "strict_rate": "sound files",
}


class _Parser(argparse.ArgumentParser):
    """A parser that raises one line."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a ``UserError``."""
        if found := re.match(r"unrecognized arguments: (\S+)", message):
            fix = "./prepare.sh --help lists the options."
            raise UserError(f"unknown option {found[1]}.", fix)
        if found := re.fullmatch(r"argument (\S+): expected one argument", message):
            raise UserError(f"{found[1]} needs a value.")
        raise UserError(message.removeprefix("argument ") + ".")


def read_options(words: Sequence[str]) -> Options:
    """Read the command line.

    Raises:
        UserError: an option is unknown, or a value is none that it takes.
    """
    parser = _Parser(prog="prepare.sh", add_help=False, allow_abbrev=False)
    for name in ("--recipe", "--giga-dir", "--mirror", "--encoding", "--normalise"):
        parser.add_argument(name)
    parser.add_argument("--max-bad", type=_percentage)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--noise-dir", type=Path)
    parser.add_argument("--unit", type=_unit)
    parser.add_argument("--dl-dir", default="download")
    for name in ("--stage", "--stop-stage", "--vocab-size"):
        parser.add_argument(name, type=_whole)
    parser.add_argument("--num-jobs", type=_whole, default=os.cpu_count() or 1)
    switches = {
        "--keep-archives": True,
        "--full-libri": True,
        "--mini-libri": False,
        "--allow-commands": False,
        "--strict-rate": False,
    }
    for name, usual in switches.items():
        parser.add_argument(name, type=_switch, default=usual)
    for name in ("--force", "--dry-run", "--status"):
        parser.add_argument(name, action="store_true")
    options = Options(**vars(parser.parse_args(words)))
    if options.source is None:
        for name, what in _OF_SOURCE.items():
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')} is about the {what} of --from PATH.")
    return options


def _whole(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {word!r}")
    return int(word)


def _unit(word: str) -> str:
    if word not in UNITS:
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(UNITS)}")
    return word


def _switch(word: str) -> bool:
    try:
        return parse_bool(word)
    except argparse.ArgumentTypeError as problem:
        raise argparse.ArgumentTypeError(f"expected 1 or 0, got {word!r}") from problem


def _percentage(word: str) -> str:
    """Return a number as it is typed."""
    try:
        float(word)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"expected a number, got {word!r}") from problem
    return word
