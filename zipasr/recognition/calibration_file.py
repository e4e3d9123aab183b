"""Calibrations of a run: ``confidence.json`` in its folder, one for each way of decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zipasr.checkpoint.model_file import StoredModel
from zipasr.model.transducer import AsrModel
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.export_check import CONFIDENCE
from zipasr.recognition.exported_files import PLAIN_METHODS, plain_way
from zipasr.recognition.result_names import file_suffix
from zipasr.scoring.calibration import Calibration, read_calibrations, write_calibrations
from zipasr.search.config import DecodingConfig


def way_of(config: RecognitionConfig, acoustics: AcousticModel) -> str:
    """Name the weights and the search that a calibration is of; precision does not count."""
    suffix = file_suffix(config, replace(acoustics, use_bf16=False))
    return f"{config.decoding.decoding_method} {suffix}"


def stored_calibration(config: RecognitionConfig, acoustics: AcousticModel) -> Calibration | None:
    """Return the calibration of this way of decoding; ``None`` where the run has none.

    Raises:
        DataError: the file is damaged.
    """
    # A checkpoint by itself may be of any run.
    if config.checkpoint.checkpoint is not None:
        return None
    return read_calibrations(config.exp_dir / CONFIDENCE).get(way_of(config, acoustics))


def store_calibration(
    config: RecognitionConfig, acoustics: AcousticModel, calibration: Calibration
) -> Path:
    """Write a calibration beside those of other ways of decoding; return the path of the file.

    Raises:
        DataError: the file is damaged.
    """
    path = config.exp_dir / CONFIDENCE
    write_calibrations(path, read_calibrations(path) | {way_of(config, acoustics): calibration})
    return path


def copy_calibrations(
    config: RecognitionConfig, stored: StoredModel, model: AsrModel, folder: Path
) -> None:
    """Write what a run knows of the plain searches of a model into the folder of its export.

    Args:
        config: names the run and the checkpoints.
        stored: settings of the model.
        model: that is exported.
        folder: of the export.

    Raises:
        DataError: the file of the run is damaged.
    """
    acoustics = AcousticModel(model, stored.encoder, stored.model.context_size)
    found = {}
    for method in PLAIN_METHODS:
        decoding = DecodingConfig(decoding_method=method, beam_size=config.decoding.beam_size)
        plain = RecognitionConfig(
            exp_dir=config.exp_dir, checkpoint=config.checkpoint, decoding=decoding
        )
        if calibration := stored_calibration(plain, acoustics):
            found[plain_way(method, decoding.beam_size)] = calibration
    if found:
        write_calibrations(folder / CONFIDENCE, found)
