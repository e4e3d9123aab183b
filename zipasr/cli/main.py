"""The command ``zipasr``: a verb for each script of the top level, and for the check of data."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipasr import __version__
from zipasr.base.errors import UserError, nearest
from zipasr.cli.verbs import VERBS

ABOUT = {
    "prepare": "make the data of a recipe: corpus, features, tokenizer, checks",
    "validate": "check manifests and features, say what training would drop, and why",
    "train": "train a transducer or a CTC model; given again, go on with it",
    "decode": "transcribe the test sets of a recipe, report word error rates",
    "ctc-decode": "the same through the CTC head",
    "streaming-decode": "the same chunk by chunk, with a causal model",
    "transcribe": "transcribe recordings of any length",
    "report": "write the report on a training run, or compare it with another",
    "average": "write the average of checkpoints as one file",
    "export": "export a model: weights, TorchScript, ONNX for sherpa-onnx",
    "train-lm": "train a language model for the search",
    "info": "tell what a checkpoint, a run or an exported model is",
    "doctor": "examine this machine, and say what to do",
}
# What other programs call what a command with flags does here.
ELSEWHERE = {
    "demo": "zipasr prepare, train and decode --recipe digits, one after the other.",
    "download": "zipasr prepare --recipe librispeech --stage 0 --stop-stage 0",
    "import": "zipasr prepare --recipe my --from FILE_OR_FOLDER",
    "finetune": "zipasr train --do-finetune 1 --finetune-ckpt FILE",
    "fine-tune": "zipasr train --do-finetune 1 --finetune-ckpt FILE",
    "resume": "zipasr train, with the flags of before.",
    "tune-batch": "zipasr train --dry-run 1",
    "list-presets": "zipasr train --help lists the values of --preset.",
    "eval": "zipasr decode",
    "evaluate": "zipasr decode",
    "test": "zipasr decode",
    "infer": "zipasr transcribe FILE",
    "recognize": "zipasr transcribe FILE",
    "recognise": "zipasr transcribe FILE",
    "align": "zipasr transcribe --align TEXT FILE",
}
# Called by prepare, stage by stage; each has flags of its own.
STAGES = (
    "import_corpus",
    "download_corpus",
    "prepare_corpus",
    "compute_fbank",
    "train_bpe",
    "validate_data",
    "prepare_lm_text",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first; return its exit status."""
    first, *words = [*(sys.argv[1:] if argv is None else argv)] or [""]
    if first in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    if first == "--version":
        sys.stdout.write(f"zipasr {__version__}\n")
        return 0
    if not first:
        sys.stderr.write(usage())
        return UserError.exit_code
    return run(first, words)


def run(name: str, words: Sequence[str]) -> int:
    """Run one command; a name may be spelt with ``-`` or ``_``.

    Args:
        name: verb, or program of a stage.
        words: flags.
    """
    verb, stage = name.replace("_", "-"), name.replace("-", "_")
    if verb == "prepare":
        from zipasr.cli.stages import main as prepare

        return prepare(words)
    if verb not in VERBS and stage not in STAGES:
        hint = ELSEWHERE.get(verb) or nearest(verb, VERBS) or "zipasr --help lists the commands."
        error = UserError(f"zipasr has no command {name!r}.", hint)
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    from zipasr.cli.entry import start

    return start(VERBS.get(verb, stage), words)


def usage() -> str:
    """Return the help: the commands, with a line about each."""
    rows = [f"  {verb:<18}{about}" for verb, about in ABOUT.items()]
    return "\n".join(
        [
            "usage: zipasr COMMAND [--FLAG VALUE] ...",
            "",
            "Train, decode and ship Zipformer transducers.",
            "",
            "commands:",
            *rows,
            "",
            "zipasr COMMAND --help has examples and the flags that are used most; zipasr --version "
            "tells",
            "the version. A recipe is looked for in egs/ of the current folder, then among those "
            "built in.",
            "",
        ]
    )
