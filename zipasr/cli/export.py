"""Export a trained model: for icefall, for TorchScript, and for sherpa-onnx."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut
from torch import Tensor

from zipasr.audio.sound_profile import copy_profile
from zipasr.base.constants import FRAMES_PER_SECOND
from zipasr.base.errors import DataError, UserError
from zipasr.checkpoint.averaging import LoadedWeights, read_chosen
from zipasr.checkpoint.checkpoint_file import save_checkpoint
from zipasr.checkpoint.model_file import (
    StoredModel,
    entries_of,
    stored_model,
    untrained_transducer,
)
from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.flags import Run
from zipasr.cli.model_commands import EXPORT
from zipasr.cli.recognition_commands import recognition_config
from zipasr.cli.verbs import as_typed
from zipasr.data.loaders import load_cuts
from zipasr.encoder.protocol import ExportLayout, Geometry
from zipasr.exporting.clients import (
    KEYWORDS,
    ExportedFiles,
    endpoint_settings,
    keywords_of,
    lines_to_paste,
)
from zipasr.exporting.config import ExportConfig, Shape
from zipasr.exporting.exporters import ExportJob, export_lm, export_onnx, export_torchscript
from zipasr.exporting.folder_files import (
    check_replaceable,
    client_limits,
    features_of,
    whole_folder,
    write_readme,
    write_sample,
    write_texts,
)
from zipasr.exporting.parity import Check, made_up_utterances, refuse_differences, table
from zipasr.lm.config import LmConfig
from zipasr.lm.neural import NeuralLm
from zipasr.model.build import describe
from zipasr.model.config import ModelConfig
from zipasr.recognition.acoustic_model import check_is_settled
from zipasr.recognition.best_average import with_checkpoints
from zipasr.recognition.calibration_file import copy_calibrations
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.resources import neural_lm
from zipasr.recognition.result_names import search_of
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of
from zipasr.scoring.decodings import read_decodings
from zipasr.scoring.result_files import ResultRow, results_table
from zipasr.scoring.word_errors import count_errors
from zipasr.text.tokenizer import PieceTokenizer, Tokenizer

# Utterances with which exported models are compared.
NUM_TRIED = 5


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder, unless an exported model differs from the one it was made from."""
    sys.stdout.write(f"{export_model(read(EXPORT, argv))}\n")
    return 0


def export_model(run: Run) -> Path:
    """Export as a command line says, and return the folder.

    Raises:
        UserError: flags are wrong, a package is missing, or the model cannot be exported.
        CheckpointError: no such checkpoints, or flags that contradict them.
        NumericError: an exported model gives other results.
    """
    export, config = run[ExportConfig], recognition_config(run)
    check_packages(export)
    check_lm(config.lm, export)
    if output_dir := export.output_dir:
        check_replaceable(output_dir)
    config = with_checkpoints(config, sys.stderr)
    chosen = read_chosen(config.exp_dir, config.checkpoint)
    stored = stored_model(chosen, config.model_flags).without_own_heads()
    if stored.notes:
        sys.stderr.write("".join(f"{line}\n" for line in (stored.describe(), *stored.notes)))
    check_can_export(stored, export.shape)
    layout = stored.encoder.export_layout()
    warn(*limits_of(export, layout, stored.model), untrained_transducer(chosen))
    pieces, tokenizer = tokens_of(chosen, config, stored)
    lm = language_model(config, tokenizer)
    keywords = keywords_of(export, layout, stored.model, tokenizer)
    cuts = some_cuts(config)
    with torch.device("cpu"):
        model = stored.build().eval()
    name = config.checkpoint.name
    whole_name = f"export-{name}{layout.chunks_name}"
    target = output_dir or config.exp_dir / whole_name
    shape = export.shape if not layout.is_streaming else replace(export.shape, frames=None)
    with whole_folder(target) as folder:
        utterances = utterances_of(cuts, stored.encoder.geometry)
        job = ExportJob(model, stored.encoder, folder, f"-{name}", utterances, shape)
        checks = write_models(job, entries_of(stored, chosen.checkpoint), export, lm)
        settings = settings_of(stored, name, checks)
        write_texts(folder, pieces, tokenizer, settings, results_of(config))
        if keywords:
            (folder / KEYWORDS).write_text(keywords, encoding="utf-8")
        copy_profile(chosen.path.parent, folder)
        copy_calibrations(config, stored, model, folder)
        if not write_sample(folder, cuts):
            warn("no recording of the test set can be read: the folder has no sample.")
        about = describe(stored.encoder, stored.model, stored.vocab_size)
        files = ExportedFiles(folder, layout, not shape.client_limits())
        write_readme(f"{name}: {about}", checks, files)
    sys.stdout.write(as_typed(f"\n{lines_to_paste(replace(files, folder=target))}\n"))
    return target


