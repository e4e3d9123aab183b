"""What the documents tell people to type is what the commands take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests import tones
from zipasr.base.recipe import NO_RECIPE
from zipasr.cli.commands import (
    AVERAGE,
    CTC_DECODE,
    DECODE,
    EXPORT,
    STREAMING_DECODE,
    TRAIN,
    TRAIN_LM,
    TRANSCRIBE,
)
from zipasr.cli.flags import read_words, resolve
from zipasr.cli.prepare_options import USAGE

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/decoding.md",
    "docs/deploy.md",
    "docs/finetune.md",
    "docs/language_models.md",
    "docs/own_loop.md",
    "docs/parts.md",
    "docs/published_programs.md",
    "egs/README.md",
    "egs/espeak/README.md",
    "egs/espeak/RESULTS.md",
    "egs/librispeech/README.md",
)
COMMANDS = {
    command.name: command
    for command in (
        TRAIN,
        TRAIN_LM,
        DECODE,
        CTC_DECODE,
        STREAMING_DECODE,
        AVERAGE,
        EXPORT,
        TRANSCRIBE,
    )
}
PREPARE = """
--recipe --stage --stop-stage --num-jobs --vocab-size --dl-dir --mirror --keep-archives
--giga-dir --full-libri --mini-libri --from --encoding --allow-commands --force --dry-run --status
--help
"""
OPTIONS = {"prepare.sh": set(PREPARE.split())}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = ("", "bash", "sh", "shell", "console")
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "2>", "2>&1"}
STANDS_FOR = {"N": "2", "NAME": "espeak", "...": ""}


def commands_in(text: str) -> list[list[str]]:
    """Return the simple commands of the code blocks, as words: continued lines joined, no comments.

    A name in capitals stands for a value.
    """
    found: list[list[str]] = []
    for language, block in FENCE.findall(text):
        if language not in SHELLS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            found += simple_commands(line.removeprefix("$ "))
    return found


def simple_commands(line: str) -> list[list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # prose or output with a lonely quote
        return []
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ENDS:
            parts.append([])
        else:
            parts[-1].append(STANDS_FOR.get(word, word))
    return [[word for word in part if word] for part in parts if part]


def call_of(words: list[str], scripts: tuple[str, ...]) -> tuple[str, list[str]] | None:
    """Return the script that is called and its words; interpreter and launcher may stand before."""
    for position, word in enumerate(words):
        name = Path(word).name
        if name in scripts and not word.startswith("-"):
            return name, words[position + 1 :]
    return None


ALL = [
    (document, words)
    for document in DOCUMENTS
    if (tones.ROOT / document).is_file()
    for words in commands_in((tones.ROOT / document).read_text(encoding="utf-8"))
]


def test_the_readme_shows_the_two_commands() -> None:
    text = (tones.ROOT / "README.md").read_text(encoding="utf-8")
    shown = [words[0] for words in commands_in(text)]
    assert "egs/espeak/run.sh" in shown
    assert "tests/run.sh" in shown


def test_the_documents_show_how_to_train_and_decode() -> None:
    called = {found[0] for _, words in ALL if (found := call_of(words, tuple(COMMANDS)))}
    assert called >= {"train.py", "decode.py"}


@pytest.mark.parametrize(("document", "words"), ALL, ids=lambda value: str(value)[:60])
def test_what_is_shown_can_be_typed(document: str, words: list[str]) -> None:
    if found := call_of(words, tuple(COMMANDS)):
        name, flags = found
        command = COMMANDS[name]
        resolve(command, read_words(command, flags), NO_RECIPE, [command])
        assert not COMMANDS[name].refused.keys() & {word.split("=")[0] for word in flags}
    if found := call_of(words, tuple(OPTIONS)):
        name, flags = found
        assert {word for word in flags if word.startswith("-")} <= OPTIONS[name]
    for word in words:
        if word.startswith("./") or (word.endswith((".sh", ".py", ".txt")) and "/" in word):
            assert (tones.ROOT / word).exists(), f"{document} names {word}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = tones.ROOT / document
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_the_options_of_prepare_are_those_of_its_help() -> None:
    described = set(re.findall(r"^  (--[a-z-]+)", USAGE, re.MULTILINE))
    assert described == OPTIONS["prepare.sh"] - {"--help"}


def test_the_reader_of_documents_reads() -> None:
    text = (
        "```bash\n$ ./train.py --base-lr 0.1 \\\n  --use-fp16 1  # fast\n"
        "FOO=1 ./decode.py | cat\n```\n"
        "```toml\n./train.py --zzz\n```\n"
    )
    assert commands_in(text) == [
        ["./train.py", "--base-lr", "0.1", "--use-fp16", "1"],
        ["FOO=1", "./decode.py"],
        ["cat"],
    ]
    assert call_of(
        ["torchrun", "--nproc-per-node", "2", "train.py", "--seed", "1"], ("train.py",)
    ) == (
        "train.py",
        ["--seed", "1"],
    )
