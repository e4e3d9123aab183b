"""What the examination of a machine finds, and what it proposes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tones
from zipasr.cli import doctor

needs_no_tomli = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 reads recipes with a package, tomli"
)


def lattice_loss(logits: torch.Tensor, symbols: list[int]) -> torch.Tensor:
    """Return -log of the sum over all paths: (T, S + 1, V), by the recursion as it is written."""
    log_probs = logits.log_softmax(-1)
    frames, places, _ = logits.shape
    alpha = {(0, 0): torch.zeros((), dtype=logits.dtype)}
    for t in range(frames):
        for s in range(places):
            ways = []
            if t:
                ways.append(alpha[t - 1, s] + log_probs[t - 1, s, 0])
            if s:
                ways.append(alpha[t, s - 1] + log_probs[t, s - 1, symbols[s - 1]])
            if ways:
                alpha[t, s] = torch.logsumexp(torch.stack(ways), 0)
    return -(alpha[frames - 1, places - 1] + log_probs[-1, -1, 0])


def test_the_stored_figures_are_those_of_the_definition() -> None:
    shape = (12, 5, 8)
    logits = torch.sin(torch.arange(12 * 5 * 8, dtype=torch.float64).reshape(shape))
    logits.requires_grad_()
    loss = lattice_loss(logits, [1, 5, 2, 7])
    loss.backward()
    assert logits.grad is not None
    assert pytest.approx(loss.item(), abs=1e-5) == doctor.LOSS
    assert pytest.approx(logits.grad.norm().item(), abs=1e-5) == doctor.GRADIENT


def test_the_stored_feature_is_that_of_another_library() -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="no torchaudio here")
    wave = torch.from_numpy(0.3 * np.sin(0.01 * np.arange(8000) ** 2.0)).float()
    features = kaldi.fbank(
        wave[None],
        num_mel_bins=80,
        dither=0.0,
        snip_edges=False,
        high_freq=-400.0,
        energy_floor=0.0,
    )
    assert pytest.approx(features.mean().item(), rel=1e-3) == doctor.FEATURE


def test_the_self_test_passes_here_and_says_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.self_test("cpu")
    assert (found.state, found.remedy) == ("ok", "")
    monkeypatch.setattr(doctor, "LOSS", 1.0)
    found = doctor.self_test("cpu")
    assert found.state == "fail"
    assert ", not 1.00000, " in found.found
    assert found.remedy.startswith("install the tested versions")


def test_a_self_test_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("no kernel image\nlong trace")

    monkeypatch.setattr(doctor, "computed_values", fail)
    assert doctor.self_test("cpu")[1:3] == ("fail", "no kernel image")


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("torch>=2.0", ""),
        ("torch>=99.1  ", f"torch {torch.__version__.partition('+')[0]} is older than 99.1"),
        ("no-such-package>=1", "no-such-package is not installed"),
        (
            'no-such-package>=1; python_version < "3.11"',
            "" if sys.version_info >= (3, 11) else None,
        ),
    ],
)
def test_requirements_are_compared_with_what_is_installed(
    requirement: str, problem: str | None
) -> None:
    found = doctor.package_problem(requirement)
    assert problem is None or found.replace("+cpu", "") == problem


def test_the_requirements_of_this_project_are_met() -> None:
    assert any(line.startswith("torch") for line in doctor.requirements())
    assert not [line for line in doctor.requirements() if doctor.package_problem(line)]


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_80"], True),
        ((12, 0), ["sm_80", "sm_90", "compute_90"], True),
        ((12, 0), ["sm_80", "sm_90a"], False),
        ((12, 0), ["sm_120"], True),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((7, 0), [], False),
    ],
)
def test_a_gpu_needs_code_for_it(capability: tuple[int, int], built: list[str], runs: bool) -> None:
    assert doctor.can_run(capability, built) == runs


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = doctor.gpus([])
    assert found.state == "ok"
    for cuda, fix in ((None, "install a torch with CUDA"), ("13.0", "update the driver")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        (found,) = doctor.gpus(["NVIDIA A100, 470.82"])
        assert found.state == "warn"
        assert found.remedy.startswith(fix)


def gpu(free: float, monkeypatch: pytest.MonkeyPatch) -> doctor.Finding:
    given: dict[str, Callable[..., object]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_arch_list": lambda: ["sm_90"],
        "mem_get_info": lambda _: (int(free * doctor.GIB), 80 * doctor.GIB),
        "get_device_capability": lambda _: (9, 0),
        "get_device_name": lambda _: "H200",
    }
    for name, value in given.items():
        monkeypatch.setattr(torch.cuda, name, value)
    (found,) = doctor.gpus(["NVIDIA H200, 570.1"])
    return found


def test_a_gpu_with_its_driver_and_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpu(70, monkeypatch)
    assert found.state == "ok"
    assert "H200, driver 570.1, CUDA" in found.found
    assert "70.0 of 80.0 GiB free" in found.found
    assert gpu(3, monkeypatch).state == "warn"
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80"])
    (found,) = doctor.gpus([])
    assert (found.state, "driver unknown" in found.found) == ("fail", True)


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    assert doctor.disk(tmp_path).state in ("ok", "warn")
    found = doctor.disk(tmp_path / "nowhere")
    assert (found.state, bool(found.remedy)) == ("fail", True)
    assert list(doctor.shared_memory(tmp_path / "nowhere")) == []


def test_sound_that_needs_ffmpeg_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipasr.audio.ffmpeg.is_installed", lambda: False)
    sound, ffmpeg = doctor.decoders()
    assert "WAV, FLAC, OGG" in sound.found
    assert (ffmpeg.state, "apt-get install ffmpeg" in ffmpeg.remedy) == ("warn", True)


def test_every_line_has_a_state_and_what_is_missing_a_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    states = [line.split()[0] for line in lines]
    assert {*states} <= {"ok", "warn", "->"}
    for state, following in zip(states, [*states[1:], ""], strict=True):
        assert (state != "warn") or following == "->"
    subjects = {line.split()[1] for line in lines}
    assert subjects >= {"python", "packages", "cores", "memory", "disk", "sound", "gpu", "test"}


@needs_no_tomli
def test_it_runs_where_nothing_is_installed(tmp_path: Path) -> None:
    """A Python without packages, as after a failed installation."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "zipasr", "doctor"],
        cwd=tones.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "fail  packages    torch is not installed, lhotse is not installed" in done.stdout
    assert "Traceback" not in done.stderr
