"""What the documents tell people to type is what the commands take."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from tests import tones
from zipasr.base.errors import UserError
from zipasr.base.recipe import NO_RECIPE
from zipasr.cli.command_flags import COMMANDS as TABLE
from zipasr.cli.flags import Command, read_words, resolve
from zipasr.cli.preparation_commands import IMPORT
from zipasr.cli.prepare_options import USAGE, Options, read_options
from zipasr.cli.verbs import VERBS

DOCUMENTS = sorted(
    path.relative_to(tones.ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "egs/*.md", "egs/*/*.md", "benchmarks/*.md")
    for path in tones.ROOT.glob(pattern)
)
COMMANDS = {command.name: command for command in TABLE if command.name in VERBS.values()}
#: Started as python -m local.NAME, or by stages of prepare.sh.
STAGES = {command.name: command for command in (*TABLE, IMPORT) if command.name not in COMMANDS}
SCRIPTS = (*COMMANDS, "prepare.sh")
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


def call_of(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the script that is called and its words; interpreter and launcher may stand before.

    The verb of ``zipasr`` stands for its script.
    """
    for position, word in enumerate(words):
        name, rest = Path(word).name, words[position + 1 :]
        if name == "zipasr" and rest and not rest[0].startswith("-"):
            return VERBS[rest[0]], rest[1:]
        if name.startswith("local.") and words[position - 1] == "-m":
            return name.removeprefix("local."), rest
        if name in SCRIPTS and not word.startswith("-"):
            return name, rest
    return None


ALL = [
    (document, words)
    for document in DOCUMENTS
    for words in commands_in((tones.ROOT / document).read_text(encoding="utf-8"))
]


def test_the_readme_shows_the_two_commands() -> None:
    text = (tones.ROOT / "README.md").read_text(encoding="utf-8")
    shown = [words[0] for words in commands_in(text)]
    assert "egs/espeak/run.sh" in shown
    assert "tests/run.sh" in shown


def test_the_readme_is_one_that_is_read_to_the_end() -> None:
    assert len((tones.ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_the_documents_show_every_command() -> None:
    called = {found[0] for _, words in ALL if (found := call_of(words))}
    assert called >= {*SCRIPTS}


def parse(command: Command, words: list[str]) -> None:
    resolve(command, read_words(command, words), NO_RECIPE, [command])
    assert not command.refused.keys() & {word.split("=")[0] for word in words}


@pytest.mark.parametrize(("document", "words"), ALL, ids=lambda value: str(value)[:60])
def test_what_is_shown_can_be_typed(document: str, words: list[str]) -> None:
    if found := call_of(words):
        name, rest = found
        if {"--help", "--help-all"} & {*rest}:
            pass
        elif name == "prepare.sh":
            read_options(rest)
        else:
            parse(COMMANDS[name] if name in COMMANDS else STAGES[name], rest)
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
    for name in described:
        try:
            read_options([name, "1"])
        except UserError as problem:
            assert "unknown option --" not in str(problem)  # noqa: PT017 - of one word, not two
    fields = {field.name for field in dataclasses.fields(Options)} - {"source"} | {"from"}
    assert {f"--{name.replace('_', '-')}" for name in fields} <= described


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
    launched = ["torchrun", "--nproc-per-node", "2", "train.py", "--seed", "1"]
    assert call_of(launched) == ("train.py", ["--seed", "1"])
    assert call_of(["zipasr", "ctc-decode", "--avg", "1"]) == ("ctc_decode.py", ["--avg", "1"])
    assert call_of(["python3", "-m", "local.train_bpe"]) == ("train_bpe", [])
    assert call_of(["zipasr", "--help"]) is None
