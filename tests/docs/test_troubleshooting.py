"""The page of troubleshooting: kinds of errors, and messages that the library really says."""

from __future__ import annotations

import re

import pytest

import zipasr
from tests.docs.messages import is_said
from tests.tones import ROOT
from zipasr.base import errors
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.cli.flags import all_flags
from zipasr.cli.prepare_options import USAGE
from zipasr.search.methods import METHODS

DOCS = ROOT / "docs"
PAGE = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^error: (.+)$", PAGE, re.M)
#: Messages that flags alone bring about, with the words that do.
TYPED = {
    "train.py: unrecognized arguments": "train.py --max-durations 300",
    "unknown --decoding-method": "decode.py --decoding-method greedy",
    "no recipe": "train.py --recipe espek",
    "--dynamic-batch": "export.py --dynamic-batch 0",
}


def test_every_kind_of_error_has_its_status() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| `zipasr\.(\w+)` \|", PAGE, re.M))
    kinds = [errors.UserError, *errors.UserError.__subclasses__()]
    ours = [kind for kind in kinds if kind.__name__ in zipasr.__all__]
    assert rows == {str(kind.exit_code): kind.__name__ for kind in ours}
    for status in rows:
        assert re.search(rf"^### {status}: ", PAGE, re.M)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda text: str(text)[:50])
def test_a_message_is_one_of_the_library(message: str) -> None:
    what, _, fix = message.removesuffix("...").partition(" Fix: ")
    if not any(message.startswith(start) for start in TYPED):
        assert is_said(what)
        assert is_said(fix)


@pytest.mark.parametrize("start", TYPED)
def test_a_message_about_flags_is_what_is_said(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (shown,) = [message for message in MESSAGES if message.startswith(start)]
    name, *words = TYPED[start].split()
    (command,) = [one for one in COMMANDS if one.name == name]
    with pytest.raises(errors.UserError) as caught:
        read(command, words)
    assert str(caught.value).startswith(shown.removesuffix("..."))


def test_messages_that_nobody_says_are_found() -> None:
    assert not is_said("the tokenizer has gone on holiday, come back later.")
    assert is_said("exp/x.pt is not a checkpoint.")


def documents() -> list[tuple[str, str]]:
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", *ROOT.glob("egs/*.md")]
    return [(path.name, path.read_text(encoding="utf-8")) for path in pages]


#: Flags of other programs that pages name.
OTHERS = """
--port --nproc-per-node --server-port --strict --site-dir --frames --utterances --basetemp --encoder
--decoder --joiner --tokens --compare --folders --split --only --out --version --hotwords-score
--node-rank --requeue
"""


def test_every_flag_that_is_named_exists() -> None:
    known = {one.name for command in COMMANDS for one in all_flags(command)}
    known |= {name for command in COMMANDS for name in (*command.spellings, *command.refused)}
    known |= set(re.findall(r"--[a-z][a-z-]+", USAGE)) | set(OTHERS.split())
    known |= {"--help", "--help-all", "--print-config"}
    for name, text in documents():
        for flag in re.findall(r"`(--[a-z][\w-]*\w)", text):
            assert flag in known, f"{name}: {flag}"


def test_the_searches_that_stream_are_those_of_the_table() -> None:
    page = (DOCS / "streaming.md").read_text(encoding="utf-8")
    sentence = page.partition("- **Searches** that work chunk by chunk:")[2].partition(
        "The others"
    )[0]
    streaming = [name for name, spec in METHODS.items() if spec.streams and not spec.alias_of]
    assert set(re.findall(r"`([\w-]+)`", sentence)) | {"ctc-decoding"} == {
        *streaming,
        "ctc-decoding",
    }
