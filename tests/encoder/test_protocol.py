"""Nobody outside of the encoders asks which one it is: its configuration answers."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.encoder.toy.config import ToyConfig
from zipasr.encoder.protocol import Geometry
from zipasr.encoder.registry import ENCODER_TYPES, register, schemas_of
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer1.config import Zipformer1Config

ROOT = Path(__file__).resolve().parents[2] / "zipasr"
FORBIDDEN = re.compile(
    r"isinstance\([^)]*(Zipformer|EncoderConfig|ChunkEncoder)"
    r"|\bZipformer1?2?Config\b"
    r"|encoder\.zipformer1?\b"
    r"|\bencoder_embed is (not )?None"
    r"|ENCODER_TYPES\[[\"']|\.name [!=]= [\"']zipformer"
    r"|\b(FEATURE_DIM|MIN_FRAMES|LOOK_AHEAD_FRAMES|CAUSAL_TAIL)\b"
)


def test_no_question_outside() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] != "encoder"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("cls", [*ENCODER_TYPES.values(), ToyConfig])
def test_names_of_fields_are_fields(cls: type) -> None:
    names = {field.name for field in fields(cls)}
    for kind in ("not_inferable", "free_when_decoding", "free_on_resume"):
        assert {*getattr(cls, kind)} <= names
    assert {*cls.free_when_decoding} <= {*cls.free_on_resume}
    for sizes in cls.presets().values():
        assert {*sizes} <= names
        assert cls(**sizes)


def test_configurations_need_no_torch() -> None:
    program = """
import sys
from zipasr.encoder import registry
import tests.encoder.toy.config
for cls in registry.ENCODER_TYPES.values():
    config = cls(causal=True)
    config.geometry, config.describe(), config.choices(), config.presets(), config.heads
assert not {"torch", "lhotse", "numpy"} & {*sys.modules}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_names_in_files_never_change() -> None:
    assert {cls.name: schemas_of(cls) for cls in ENCODER_TYPES.values()} == {
        "zipformer": ("zipformer", "ZipformerConfig"),
        "zipformer1": ("zipformer1", "Zipformer1Config"),
        "zapformer": ("zapformer",),
    }


def test_a_name_is_given_once() -> None:
    before = dict(ENCODER_TYPES)
    with pytest.raises(ValueError, match="an encoder zipformer is there already"):
        register(ZipformerConfig)
    assert before == ENCODER_TYPES


GEOMETRIES = [
    ZipformerConfig().geometry,
    ZipformerConfig(causal=True).geometry,
    Zipformer1Config(causal=True).geometry,
    ToyConfig(causal=True).geometry,
    Geometry(mel_bins=40, subsampling=8, min_frames=11, look_ahead=20, right_context=3, tail=8),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_files_say_what_is_not_usual(geometry: Geometry) -> None:
    found = Geometry.from_metadata(geometry.to_metadata(), geometry.look_ahead)
    # Files for whole utterances need no tail, and say none.
    assert found == replace(geometry, tail=geometry.tail or Geometry().tail)
    if geometry in GEOMETRIES[:3]:
        assert geometry.to_metadata() == {}
