"""decode.py --calibrate: confidence of words fitted on dev, kept in the run, and used."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import zipasr
from tests import speaking_model
from tests.cli.conftest import Call
from zipasr.cli import decode, export, transcribe
from zipasr.scoring.calibration import (
    Calibration,
    fitted,
    read_calibrations,
    word_outcomes,
    write_calibrations,
)
from zipasr.scoring.decodings import UtteranceRecord, read_records

# The model of the last batch, which says a lot though it knows little.
MODEL = {"epoch": 2, "avg": 1, "use_averaged_model": False}
HERE = ("--num-workers", "0", "--epoch", "2", "--avg", "1", "--use-averaged-model", "0")
WAY = "greedy_search epoch-2_avg-1_context-2_max-sym-per-frame-1"


def records(folder: Path, test_set: str) -> list[UtteranceRecord]:
    (path,) = (folder / "exp" / "greedy_search").glob(f"utterances-{test_set}-*.jsonl")
    return sorted(read_records(path), key=lambda one: one.id)


def test_a_calibration_is_fitted_on_dev_kept_and_used(run_folder: Path, call: Call) -> None:
    speaking_model.make_talkative(run_folder)
    said = call(decode.main, run_folder, *HERE, "--test-sets", "dev,test")
    assert said.status == 0, said.err
    dev, before = records(run_folder, "dev"), records(run_folder, "test")
    assert all(len(one.confidences) == len(one.hyp) for one in [*dev, *before])
    plain = zipasr.load_model(run_folder / "exp", **MODEL)
    audio = Path(before[0].audio)
    uncalibrated = plain.transcribe(audio)
    assert uncalibrated.words

    said = call(decode.main, run_folder, *HERE, "--calibrate", "1")
    assert said.status == 0, said.err
    values = json.loads((run_folder / "exp" / "confidence.json").read_text(encoding="utf-8"))
    assert [*values] == [WAY]
    calibration = Calibration(**values[WAY])
    expected = fitted(*word_outcomes(dev), "dev")
    assert (calibration.words, calibration.wrong) == (expected.words, expected.wrong)
    # The records are rounded.
    assert calibration.of(0.9) == pytest.approx(expected.of(0.9), abs=1e-2)
    assert said.out.startswith(f"{calibration.about}; expected calibration error ")
    after = records(run_folder, "test")
    for old, new in zip(before, after, strict=True):
        assert new.hyp == old.hyp
        mapped = [calibration.of(one) for one in old.confidences]
        assert new.confidences == pytest.approx(mapped, abs=2e-3)
    assert calibration.about in (run_folder / "exp" / "report.html").read_text(encoding="utf-8")

    model = zipasr.load_model(run_folder / "exp", **MODEL)
    assert calibration.about in model.about
    found = model.transcribe(audio)
    assert found.text == uncalibrated.text
    mapped = [calibration.of(one.confidence) for one in uncalibrated.words]
    assert [one.confidence for one in found.words] == pytest.approx(mapped)
    said = call(transcribe.main, run_folder, *HERE[2:], "--format", "json", str(audio))
    assert said.status == 0, said.err
    assert calibration.about in said.err.splitlines()
    told = [one["confidence"] for one in json.loads(said.out)["words"]]
    assert told == pytest.approx([one.confidence for one in found.words], abs=1e-3)
    # Of other weights or another search it says nothing, and a checkpoint may be of any run.
    for other in (
        zipasr.load_model(run_folder / "exp", **(MODEL | {"epoch": 1})),
        zipasr.load_model(run_folder / "exp", decoding_method="modified_beam_search", **MODEL),
        zipasr.load_model(run_folder / "exp" / "epoch-2.pt"),
    ):
        assert not any("calibrated" in line for line in other.about)


def test_an_export_has_the_calibrations_of_its_weights(run_folder: Path, call: Call) -> None:
    pytest.importorskip("onnxruntime", reason="export-requirements.txt is not installed")
    speaking_model.make_talkative(run_folder)
    maps = [Calibration(scale=0.0, offset=offset, fitted_on="dev") for offset in (1.0, 2.0, 3.0)]
    beam = "modified_beam_search epoch-2_avg-1__modified_beam_search__beam-size-4"
    ctc = "ctc-greedy-search epoch-2_avg-1"
    ways = (WAY, beam, WAY.replace("epoch-2", "epoch-1"), ctc)
    maps.append(Calibration(scale=0.0, offset=4.0, fitted_on="dev"))
    write_calibrations(run_folder / "exp" / "confidence.json", dict(zip(ways, maps, strict=True)))
    out = run_folder / "out"
    said = call(
        export.main,
        run_folder,
        *HERE[2:],
        *("--format", "onnx", "--jit", "1", "--enable-int8-quantization", "0"),
        *("--output-dir", str(out)),
    )
    assert said.status == 0, said.err
    kept = read_calibrations(out / "confidence.json")
    assert kept == {
        "greedy_search": maps[0],
        "modified_beam_search beam-size-4": maps[1],
        "ctc-greedy-search": maps[3],
    }
    audio = next((run_folder / "source" / "test").glob("*.flac"))
    models = {
        form: zipasr.load_model(out / form, decoding_method=method)
        for form, method in (("jit_script.pt", "greedy_search"), ("", "modified_beam_search"))
        if form or importlib.util.find_spec("sherpa_onnx")
    }
    for model, calibration in zip(models.values(), maps, strict=False):
        assert calibration.about in model.about
        (confidence,) = {word.confidence for word in model.transcribe(audio).words}
        assert confidence == pytest.approx(calibration.of(0.5))
    others: tuple[dict[str, Any], ...] = (
        {"decoding_method": "modified_beam_search", "beam_size": 5},
        {"decoding_method": "ctc-prefix-beam-search"},
    )
    for settings in others:
        about = zipasr.load_model(out / "jit_script.pt", **settings).about
        assert not any("calibrated" in line for line in about)


def test_what_cannot_be_calibrated_or_read(run_folder: Path, call: Call) -> None:
    said = call(
        decode.main, run_folder, *HERE, "--calibrate", "1", "--checkpoint", "exp/epoch-2.pt"
    )
    assert said.status == 2
    assert "--calibrate is of a run, --checkpoint names a file" in said.error
    file = run_folder / "exp" / "confidence.json"
    bad = ({"scales": 1}, 3, {"scale": "1", "offset": 0}, {"scale": -1, "offset": 0})
    for text in ("{", "[]", *(json.dumps({WAY: one}) for one in bad)):
        file.write_text(text, encoding="utf-8")
        said = call(decode.main, run_folder, *HERE)
        assert (said.status, "the calibration of confidence, is damaged" in said.error) == (3, True)
        assert file.read_text(encoding="utf-8") == text
