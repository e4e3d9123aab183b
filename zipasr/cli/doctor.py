"""Examine the machine: versions, cores, memory, disk, GPU, compilers, decoders, a self-test.

Every finding has a remedy. Only Python's own packages are needed to begin: what an installation
lacks is a finding, not a fault of this program.
"""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from zipasr import __version__
from zipasr.base.constants import GIB, SAMPLING_RATE
from zipasr.base.errors import UserError
from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.model_commands import DOCTOR
from zipasr.cli.verbs import as_typed

State = Literal["ok", "warn", "fail"]

_LEAST_PYTHON = (3, 10)
# Below these, in GiB, small recipes run and others may not.
_MEMORY, _DISK, _SHARED = 4.0, 20.0, 1.0
_INSTALL = "local/install.sh requirements.txt && source .venv/bin/activate"
_EXPORTS = ("onnx", "onnxruntime", "sherpa_onnx")

# The self-test: a loss of 12 frames and 4 of 8 symbols whose logits are sines, the norm of its
# gradient, and the mean feature of half a second of a tone. The figures are those of
# tests/cli/test_doctor.py, which computes them in float64 and by another library.
_FRAMES, _SYMBOLS, _VOCABULARY = 12, 4, 8
LOSS, GRADIENT, FEATURE = 27.940424, 2.161439, 1.10095
_TOLERANCE = 1e-3


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        subject: what was looked at.
        state: "ok", "warn" where something is missed, "fail" where nothing will work.
        found: what was seen.
        remedy: what to do; empty where there is nothing to do.
    """

    subject: str
    state: State
    found: str
    remedy: str = ""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found; return 1 if something will not work, else 0."""
    read(DOCTOR, argv)
    states = set()
    for one in findings():
        states.add(one.state)
        sys.stdout.write(f"{one.state:<4}  {one.subject:<10}  {one.found}\n")
        if one.remedy:
            sys.stdout.write(as_typed(f"{'':18}-> {one.remedy}\n"))
        sys.stdout.flush()
    return int("fail" in states)


def findings() -> Iterator[Finding]:
    """Yield what is found, the quickest first."""
    yield from versions()
    yield processor()
    yield memory()
    yield from shared_memory()
    yield disk(Path.cwd())
    yield from decoders()
    yield exports()
    if importlib.util.find_spec("torch") is None:
        return
    yield from gpus(_smi())
    yield from kernels()
    yield self_test("cpu")
    if _has_cuda():
        yield self_test("cuda")


def versions() -> Iterator[Finding]:
    """Yield the versions of Python and of the packages that are required."""
    python = f"{platform.python_version()}, zipasr {__version__}, {platform.platform(terse=True)}"
    if sys.version_info < _LEAST_PYTHON:
        yield Finding("python", "fail", python, "install Python 3.10 or newer")
    else:
        yield Finding("python", "ok", python)
    wrong = [problem for line in requirements() if (problem := package_problem(line))]
    if wrong:
        yield Finding("packages", "fail", ", ".join(wrong), _INSTALL)
    else:
        names = ("torch", "lhotse", "sentencepiece", "numba", "numpy")
        yield Finding("packages", "ok", ", ".join(f"{n} {metadata.version(n)}" for n in names))


def requirements() -> list[str]:
    """Return the requirements of this package: of the checkout, or of the installation."""
    path = Path(__file__).resolve().parents[2] / "requirements.txt"
    if path.is_file():
        lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
        return [line for line in lines if line]
    return [line for line in metadata.requires("zipasr") or () if "extra ==" not in line]


def package_problem(requirement: str) -> str:
    """Say what is wrong with a required package; nothing if it is there in a version that will do.

    Args:
        requirement: name, least version, and perhaps for which Pythons, as in ``requirements.txt``.
    """
    wanted, _, condition = requirement.partition(";")
    found = re.fullmatch(r"\s*([\w.-]+)\s*(?:>=\s*([\d.]+))?.*", wanted)
    if found is None or ("python_version <" in condition and sys.version_info >= (3, 11)):
        return ""
    name, least = found.groups()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    if least and _numbers(version) < _numbers(least):
        return f"{name} {version} is older than {least}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])[:3]))


