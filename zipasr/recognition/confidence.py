"""Calibrations of a run: ``confidence.json`` in its folder, one for each way of decoding."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.result_names import file_suffix
from zipasr.scoring.calibration import Calibration

FILE = "confidence.json"


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
    path = config.exp_dir / FILE
    values = _read(path).get(way_of(config, acoustics))
    if values is None:
        return None
    try:
        return Calibration(**values)
    except (TypeError, ValueError) as problem:
        raise _damaged(path) from problem


def store_calibration(
    config: RecognitionConfig, acoustics: AcousticModel, calibration: Calibration
) -> Path:
    """Write a calibration beside those of other ways of decoding; return the path of the file.

    Raises:
        DataError: the file is damaged.
    """
    path = config.exp_dir / FILE
    known = _read(path) | {way_of(config, acoustics): asdict(calibration)}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise _damaged(path) from problem
    if not isinstance(known, dict):
        raise _damaged(path)
    return known


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path}, the calibration of confidence, is damaged.",
        "remove it; ./decode.py --calibrate 1 makes it again.",
    )
