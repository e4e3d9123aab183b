"""One decoding of one test set as files: a line of figures and the utterances; and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from zipasr.base.errors import DataError, UserError
from zipasr.base.files import atomic_path
from zipasr.scoring.records import Record, read_records, records_name, write_records


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a test set was decoded.

    Attributes:
        test_set: name of the split.
        key: method and its numbers, as in wer-summary files.
        suffix: of the result files.
        model: a line on the model.
        rtf: seconds of computing per second of speech.
        decoded_at: date and time, for people.
        scoring: how words were compared.
    """

    test_set: str
    key: str
    suffix: str
    model: str = ""
    rtf: float | None = None
    decoded_at: str = ""
    scoring: str = ""


@dataclass(frozen=True)
class Decoding:
    """A setting and what came out."""

    setting: Setting
    records: Sequence[Record]


def write_decoding(folder: Path, decoding: Decoding) -> None:
    """Write the two files of a decoding into the folder of its method."""
    setting = decoding.setting
    write_records(folder / records_name(setting.test_set, setting.suffix), decoding.records)
    with atomic_path(folder / _setting_name(setting)) as temporary:
        temporary.write_text(json.dumps(asdict(setting), indent=1) + "\n", encoding="utf-8")


def read_decodings(exp_dir: Path) -> list[Decoding]:
    """Read all decodings of a training run, sorted by test set and error rate.

    Raises:
        UserError: there is none.
        DataError: a file is damaged or missing.
    """
    decodings = [_read(path) for path in sorted(exp_dir.glob("**/setting-*.json"))]
    if not decodings:
        raise UserError(f"{exp_dir} holds no decoding to report on.", "run decode.py first.")
    return sorted(decodings, key=_by_set_and_rate)


def by_test_set(decodings: Iterable[Decoding]) -> dict[str, list[Decoding]]:
    """Group decodings by test set."""
    groups: dict[str, list[Decoding]] = {}
    for decoding in decodings:
        groups.setdefault(decoding.setting.test_set, []).append(decoding)
    return groups


def _setting_name(setting: Setting) -> str:
    return f"setting-{setting.test_set}-{setting.suffix}.json"


def _read(path: Path) -> Decoding:
    try:
        setting = Setting(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as problem:
        raise DataError(f"{path} is damaged: {problem}.", "run decode.py again.") from problem
    name = records_name(setting.test_set, setting.suffix)
    return Decoding(setting, read_records(path.with_name(name)))


def _by_set_and_rate(decoding: Decoding) -> tuple[str, float, str]:
    errors = sum(record.errors.total for record in decoding.records)
    words = sum(record.errors.ref_words for record in decoding.records)
    return decoding.setting.test_set, errors / max(1, words), decoding.setting.key
