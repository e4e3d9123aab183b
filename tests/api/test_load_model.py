"""One model in all its forms says the same, from any folder; what is wrong is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zipasr
from tests.api.conftest import SETTINGS
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import transcribe

ROOT = Path(__file__).resolve().parents[2]
LAST = {"avg": 1, "use_averaged_model": False}


def said_by_the_command(folder: Path, sound: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert transcribe.main(["--checkpoint", str(folder / "exp" / "epoch-2.pt"), str(sound)]) == 0
    return capsys.readouterr().out.strip()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("exp", SETTINGS),
        ("exp/epoch-2.pt", {}),
        ("plain.pt", {"tokens": "data/tones/lang_bpe/bpe.model"}),
        ("plain.pt", {"tokens": "out/tokens.txt"}),
        ("out/pretrained.pt", {}),
        ("out/jit_script.pt", {}),
        ("out", {}),
    ],
)
def test_two_lines_transcribe(
    whole: Path,
    sounds: list[Path],
    form: str,
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "tokens" in settings:
        settings = {"tokens": whole / settings["tokens"]}
    model = zipasr.load_model(whole / form, **settings)
    result = model.transcribe(sounds[0])
    assert isinstance(result, zipasr.Transcription)
    assert result.text == said_by_the_command(whole, sounds[0], capsys) != ""
    assert result.text == " ".join(word.text for word in result.words)
    assert str(whole) in repr(model)
    # Nothing is printed, whatever the kind of model.
    assert capsys.readouterr() == ("", "")


def test_an_exported_folder_is_run_without_torch(whole: Path, sounds: list[Path]) -> None:
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    program = (
        "import sys, zipasr\n"
        f"print(zipasr.load_model({str(whole / 'out')!r}).transcribe({str(sounds[0])!r}).text)\n"
        "print(*sorted({'torch', 'lhotse', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    text, heavy = done.stdout.splitlines()
    assert text
    assert heavy == ""


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_precision_of_an_exported_folder(whole: Path, sounds: list[Path], precision: Any) -> None:
    model = zipasr.load_model(whole / "out", precision=precision)
    assert (".int8." in model.about[0]) == (precision == "int8")
    assert model.transcribe(sounds[0]).seconds > 0


def test_ctc_of_an_exported_folder(whole: Path, sounds: list[Path]) -> None:
    exported = zipasr.load_model(whole / "out", decoding_method="ctc-greedy-search")
    ours = zipasr.load_model(whole / "exp" / "epoch-2.pt", decoding_method="ctc-greedy-search")
    assert exported.transcribe(sounds[0]).text == ours.transcribe(sounds[0]).text


@pytest.mark.parametrize(
    ("form", "settings", "kind", "message"),
    [
        ("nothing", {}, zipasr.CheckpointError, "there is no file or folder"),
        ("source", {}, zipasr.CheckpointError, "there is no model in"),
        ("exp", {"epoch": 9, **LAST}, zipasr.CheckpointError, "epoch-9.pt does not exist"),
        ("exp", {"beam_sise": 4}, zipasr.UserError, "did you mean 'beam_size'"),
        ("exp", {"decoding_method": "greedy"}, zipasr.UserError, "greedy_search"),
        ("exp", {"use_bf16": True}, zipasr.UserError, "it is said by another argument"),
        ("exp", {"precision": "int8"}, zipasr.UserError, "is for exported folders"),
        ("exp", {"device": "gpu"}, zipasr.UserError, "device 'gpu' is unknown"),
        ("exp", {"window": 3.0}, zipasr.UserError, "'window' must be more than twice 'overlap'"),
        ("exp", {"format": "txt"}, zipasr.UserError, "arguments: format='txt'"),
        ("out", {"epoch": 2}, zipasr.UserError, "epoch=2 cannot change the exported model"),
        ("out", {"device": "cuda"}, zipasr.UserError, "run on the CPU"),
        ("out", {"precision": "fp16"}, zipasr.CheckpointError, "of fp16"),
        ("out", {"decoding_method": "fast_beam_search"}, zipasr.UserError, "exported models have"),
        ("out", {"tokens": "no.txt"}, zipasr.DataError, "there is no no.txt"),
        ("plain.pt", {"tokens": "no.txt"}, zipasr.DataError, "no.txt"),
        ("out/model.onnx", {}, zipasr.UserError, "give the folder"),
    ],
)
def test_what_is_wrong_is_one_line(
    whole: Path, form: str, settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        zipasr.load_model(whole / form, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("elsewhere")
def test_a_run_has_the_settings_of_its_recipe_in_any_folder(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = whole / "tones" / "recipe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("avg = 1", "avg = 1\nwindow = 7"))
    try:
        model = zipasr.load_model(whole / "exp")
        assert model.cutting.window == 7
        monkeypatch.chdir(whole)
        assert zipasr.load_model("exp").about[0] == model.about[0].replace(f"{whole}/", "")
        recipe.rename(recipe.with_name("gone"))
        # Without its recipe, a run has the defaults of the library, not those of another recipe.
        assert zipasr.load_model("exp", avg=1).cutting.window == 25
    finally:
        recipe.with_name("gone").unlink(missing_ok=True)
        recipe.write_text(text)


def test_loading_a_model_starts_no_compiler_of_torch(whole: Path) -> None:
    program = "import sys, torch{}\nprint('torch._dynamo' in sys.modules)"
    load = f"\nimport zipasr\nzipasr.load_model({str(whole / 'exp' / 'epoch-2.pt')!r})"
    said = [
        subprocess.run(
            [sys.executable, "-c", program.format(more)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for more in ("", load)
    ]
    assert said[1] == said[0]


def test_a_transducer_that_is_not_trained_yet_is_not_asked(
    whole: Path, sounds: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that trains the CTC head alone at first, and was not over with it."""
    checkpoint = load_checkpoint(whole / "exp" / "epoch-2.pt")
    done = checkpoint["batch_idx_train"]
    path = tmp_path / "early.pt"
    texts = {}
    for first in (0, done - 1, done):
        checkpoint["configs"]["LossConfig"]["ctc_only_batches"] = first
        save_checkpoint(path, checkpoint)
        caplog.clear()
        texts[first] = zipasr.load_model(path).transcribe(sounds[0]).text
        told = [line for line in caplog.messages if "the transducer is not trained yet" in line]
        assert len(told) == (first == done)
    assert f"the first {done} batches train the CTC head alone, and {done} are done" in told[0]
    by_ctc = zipasr.load_model(path, decoding_method="ctc-greedy-search")
    assert texts[done] == by_ctc.transcribe(sounds[0]).text
    assert texts[0] == texts[done - 1] != texts[done]
