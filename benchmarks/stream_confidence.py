"""How far the confidence of words is from the share of right ones, in speech as it comes.

    .venv/bin/python -m benchmarks.stream_confidence exp/espeak-causal chunk_size=32 avg=2
    .venv/bin/python -m benchmarks.stream_confidence exp/espeak-causal/exported beam_size=8

The place of a model and settings of ``zipasr.load_model``. Utterances are streamed in pieces of a
tenth of a second. Calibrate the run first (``decode.py --calibrate 1`` with the same flags); an
export takes the calibration along.
"""

from __future__ import annotations

import argparse

import zipasr
from zipasr.audio.loading import resampled
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE
from zipasr.data.config import DataConfig
from zipasr.data.loaders import load_cuts
from zipasr.recognition.speech_stream import in_pieces
from zipasr.scoring.calibration import reliability, word_outcomes
from zipasr.scoring.result_files import Transcript
from zipasr.scoring.word_errors import count_errors


def main() -> None:
    """Print the error rate of the words and the calibration error of their confidence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="run folder, checkpoint, or exported folder")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    pairs = (one.split("=", 1) for one in arguments.settings)
    settings = {name: int(value) if value.isdigit() else value for name, value in pairs}
    model = zipasr.load_model(arguments.model, **settings)
    run = read(DECODE, ["--recipe", arguments.recipe])
    cuts = load_cuts(run[DataConfig].manifest_dir, run.recipe.corpus, [arguments.split])
    found = []
    for cut in cuts:
        with model.stream() as stream:
            for piece in in_pieces(resampled(cut.load_audio()[0], cut.sampling_rate)):
                stream.accept(piece)
        words = stream.finish().words
        said = cut.supervisions[0].text.split()
        hyp, confidences = [one.text for one in words], [one.confidence for one in words]
        found.append(Transcript(cut.id, said, hyp, confidences=confidences))
    certain = reliability(*word_outcomes(found))
    errors = count_errors((one.ref, one.hyp) for one in found)
    print(f"{'; '.join(model.about)}")
    print(
        f"{errors.rate:.2f} % {errors.metric}, expected calibration error {certain.error:.2f} % "
        f"over {certain.words} words"
    )


if __name__ == "__main__":
    main()