def processor() -> Finding:
    """Tell how many cores there are, and whether others use them."""
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    load = os.getloadavg()[0]
    found = f"{usable} of {cores} usable, {platform.machine()}, load {load:.1f}"
    if load > 0.75 * usable:
        return Finding("cores", "warn", found, "other programs run: times will be longer")
    return Finding("cores", "ok", found)


def memory() -> Finding:
    """Tell how much memory there is and is left; needs torch for limits of containers."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    free = total
    if importlib.util.find_spec("torch"):
        import torch

        from zipasr.base.environment import free_bytes

        free = free_bytes(torch.device("cpu")) / GIB
    found = f"{total:.1f} GiB, {free:.1f} GiB free"
    if free < _MEMORY:
        return Finding("memory", "warn", found, "end other programs, or lower --max-duration")
    return Finding("memory", "ok", found)


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Yield the memory through which workers hand over batches, where it is a folder."""
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free / GIB
    found = f"{free:.1f} GiB free in {folder}"
    if free < _SHARED:
        remedy = "give --num-workers 0; in Docker, start with --shm-size 8g"
        yield Finding("workers", "warn", found, remedy)
    else:
        yield Finding("workers", "ok", found)


def disk(folder: Path) -> Finding:
    """Tell how much space there is where recipes write, and whether they can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        remedy = "work in a folder that you may write to"
        return Finding("disk", "fail", f"{folder}: {problem.strerror}", remedy)
    free = shutil.disk_usage(folder).free / GIB
    found = f"{free:.0f} GiB free here"
    if free < _DISK:
        remedy = (
            "enough for small recipes; ./train.py --recipe NAME --dry-run 1 says what one takes"
        )
        return Finding("disk", "warn", found, remedy)
    return Finding("disk", "ok", found)


def decoders() -> Iterator[Finding]:
    """Yield which formats of sound can be read."""
    if importlib.util.find_spec("soundfile") is None:
        return  # told among the packages
    import soundfile

    from zipasr.audio.ffmpeg import is_installed

    known = soundfile.available_formats()
    names = [name for name in ("WAV", "FLAC", "OGG", "MP3") if name in known]
    yield Finding(
        "sound", "ok", f"libsndfile {soundfile.__libsndfile_version__}: {', '.join(names)}"
    )
    if is_installed():
        yield Finding("ffmpeg", "ok", "installed: M4A, AAC, WMA, AMR, video")
    else:
        remedy = "for M4A, AAC, WMA, AMR and video: apt-get install ffmpeg"
        yield Finding("ffmpeg", "warn", "not installed", remedy)


def exports() -> Finding:
    """Tell whether models can be exported to ONNX and run."""
    missing = [name for name in _EXPORTS if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "to export models: pip install -r export-requirements.txt"
        return Finding("export", "warn", f"{', '.join(missing)} not installed", remedy)
    return Finding("export", "ok", ", ".join(f"{n} {metadata.version(n)}" for n in _EXPORTS))


def _smi() -> list[str]:
    """Return a line for each GPU that the driver of NVIDIA knows: its name and version."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def gpus(driver: Sequence[str]) -> Iterator[Finding]:
    """Yield each GPU: whether this torch can use it, and how much of its memory is free.

    Args:
        driver: a line for each GPU that the driver knows.
    """
    import torch

    if not torch.cuda.is_available():
        if not driver:
            yield Finding("gpu", "ok", "none: models train and decode on the CPU")
            return
        found = f"{driver[0]}, which torch {torch.__version__} cannot use"
        needs = torch.version.cuda
        remedy = (
            f"update the driver to one for CUDA {needs}, or install a torch for an older CUDA"
            if needs
            else "install a torch with CUDA: pip install --force-reinstall torch"
        )
        yield Finding("gpu", "warn", found, remedy)
        return
    built = torch.cuda.get_arch_list()
    for number in range(torch.cuda.device_count()):
        free, total = (count / GIB for count in torch.cuda.mem_get_info(number))
        capability = torch.cuda.get_device_capability(number)
        name = torch.cuda.get_device_name(number)
        version = driver[number].rpartition(",")[2].strip() if number < len(driver) else "unknown"
        found = f"{number}: {name}, driver {version}, CUDA {torch.version.cuda}"
        found += f", {free:.1f} of {total:.1f} GiB free"
        if not can_run(capability, built):
            remedy = "this torch has no code for it: install the newest one, pip install -U torch"
            yield Finding("gpu", "fail", found, remedy)
        elif free < 0.5 * total:
            yield Finding("gpu", "warn", found, "another program holds its memory: nvidia-smi")
        else:
            yield Finding("gpu", "ok", found)


