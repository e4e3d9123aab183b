"""What ran where: versions, revision and device, as plain strings."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from zipasr import __version__

PACKAGES = ("torch", "torchaudio", "lhotse", "sentencepiece", "kaldialign", "k2")


def environment_report() -> dict[str, str]:
    """Return what is needed to repeat a run; names no machine, user or path."""
    report = {"zipasr": __version__, "python": platform.python_version()}
    report |= {"machine": platform.machine(), "cuda": torch.version.cuda or "absent"}
    report |= {name: _version(name) for name in PACKAGES}
    report["revision"] = _revision()
    if torch.cuda.is_available():
        report["device"] = torch.cuda.get_device_name()
    else:
        report["device"] = f"cpu, {torch.get_num_threads()} threads a process"
    return report


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _revision() -> str:
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