def check_packages(config: ExportConfig) -> None:
    """Ask for the packages that write and run ONNX.

    Raises:
        UserError: one is missing.
    """
    lacking = [name for name in ("onnx", "onnxruntime") if not importlib.util.find_spec(name)]
    if "onnx" in config.formats and lacking:
        raise UserError(
            f"--format onnx needs the package {lacking[0]}.",
            "pip install -r export-requirements.txt",
        )


def check_can_export(stored: StoredModel, shape: Shape) -> None:
    """Refuse what no exported graph exists for.

    Raises:
        UserError: the chunks of a streaming model are not settled, or a streaming file is asked to
            take something else than chunks and states.
    """
    check_is_settled(stored)
    layout = stored.encoder.export_layout()
    if layout.is_streaming and (
        not shape.takes_lengths or not (shape.is_fixed or shape.frames is None)
    ):
        raise UserError(
            "--max-len and --keep-x-lens are for files that take whole utterances, and this model "
            "hears chunks.",
            "leave them out; or let it hear whole utterances (--chunk-size -1 "
            "--left-context-frames -1, not with the first Zipformer).",
        )
    if layout.problem:
        raise UserError(layout.problem)


def limits_of(export: ExportConfig, layout: ExportLayout, heads: ModelConfig) -> list[str]:
    """Return what the user may not expect of the ONNX files."""
    if "onnx" not in export.formats:
        return []
    lines = [*client_limits(layout, heads), *export.shape.client_limits()]
    if layout.is_streaming and export.shape.is_fixed:
        seconds = int(layout.streaming_metadata["T"]) / FRAMES_PER_SECOND
        lines.append(f"the encoder's file takes one chunk of {seconds} s, of one stream.")
    return lines


def check_lm(config: LmConfig, export: ExportConfig) -> None:
    """Refuse a language model that has no export.

    Raises:
        UserError: it is an n-gram, or no ONNX file is asked for.
    """
    if config.exp_dir is not None and "onnx" not in export.formats:
        raise UserError(
            f"{config.exp_dir}: a language model is exported as an ONNX file.", "add --format onnx."
        )
    if config.lm_type == "ngram" and config.lm_exp_dir is not None:
        raise UserError(
            "--lm-type ngram: an n-gram is not exported.", "give --lm-type rnn or transformer."
        )


def tokens_of(
    chosen: LoadedWeights, config: RecognitionConfig, stored: StoredModel
) -> tuple[list[str], Tokenizer | None]:
    """Return the pieces of a model, and its tokenizer where there is one.

    Args:
        chosen: weights and the checkpoint that they come from.
        config: settings, with --tokens and --bpe-model.
        stored: the model.

    Raises:
        CheckpointError: --tokens or --bpe-model are not the tokens of the model.
        DataError: there is neither tokenizer nor table, or one is damaged.
    """
    tokenizer = tokenizer_of(chosen, config.tokens)
    check_vocab_size(stored.path, stored.vocab_size, tokenizer, config.tokens)
    is_table = isinstance(tokenizer, PieceTokenizer)
    return tokenizer.pieces(), None if is_table else tokenizer


def language_model(config: RecognitionConfig, tokenizer: Tokenizer | None) -> NeuralLm | None:
    """Return the language model that the flags name, if they do.

    Raises:
        UserError: the model has no tokenizer to compare it with.
        CheckpointError: it is missing, damaged, or of other tokens.
    """
    if config.lm.exp_dir is None:
        return None
    if tokenizer is None:
        raise UserError(
            f"{config.lm.exp_dir}: whether its tokens are those of the model cannot be known.",
            "add --bpe-model, the tokenizer of the model.",
        )
    return neural_lm(config, tokenizer)


