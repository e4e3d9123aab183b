"""Tell what a checkpoint, a run or an exported model is, and how it was made."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zipasr.base.errors import CheckpointError, UserError
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.cli.command_flags import read
from zipasr.cli.config import InfoConfig, TranscribeConfig
from zipasr.cli.entry import guarded, tell
from zipasr.cli.model_commands import INFO
from zipasr.cli.recognition_commands import TRANSCRIBE, recognition_config
from zipasr.cli.transcribe import load
from zipasr.recognition.config import LongFormConfig, ModelFileConfig
from zipasr.recognition.export_check import check_all_files, sample_of
from zipasr.recognition.exported_files import files_in, is_exported_folder, read_header
from zipasr.scoring.training_facts import read_sessions, training_facts
from zipasr.scoring.word_errors import count_errors

Facts = dict[str, Any]

# Counters of a training in a checkpoint.
_COUNTERS = (
    "cur_epoch",
    "batch_idx_train",
    "seconds_trained",
    "best_valid_loss",
    "best_valid_epoch",
    "best_wer",
    "best_wer_epoch",
    "world_size",
)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Print what each file or folder is; one that is no model is told, and the others go on.

    Returns:
        The exit status of the last that is missing, damaged, or no model; 0 if all are models.
    """
    run = read(INFO, argv)
    found: dict[str, Facts] = {}
    status = 0
    for word in run.operands:
        try:
            found[word] = facts_of(Path(word))
        except UserError as problem:
            tell(problem, argv)
            status = problem.exit_code
    if run[InfoConfig].json and found:
        sys.stdout.write(json.dumps(found, indent=1, default=str, ensure_ascii=False) + "\n")
        return status
    for facts in found.values():
        for name, text in lines_of(facts):
            sys.stdout.write(f"{name:<11} {text}\n")
        sys.stdout.write("\n" * (len(found) > 1))
    return status


def facts_of(path: Path) -> Facts:
    """Return what is known of a checkpoint, of the last one of a run, or of exported files.

    Raises:
        CheckpointError: there is no such file, it is damaged, or holds no model.
    """
    if path.is_dir() and is_exported_folder(path):
        facts = _exported(files_in(path, prefers_ctc=False))
        return facts | {"check": [line for line in (check_all_files(path), *_heard(path)) if line]}
    if path.suffix == ".onnx" and path.is_file():
        return _exported([path])
    return _checkpoint(path)


def lines_of(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each line for people; ``--json 1`` shows all of the rest."""
    for file in facts["files"]:
        size = Path(file).stat().st_size
        yield "file", f"{file} ({size / 1e6:.1f} MB)"
    for name in ("model", "note", "check"):
        yield from ((name, text) for text in facts.get(name, ()))
    if tokenizer := facts.get("tokenizer"):
        size, digest = tokenizer["vocab_size"], tokenizer["sha256"]
        yield "tokenizer", f"{size} tokens, sha256 {digest[:12]}"
    yield from facts.get("run", {}).items()
    if counters := facts.get("counters"):
        yield "trained", _progress(counters)
    environment = facts.get("environment")
    if environment and "machine" not in facts.get("run", {}):
        versions = (f"{k} {v}" for k, v in environment.items() if v not in ("", "absent"))
        yield "with", ", ".join(versions)
    yield from facts.get("metadata", {}).items()


def _progress(counters: Mapping[str, Any]) -> str:
    parts = [f"epoch {counters.get('cur_epoch', '?')}"]
    if updates := counters.get("batch_idx_train"):
        parts += [f"{updates} updates"]
    if seconds := counters.get("seconds_trained"):
        parts += [f"{seconds / 3600:.2f} h"]
    for name, what in (("valid_loss", "dev loss {:.4g}"), ("wer", "dev WER {:.2f} %")):
        best = counters.get(f"best_{name}")
        if isinstance(best, float) and best < float("inf"):
            epoch = counters.get(f"best_{name.removesuffix('_loss')}_epoch")
            parts += [f"best {what.format(best)} in epoch {epoch}"]
    return ", ".join(parts)


def _exported(files: Sequence[Path]) -> Facts:
    # Torch is not imported for these.
    shapes: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for path in files:
        header = read_header(path)
        if header is None:
            raise CheckpointError(f"{path} is no ONNX file, or a damaged one.", "export it again.")
        shapes[str(path)] = {"inputs": dict(header.inputs), "outputs": dict(header.outputs)}
        metadata = metadata or dict(header.metadata)
    return {"files": [*shapes], "metadata": metadata, "shapes": shapes}


def _heard(folder: Path) -> Iterator[str]:
    """Yield what the model of an exported folder hears in its recording, beside what is said."""
    sample = sample_of(folder)
    if sample is None:
        return
    path, said = sample
    run = read(TRANSCRIBE, ["--model", str(folder), str(path)], tells=False)
    parts = (run[ModelFileConfig], recognition_config(run), run[LongFormConfig])
    try:
        heard = load(*parts, run[TranscribeConfig]).transcribe(path).text
    except UserError as problem:  # a package is missing, or the recording is damaged
        yield f"{path} was not transcribed: {problem}"
        return
    errors = count_errors([(said.split(), heard.split())])
    found = "as expected" if not errors.total else f"{errors.total} errors, expected: {said}"
    yield f"{path}: {heard} ({found})"


def _checkpoint(path: Path) -> Facts:
    from zipasr.checkpoint.averaging import read_chosen
    from zipasr.checkpoint.checkpoint_file import epoch_checkpoint, saved_epochs
    from zipasr.checkpoint.model_file import stored_model, stored_tokenizer

    run: dict[str, str] = {}
    sessions: list[dict[str, Any]] = []
    if path.is_dir():
        epochs = saved_epochs(path)
        if not epochs:
            raise CheckpointError(
                f"{path} holds no model: neither epoch-*.pt nor exported files.",
                "name a checkpoint, the folder of a run, or one that export.py wrote.",
            )
        run = {name.lower(): text for name, text in training_facts(path).rows}
        sessions, path = read_sessions(path), epoch_checkpoint(path, max(epochs))
    chosen = read_chosen(path.parent, ChooseCheckpoint(checkpoint=path))
    stored = stored_model(chosen, {})
    entries = chosen.checkpoint
    facts: Facts = {
        "files": [str(path)],
        "model": [stored.describe().partition(": ")[2]],
        "note": list(stored.notes),
        "run": run,
        "counters": {name: entries[name] for name in _COUNTERS if entries.get(name) is not None},
        "environment": dict(entries.get("env_info") or {}),
        "settings": dict(entries.get("configs") or {}),
        "sessions": sessions,
    }
    if "tokenizer" in entries:
        digest = hashlib.sha256(stored_tokenizer(entries).model_bytes).hexdigest()
        facts["tokenizer"] = {"vocab_size": stored.vocab_size, "sha256": digest}
    return facts
