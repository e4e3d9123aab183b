"""run.json: what a training was made from, and how each of its sittings ended."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lhotse import CutSet

from zipasr.base.config import schema_of, to_dict
from zipasr.base.distributed import INTERRUPTED
from zipasr.base.environment import environment_report
from zipasr.base.errors import UserError
from zipasr.base.files import sha256_of, write_text
from zipasr.cli.flags import Run
from zipasr.cli.verbs import program_words
from zipasr.data.config import DataConfig, Extra
from zipasr.data.loaders import load_cuts, load_extra
from zipasr.data.manifests import manifests_at, manifests_of_split
from zipasr.scoring.training_facts import RUN_FILE, read_sessions
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import TrainConfig

Facts = dict[str, Any]


def facts_of(run: Run, words: Sequence[str], tokenizer: Tokenizer) -> Facts:
    """Return all that a session depends on and that is known before it starts.

    Paths inside the working or the home directory are written relative to it.

    Args:
        run: of train.py.
        words: script and flags, as typed.
        tokenizer: to train with.

    Raises:
        DataError: manifests are missing or damaged.
    """
    program, *verb = program_words(words[0])
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        "ended": None,
        "exit": None,
        "trained": False,
        "command": [Path(program).name, *verb, *(portable(word) for word in words[1:])],
        "recipe": run.recipe.name,
        "world_size": run[TrainConfig].world_size,
        "seed": run[TrainConfig].seed,
        "tokenizer": {
            "sha256": hashlib.sha256(tokenizer.model_bytes).hexdigest(),
            "vocab_size": tokenizer.vocab_size,
        },
        "data": {
            use: [set_facts(run[DataConfig], run.recipe.corpus, split) for split in splits]
            for use, splits in run.recipe.splits.items()
            if use in ("train", "valid")
        },
        "mixed in": [extra_facts(extra) for extra in run[DataConfig].extras],
        "config": {
            schema_of(cls): _portable_all(to_dict(value)) for cls, value in run.values.items()
        },
    }


def set_facts(data: DataConfig, corpus: str, split: str) -> Facts:
    """Return name, hash and size of a split; a large one is hashed, its cuts not counted.

    Raises:
        DataError: its manifest is missing or damaged.
    """
    paths = manifests_of_split(data.manifest_dir, corpus, split)
    cuts = load_cuts(data.manifest_dir, corpus, [split], allow_commands=data.allow_commands)
    return {"split": split} | _facts_of(paths, cuts)


def extra_facts(extra: Extra) -> Facts:
    """Return the same of a corpus that is mixed in.

    Raises:
        DataError: its manifest is missing or damaged.
    """
    facts = _facts_of(manifests_at(extra.path), load_extra(extra))
    return {"corpus": extra.name, "weight": extra.weight} | facts


def _facts_of(paths: Sequence[Path], cuts: CutSet) -> Facts:
    """Name manifests by the first of them, or the folder they are pieces in, and by their hash."""
    name = paths[0] if len(paths) == 1 else paths[0].parent
    found: Facts = {"manifest": portable(str(name)), "sha256": sha256_of(paths)}
    if not cuts.is_lazy:
        hours = sum(cut.duration for cut in cuts) / 3600
        found |= {"cuts": len(cuts), "hours": round(hours, 4)}
    return found


def begin(exp_dir: Path, facts: Facts) -> None:
    """Add a session to ``run.json``; one before it that has no end was ended from outside."""
    sessions = read_sessions(exp_dir)
    if sessions and sessions[-1].get("exit") is None:
        sessions[-1]["exit"] = "ended from outside"
    _write(exp_dir, [*sessions, {**facts, "environment": environment_report()}])


def note(exp_dir: Path, facts: Facts, values: Facts) -> None:
    """Add what became known while the session of ``facts`` runs."""
    sessions = read_sessions(exp_dir)
    if sessions and sessions[-1].get("started") == facts["started"]:
        sessions[-1] |= values
        _write(exp_dir, sessions)


def end(exp_dir: Path, facts: Facts, reason: str) -> None:
    """Write when and how the session of ``facts`` ended; nothing if it is not the last one."""
    sessions = read_sessions(exp_dir)
    if sessions and sessions[-1].get("started") == facts["started"]:
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        sessions[-1] |= {"ended": now, "exit": reason}
        _write(exp_dir, sessions)


@contextmanager
def with_end(exp_dir: Path, facts: Facts) -> Iterator[None]:
    """Write how the block ended; see ``end``."""
    reason = "finished"
    try:
        yield
    except BaseException as error:
        reason = _reason(error)
        raise
    finally:
        # A full disk must not hide why the training ended.
        try:
            end(exp_dir, facts, reason)
        except OSError as problem:
            sys.stderr.write(f"{exp_dir / RUN_FILE} is not written: {problem.strerror}\n")


def portable(word: str) -> str:
    """Return a path, or a flag with one, as it would be on another machine, where that can be said.

    A path keeps a slash: without one, it would be the name of a recipe.
    """
    name, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    for folder, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if value.startswith(f"{folder}/") and folder != Path("/"):
            rest = value[len(f"{folder}/") :]
            return name + equals + (prefix or ("" if "/" in rest else "./")) + rest
    return word


def _portable_all(values: Facts) -> Facts:
    return {
        name: portable(value) if isinstance(value, str) else value for name, value in values.items()
    }


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "interrupted" if error.code == INTERRUPTED else f"exit status {error.code}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, UserError):
        return f"error: {error.what}"
    return f"{type(error).__name__}: {error}"


def _write(exp_dir: Path, sessions: Sequence[Facts]) -> None:
    text = json.dumps({"sessions": sessions}, indent=1, ensure_ascii=False)
    write_text(exp_dir / RUN_FILE, text + "\n")
