"""Loading of models for programs: from runs, checkpoints, and exported files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from zipasr.api.wording import in_arguments, worded_for_programs
from zipasr.audio.sound_profile import PROFILE
from zipasr.base.errors import CheckpointError, UserError, nearest
from zipasr.recognition.config import Kind, LongFormConfig, ModelFileConfig
from zipasr.recognition.export_check import check_files
from zipasr.recognition.exported_files import is_exported_folder
from zipasr.recognition.long_form import Cutting
from zipasr.recognition.sherpa_model import SherpaConfig, SherpaModel, load_sherpa_model

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zipasr.cli.keywords import ModelSettings
    from zipasr.recognition.speech_model import Model

Precision = Literal["auto", "float32", "bfloat16", "int8", "fp16"]

_CHECKPOINTS = ("epoch-*.pt", "checkpoint-*.pt")
_EXPORTED_KINDS: Mapping[str, Kind] = {"auto": "", "float32": "", "int8": "int8", "fp16": "fp16"}
_SHERPA_SETTINGS = {"beam_size", "blank_penalty", "context_score", "num_threads"}
_CUTTING = {"window", "overlap"}
# Flags that arguments of ``load_model`` stand for.
_ARGUMENTS = {
    "exp_dir": "path",
    "checkpoint": "path",
    "model": "path",
    "nn_model_filename": "path",
    "tokens": "tokens",
    "bpe_model": "tokens",
    "decoding_method": "decoding_method",
    "use_bf16": "precision",
}


def load_model(
    path: str | Path,
    *,
    tokens: str | Path | None = None,
    device: str = "cpu",
    precision: Precision = "auto",
    decoding_method: str = "greedy_search",
    **settings: Unpack[ModelSettings],
) -> Model:
    """Load a model that recognises speech.

    Args:
        path: folder of a training run (its last epoch, averaged as the recipe says), a checkpoint
            of ours or of icefall, a ``pretrained.pt``, a TorchScript file, or a folder of ONNX
            files from ``export.py``, which sherpa-onnx runs without torch.
        tokens: ``tokens.txt`` or ``bpe.model``, where the tokens are neither in the file nor
            beside it.
        device: as torch writes it, such as ``cuda`` or ``cuda:1``.
        precision: of the encoder; ``auto``: bfloat16 where the recipe says so and the device is
            fast at it, else float32. Of an exported folder also ``int8`` and ``fp16``.
        decoding_method: any of ``./decode.py --decoding-method help``; a model without transducer
            is read by its CTC head.
        settings: flags of ``transcribe.py`` about model and search, such as ``beam_size=8``,
            ``epoch=11``, ``avg=3``, ``chunk_size=32``, ``left_context_frames=128``.

    Raises:
        CheckpointError: there is no such model, it is damaged, or a setting contradicts it.
        DataError: its tokens are missing.
        ResourceError: the machine lacks the device, or a package is missing.
        UserError: a setting is unknown or does not go with the model.
    """
    own = {"path": path, "tokens": tokens, "decoding_method": decoding_method}
    table = None if tokens is None else Path(tokens)
    with worded_for_programs(settings | own, _ARGUMENTS):
        return _load(_Wanted(Path(path), table, device, precision, decoding_method, dict(settings)))


class _Wanted(NamedTuple):
    """What ``load_model`` is given; see there."""

    place: Path
    tokens: Path | None
    device: str
    precision: str
    decoding_method: str
    values: dict[str, Any]


def _load(wanted: _Wanted) -> Model:
    place, precision = wanted.place, wanted.precision
    if is_exported_folder(place):
        return _load_exported(wanted)
    if place.suffix == ".onnx":
        raise UserError(f"{place} is one file of an exported model.", "give the folder of it.")
    if precision not in ("auto", "float32", "bfloat16"):
        if precision in _EXPORTED_KINDS:
            raise UserError(f"precision={precision!r} is for exported folders; {place} is none.")
        raise UserError(f"precision={precision!r} is unknown.", "give auto, float32 or bfloat16.")
    if place.is_dir():
        place = _model_in(place)
    elif not place.is_file():
        raise CheckpointError(f"there is no file or folder {place}.", "see that the path is right.")
    return _load_torch(wanted._replace(place=place))


def _load_exported(wanted: _Wanted) -> SherpaModel:
    folder, _, device, precision, decoding_method, values = wanted
    if device != "cpu":
        raise UserError(f"device={device!r}: exported folders run on the CPU.")
    if precision not in _EXPORTED_KINDS:
        raise UserError(
            f"precision={precision!r}: exported files are float32, int8 or fp16.", "choose one."
        )
    known = _SHERPA_SETTINGS | _CUTTING
    for name in values.keys() - known:
        hint = nearest(name, known) or f"exported models have {', '.join(sorted(known))}."
        raise UserError(f"{name}={values[name]!r} cannot change the exported model {folder}.", hint)
    kept = {name: value for name, value in values.items() if name in _SHERPA_SETTINGS}
    config = SherpaConfig(decoding_method=decoding_method, kind=_EXPORTED_KINDS[precision], **kept)
    return load_sherpa_model(folder, config, _cutting(values), wanted.tokens)


def _cutting(values: Mapping[str, Any]) -> Cutting:
    try:
        long = LongFormConfig(**{name: values[name] for name in _CUTTING & values.keys()})
    except ValueError as refusal:
        raise UserError(str(refusal)) from refusal
    return Cutting(long.window, long.overlap)


def _model_in(folder: Path) -> Path:
    """Return a run folder as it is, of another folder with one model the file of it.

    Raises:
        CheckpointError: there is no model in it.
    """
    if any(path for pattern in _CHECKPOINTS for path in folder.glob(pattern)):
        return folder
    files = [*folder.glob("pretrained.pt")] or [*folder.glob("jit_script*.pt")]
    if len(files) == 1:
        check_files(folder, [files[0].name, PROFILE])
        return files[0]
    raise CheckpointError(
        f"there is no model in {folder}: no epoch-*.pt, pretrained.pt or *.onnx.",
        "give the folder of a training run or of an export, or a file.",
    )


def _load_torch(wanted: _Wanted) -> Model:
    from zipasr.checkpoint.checkpoint_file import reader_of_parts
    from zipasr.checkpoint.selection import with_last_epoch
    from zipasr.cli.command_flags import read
    from zipasr.cli.flags import words_of
    from zipasr.cli.recognition_commands import LOAD_MODEL, recognition_config
    from zipasr.recognition.torch_model import load_model_file, load_torch_model

    place, tokens, device, precision, decoding_method, values = wanted
    is_script = place.is_file() and _is_torchscript(place)
    own: dict[str, Any] = {"decoding_method": decoding_method}
    if not is_script:
        own["exp_dir" if place.is_dir() else "checkpoint"] = place
    if tokens is not None:
        own["bpe_model" if tokens.suffix == ".model" else "tokens"] = tokens
    if precision != "auto":
        own["use_bf16"] = precision == "bfloat16"
    for name in _ARGUMENTS & values.keys():
        raise UserError(
            f"{name}={values[name]!r}: it is said by another argument.", "leave it out."
        )
    # The settings of a run are those of its recipe; a file by itself has none.
    command = LOAD_MODEL if place.is_dir() else replace(LOAD_MODEL, recipe="made")
    run = read(command, words_of(own | values))
    config, long = recognition_config(run, device), run[LongFormConfig]
    cutting = Cutting(long.window, long.overlap)
    if is_script:
        file = ModelFileConfig(nn_model_filename=place)
        return load_model_file(file, config, cutting, long.word_times)
    checkpoints = reader_of_parts()
    choose, notes = with_last_epoch(
        config.exp_dir, config.checkpoint, checkpoints, is_avg_typed=config.is_avg_typed
    )
    config = replace(config, checkpoint=choose)
    model = load_torch_model(config, cutting, long.word_times, checkpoints)
    model.about = (*model.about, *(in_arguments(note, values) for note in notes))
    return model


def _is_torchscript(path: Path) -> bool:
    """Say whether a file holds code beside weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