def some_cuts(config: RecognitionConfig) -> list[Cut]:
    """Return a few utterances of the first test set; none if it is not prepared."""
    data = config.sets
    try:
        cuts = load_cuts(
            data.loading.manifest_dir,
            data.corpus,
            [data.splits["test"][0]],
            allow_commands=data.loading.allow_commands,
        )
        return list(cuts.subset(first=NUM_TRIED))
    except (DataError, KeyError, IndexError):
        return []


def utterances_of(cuts: Sequence[Cut], geometry: Geometry) -> list[Tensor]:
    """Return features to try models with, in turn of an even and an odd length.

    They are those of the cuts; noise stands for cuts that are missing or cannot be read.
    """
    found: list[Tensor] = []
    for cut in cuts:
        try:
            features = torch.from_numpy(cut.load_features()).float()
        except Exception:  # whatever the library says of files that are not there any more
            continue
        length = len(features) - (len(features) + len(found)) % 2
        if length >= geometry.min_frames:
            found.append(features[:length])
    if not found:
        warn("no features of the test set can be read: models are compared on noise.")
    return [*found, *made_up_utterances(geometry)][:NUM_TRIED]


def warn(*lines: str | None) -> None:
    """Say what the user may not expect, if there is anything."""
    sys.stderr.write("".join(f"warning: {line}\n" for line in lines if line))


def write_models(
    job: ExportJob, pretrained: dict[str, Any], config: ExportConfig, lm: NeuralLm | None
) -> list[Check]:
    """Write the models in all formats and show how they compare.

    Args:
        job: what is exported.
        pretrained: what ``pretrained.pt`` holds.
        config: formats.
        lm: language model to write beside ONNX files.

    Raises:
        NumericError: one differs.
    """
    checks: list[Check] = []
    if "pretrained" in config.formats:
        save_checkpoint(job.folder / "pretrained.pt", pretrained)
    if "torchscript" in config.formats:
        checks += export_torchscript(job)
    if "onnx" in config.formats:
        checks += export_onnx(job, config.kinds)
        checks += [] if lm is None else [export_lm(job.folder, lm)]
    if checks:
        sys.stdout.write(table(checks))
    refuse_differences(checks)
    return checks


def settings_of(stored: StoredModel, name: str, checks: Sequence[Check]) -> dict[str, object]:
    """Return what the folder says of its model."""
    layout = stored.encoder.export_layout()
    ends = {"endpoint": endpoint_settings()} if layout.is_streaming else {}
    return ends | {
        "features": features_of(stored.encoder.geometry.mel_bins),
        "model_type": layout.model_type,
        "encoder_schema": stored.encoder.schema,
        "encoder": asdict(stored.encoder),
        "model_schema": stored.model.schema,
        "model": asdict(stored.model),
        "vocab_size": stored.vocab_size,
        "checkpoint": name,
        "checks": [check._asdict() for check in checks],
    }


def _with_rest(key: str, search: str) -> str:
    """Return the name of a setting, and after it what else its files say of the search."""
    return " ".join([key, *(part for part in search.split("_") if part and part not in key)])


def results_of(config: RecognitionConfig) -> str:
    """Return the error rates of the decodings of these checkpoints; empty without."""
    try:
        decodings = read_decodings(config.exp_dir)
    except UserError:
        return ""
    rows = [
        ResultRow(
            decoding.setting.test_set,
            _with_rest(decoding.setting.key, search),
            count_errors((record.ref, record.hyp) for record in decoding.records),
            decoding.setting.rtf,
        )
        for decoding in decodings
        if (search := search_of(decoding.setting.suffix, config.checkpoint)) is not None
    ]
    if not rows:
        return ""
    about = f"{config.checkpoint.name}, decoded with the model itself, before it was exported"
    if any("rescor" in row.method for row in rows):
        about += "; of rescoring, the weights that are best on each set"
    return f"{about}:\n\n{results_table(rows)}"
