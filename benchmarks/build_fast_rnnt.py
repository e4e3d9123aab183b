"""Build the package fast_rnnt, a peer of ``benchmarks.transducer_loss``, for the CPU.

The source package on PyPI wants to fetch pybind11 and, beside a CUDA build of torch, a CUDA
toolkit. Its C++ core needs neither: this script compiles it with torch's own builder of extensions
and puts it, with the package's Python files, into the environment whose interpreter runs the
script. That environment is made apart from the project, with the project's torch in sight:

    python -m venv .venv-peers        # ``python``, here and below, is the project's, say 3.11
    site=.venv-peers/lib/python3.11/site-packages
    python -c "import torch; print(torch.__path__[0] + '/..')" > $site/project.pth
    .venv-peers/bin/pip install ninja
    .venv-peers/bin/pip download --no-deps --no-binary :all: fast_rnnt==1.3
    .venv-peers/bin/python benchmarks/build_fast_rnnt.py fast_rnnt-1.3.tar.gz

A C++ compiler is needed. Nothing of the package is changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from torch.utils import cpp_extension

CORE = "_fast_rnnt"


def main() -> None:
    """Unpack, compile and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the source package, fast_rnnt-1.3.tar.gz")
    archive = parser.parse_args().archive
    if not archive.is_file():
        parser.error(f"{archive} is not a file; fetch it with pip download")
    site = Path(sysconfig.get_path("purelib"))
    # torch looks for ninja, which pip puts beside the interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        (root,) = Path(folder).iterdir()
        build = Path(folder) / "build"
        build.mkdir()
        library = compile_core(root, build)
        shutil.copy(library, site)
        package = root / "fast_rnnt" / "python" / "fast_rnnt"
        shutil.copytree(package, site / "fast_rnnt", dirs_exist_ok=True)
    print(f"fast_rnnt is in {site}")


def compile_core(root: Path, build: Path) -> Path:
    """Compile the C++ core and return the library.

    Args:
        root: the unpacked source package.
        build: a folder for what is made on the way.
    """
    originals = [root / "fast_rnnt" / "csrc" / "mutual_information_cpu.cu"]
    originals += sorted((root / "fast_rnnt" / "python" / "csrc").glob("*.cu"))
    # Without CUDA these files are plain C++; only their names say otherwise.
    sources = [shutil.copy(path, path.with_suffix(".cc")) for path in originals]
    cpp_extension.load(
        CORE,
        [str(path) for path in sources],
        extra_cflags=["-O3", "-march=native"],
        extra_include_paths=[str(root)],
        build_directory=str(build),
        with_cuda=False,
        is_python_module=False,
    )
    return build / f"{CORE}.so"


if __name__ == "__main__":
    main()
