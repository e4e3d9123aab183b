"""Words of the command ``zipasr`` in place of those of the scripts, such as ``./train.py``.

Messages, help and examples are written with the names of the scripts. They are shown as the user
would type them: whoever typed ``zipasr train`` reads ``zipasr decode``, not ``./decode.py``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

#: Verbs with the scripts, or the stage, that they stand for, in the order of the help.
VERBS = {
    "prepare": "prepare.sh",
    "validate": "validate_data",
    "train": "train.py",
    "decode": "decode.py",
    "ctc-decode": "ctc_decode.py",
    "streaming-decode": "streaming_decode.py",
    "transcribe": "transcribe.py",
    "report": "report.py",
    "average": "average.py",
    "export": "export.py",
    "train-lm": "train_lm.py",
    "info": "info.py",
    "doctor": "doctor.py",
}
VERB_OF = {script: verb for verb, script in VERBS.items()}
_SCRIPTS = "|".join(map(re.escape, VERBS.values()))

# What is typed in a checkout -> what is typed where the package is installed.
_REPLACED = (
    (
        re.compile(rf"(?<![\w./-])(?:\./|python3? -m local\.)?({_SCRIPTS})(?!\w)"),
        lambda found: f"zipasr {VERB_OF[found[1]]}",
    ),
    (re.compile(r"python3? -m local\."), lambda _: "python -m zipasr "),
    (
        re.compile(r"local/install\.sh requirements\.txt egs/(\w+)/requirements\.txt"),
        lambda found: f'pip install "zipasr[{found[1]}]"',
    ),
    (
        re.compile(r"local/install\.sh requirements\.txt && source \S+/activate"),
        lambda _: "pip install zipasr",
    ),
    (
        re.compile(r"pip install -r (\w+)-requirements\.txt"),
        lambda found: f'pip install "zipasr[{found[1]}]"',
    ),
)


def is_zipasr(program: str) -> bool:
    """Say whether a program, as in ``sys.argv[0]``, is the command ``zipasr``."""
    path = Path(program)
    return path.stem == "zipasr" or path.parts[-2:] == ("zipasr", "__main__.py")


def program_words(program: str) -> list[str]:
    """Return what was typed before the flags of a training: the script, or ``zipasr train``."""
    return ["zipasr", "train"] if is_zipasr(program) else [program]


def in_verbs(text: str) -> str:
    """Return a text with the words of ``zipasr`` in place of those of the scripts."""
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return text


def as_typed(text: str) -> str:
    """Return a text in the words that the user typed: those of ``zipasr``, or of the scripts."""
    return in_verbs(text) if is_zipasr(sys.argv[0]) else text
