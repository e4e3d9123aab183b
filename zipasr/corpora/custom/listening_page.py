"""Page with ten transcripts beside their sound, to hear whether they belong together."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.files import atomic_path
from zipasr.corpora.custom.checks import ScannedCorpus
from zipasr.corpora.custom.import_report import PAGE, REPORT
from zipasr.corpora.custom.utterances import Utterance

_TRANSCRIPTS = 10
_LONGEST_SECONDS = 12.0


class Sample(NamedTuple):
    """An utterance of the page.

    Attributes:
        utterance: with its transcript.
        seconds: of its sound.
        sound: the beginning of it as a data address.
        is_cut: it goes on.
    """

    utterance: Utterance
    seconds: float
    sound: str
    is_cut: bool


def write_page(
    folder: Path, seen: ScannedCorpus, files: Mapping[Utterance, Path], seed: int
) -> None:
    """Write ``import-report.html``: ten utterances that the seed chooses, with players.

    Args:
        folder: of the page.
        seen: the corpus.
        files: sound of each utterance, as training reads it.
        seed: of the choice.
    """
    chosen = random.Random(seed).sample(
        sorted(files, key=lambda one: one.id), min(_TRANSCRIPTS, len(files))
    )
    environment = Environment(
        loader=PackageLoader("zipasr.corpora.custom", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    page = environment.get_template("listening.html").render(
        kind=seen.found.kind,
        report=REPORT,
        samples=[_sample(one, files[one], seen.seconds(one)) for one in chosen],
        longest=_LONGEST_SECONDS,
    )
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _sample(utterance: Utterance, file: Path, seconds: float) -> Sample:
    shown = min(seconds, _LONGEST_SECONDS)
    with soundfile.SoundFile(file) as sound:
        sound.seek(min(round(utterance.start * SAMPLING_RATE), sound.frames))
        samples = sound.read(round(shown * SAMPLING_RATE), dtype="float32")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLING_RATE, format="WAV", subtype="PCM_16")
    address = "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Sample(utterance, seconds, address, is_cut=shown < seconds)
