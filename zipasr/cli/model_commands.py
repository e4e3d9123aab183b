"""Commands on trained models: average.py, export.py, report.py, info.py; and doctor.py."""

from __future__ import annotations

from dataclasses import replace

from zipasr.base.config import flag_name, parse_bool
from zipasr.base.recipe import Recipe
from zipasr.checkpoint.config import ChooseCheckpoint, ExpConfig
from zipasr.cli.config import (
    LM_WITHOUT_EFFECT,
    RETURN_CUTS,
    STORED,
    AcceptedConfig,
    InfoConfig,
    ReportConfig,
)
from zipasr.cli.flags import CHECKPOINT_CHOICES, Command, Typed, names, not_yet
from zipasr.cli.recognition_commands import DECODE, SEARCH_WITHOUT_EFFECT
from zipasr.data.config import DataConfig
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.exporting.config import ExportConfig
from zipasr.lm.config import LM_SIZES, LmConfig
from zipasr.recognition.config import ConfidenceConfig
from zipasr.text.config import TokenizerConfig, TokenTableConfig

_AVERAGE_WITHOUT_EFFECT = dict.fromkeys(
    [flag_name(name) for cls in ENCODER_TYPES.values() for name in cls.free_when_decoding],
    "it is chosen when the average is used",
)

# What no export has, with what there is instead.
_EXPORT_LATER = {
    "--dynamic-batch": ("1", not_yet("files take any number of streams, one too")),
    "--use-external-data": (
        "0",
        not_yet("onnx.save of a file with save_as_external_data=True puts its weights aside"),
    ),
    "--use-whisper-features": (
        "0",
        not_yet("models here hear log-mel features of 80 bands, from ./prepare.sh --stage 2"),
    ),
}


def _with_search(command: Command) -> Command:
    """Return a command that does not decode itself, with the flags of a search for --auto-avg."""
    searching = (c for c in DECODE.configs if c not in (AcceptedConfig, ConfidenceConfig))
    search = replace(
        command,
        configs=tuple(dict.fromkeys((*command.configs, *searching))),
        stored=DECODE.stored,
        encoders=DECODE.encoders,
        own=DECODE.own,
        without_effect=SEARCH_WITHOUT_EFFECT,
    )

    def choose(typed: Typed, recipe: Recipe) -> Command:
        of_recipe = parse_bool(str(recipe.flags.get("auto-avg", "0")))
        is_chosen = any(typed.get(name) for name in CHECKPOINT_CHOICES)
        return search if "auto_avg" in typed or (of_recipe and not is_chosen) else command

    return replace(command, variants=(search,), choose=choose)


AVERAGE = _with_search(
    Command(
        "average.py",
        "Write the average of checkpoints as one file.",
        (ExpConfig, ChooseCheckpoint, TokenTableConfig),
        "average:main",
        examples=(
            ("./average.py --recipe espeak", "as the recipe says"),
            ("./average.py --recipe espeak --epoch 5 --avg 2", "epochs 4 and 5"),
            ("./average.py --recipe espeak --auto-avg 1", "what is best on the dev set"),
        ),
        basic=names("recipe exp_dir epoch iter avg use_averaged_model auto_avg tokens"),
        stored=STORED,
        encoders=ENCODER_TYPES,
        defaults={"avg": 9},
        without_effect=_AVERAGE_WITHOUT_EFFECT,
    )
)

REPORT = Command(
    "report.py",
    "Write the report on the decodings of a training run, or compare it with another run.",
    (ExpConfig, ReportConfig),
    "report:main",
    examples=(
        ("./report.py --recipe espeak", "report.html and report.md in the folder of the run"),
        ("./report.py --exp-dir exp/b --compare-with exp/a", "what b recognises better than a"),
        ("./report.py --exp-dir exp/a --watch 10", "of a run in training: a page that reloads"),
    ),
    basic=names("recipe exp_dir compare_with watch embed_audio_mb"),
    recipe="optional",
)

DOCTOR = Command(
    "doctor.py",
    "Examine this machine: versions, memory, disk, GPU, compilers, decoders, a self-test.",
    (),
    "doctor:main",
    examples=(("./doctor.py", "what is there, what is missing, and what to do about it"),),
    recipe="optional",
)

INFO = Command(
    "info.py",
    "Tell what a checkpoint, a run or an exported model is, and how it was made.",
    (InfoConfig,),
    "info:main",
    examples=(
        ("./info.py exp/espeak", "the last checkpoint of a run, and what it was trained on"),
        ("./info.py pretrained.pt exp/my/onnx", "a file, and a folder of export.py"),
        ("./info.py exp/espeak/epoch-5.pt --json 1", "all settings, for programs"),
    ),
    basic=names("json"),
    operands=("FILE", "checkpoints, ONNX files, and folders of runs or of export.py"),
    recipe="optional",
)

EXPORT = _with_search(
    Command(
        "export.py",
        "Export a trained model: averaged weights, TorchScript, and ONNX as sherpa-onnx reads it.",
        (
            ExpConfig,
            ChooseCheckpoint,
            ExportConfig,
            LmConfig,
            *LM_SIZES.values(),
            TokenizerConfig,
            TokenTableConfig,
            DataConfig,
        ),
        "export:main",
        examples=(
            ("./export.py --recipe espeak", "pretrained.pt and ONNX files"),
            ("./export.py --recipe espeak --format torchscript", "TorchScript"),
            ("./export.py --recipe espeak --fp16 1 --chunk-size 32", "half precision as well"),
        ),
        basic=names(
            "recipe exp_dir epoch avg auto_avg checkpoint format "
            "enable_int8_quantization fp16 output_dir chunk_size"
        ),
        defaults={"avg": 9},
        own=("lm-scale",),
        stored=STORED,
        encoders=ENCODER_TYPES,
        refused=_EXPORT_LATER,
        without_effect=LM_WITHOUT_EFFECT | RETURN_CUTS,
    )
)
