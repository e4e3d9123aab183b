"""What ``import zipasr`` offers, and what it imports for that."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zipasr
from docs import keywords
from zipasr.cli.flags import read_words, words_of
from zipasr.cli.recognition_commands import DECODE

ROOT = Path(__file__).resolve().parents[2]


def imported_by(code: str) -> set[str]:
    """Return the packages that a program imports."""
    program = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_the_import_is_light() -> None:
    heavy = {"torch", "numpy", "lhotse", "numba", "matplotlib", "soundfile", "sherpa_onnx"}
    assert not imported_by("import zipasr; zipasr.__version__; zipasr.UserError") & heavy
    assert not imported_by("import zipasr; zipasr.load_model") & {"torch", "lhotse", "numba"}


def test_every_name_is_there_and_documented() -> None:
    for name in zipasr.__all__:
        value = getattr(zipasr, name)
        assert name in dir(zipasr)
        assert name == "__version__" or inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        _ = zipasr.load_modle


def test_errors_are_kinds_of_one() -> None:
    kinds = [getattr(zipasr, name) for name in zipasr.__all__ if name.endswith("Error")]
    assert len(kinds) == 6
    assert all(issubclass(kind, zipasr.UserError) for kind in kinds)
    assert len({kind.exit_code for kind in kinds}) == 6


def test_the_typed_keywords_are_those_of_the_commands() -> None:
    assert keywords.PATH.read_text(encoding="utf-8").split() == keywords.source().split(), (
        "run: python -m docs.keywords && ruff format zipasr/cli/keywords.py"
    )


@given(
    st.integers(1, 99),
    st.floats(-5, 5),
    st.booleans(),
    st.lists(st.floats(0.125, 4), min_size=1, max_size=4),
    st.text(min_size=1).filter(lambda text: text != "help"),
)
def test_keywords_are_read_back_as_they_were_given(
    size: int, penalty: float, skip: bool, scales: list[float], label: str
) -> None:
    given = {"beam_size": size, "blank_penalty": penalty, "skip_scoring": skip}
    given |= {"lm_scales": scales, "bpe_model": f"./{label}", "epoch": None}
    read = read_words(DECODE, words_of(given))
    expected = given | {"lm_scales": tuple(scales), "bpe_model": Path(f"./{label}")}
    del expected["epoch"]
    assert read == expected