def can_run(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Say whether a torch has code for a GPU.

    Args:
        capability: of the GPU, such as (9, 0).
        built: what torch was built for, such as sm_90; code for compute_90 runs on newer ones too.
    """
    for name in built:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)a?", name)
        if found is None:
            continue
        major, minor = int(found[2]), int(found[3])
        if found[1] == "compute" and (major, minor) <= capability:
            return True
        if major == capability[0] and minor <= capability[1]:
            return True
    return False


def kernels() -> Iterator[Finding]:
    """Yield which compiled loops and kernels work here; without them torch computes, slower."""
    import torch

    from zipasr.kernels.launch import C_COMPILER_COMMAND, c_compiler
    from zipasr.losses.backend import kernels_for

    if kernels_for("auto", torch.zeros(1)).name == "numba":
        yield Finding("numba", "ok", "compiles loops for the CPU")
    else:
        remedy = "training on the CPU is slower: pip install numba, and unset NUMBA_DISABLE_JIT"
        yield Finding("numba", "warn", "not installed, or may not compile", remedy)
    if not _has_cuda():
        return
    compiler = c_compiler()
    try:
        kernels_for("triton", torch.zeros(1, device="cuda"))
    except UserError as problem:
        remedy = "training is slower: pip install triton" + (
            "" if compiler else f", and a C compiler: {C_COMPILER_COMMAND}"
        )
        yield Finding("triton", "warn", problem.what, remedy)
    else:
        yield Finding("triton", "ok", f"kernels compile and agree with torch; compiler {compiler}")


def self_test(device: str) -> Finding:
    """Compute a loss, its gradient and a feature, and compare them with the stored figures.

    Args:
        device: of the loss.
    """
    subject = f"test {device}"
    try:
        computed = computed_values(device)
    except Exception as problem:  # whatever a library or a driver raises
        said = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        return Finding(subject, "fail", said, _INSTALL)
    expected = (LOSS, GRADIENT, FEATURE)
    shown = ", ".join(
        f"{name} {value:.5f}"
        for name, value in zip(("loss", "gradient", "feature"), computed, strict=True)
    )
    if all(map(_is_close, computed, expected)):
        return Finding(subject, "ok", f"{shown}: as stored")
    wanted = ", ".join(f"{value:.5f}" for value in expected)
    return Finding(
        subject, "fail", f"{shown}, not {wanted}", f"install the tested versions: {_INSTALL}"
    )


def _is_close(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=_TOLERANCE)


def computed_values(device: str) -> tuple[float, float, float]:
    """Return the loss in nats, the norm of its gradient, and the mean feature."""
    import numpy as np
    import torch

    from zipasr.data.feature_store import fbank_extractor
    from zipasr.losses import rnnt_loss

    shape = (1, _FRAMES, _SYMBOLS + 1, _VOCABULARY)
    ramp = torch.arange(math.prod(shape), dtype=torch.float32, device=device).reshape(shape)
    logits = torch.sin(ramp).requires_grad_()
    symbols = torch.tensor([[1, 5, 2, 7]], device=device)
    loss = rnnt_loss(logits, symbols, termination_symbol=0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    # A tone that sweeps through all frequencies: no bin is at the rounding errors of silence.
    wave = (0.3 * np.sin(0.01 * np.arange(SAMPLING_RATE // 2) ** 2.0)).astype(np.float32)
    features = fbank_extractor().extract(wave, SAMPLING_RATE)
    return loss.item(), logits.grad.norm().item(), float(np.mean(features))
