"""Commands with the toy encoder beside the others: one a line on the standard input."""

from __future__ import annotations

import importlib
import shlex
import sys

from tests.encoder.toy.config import ToyConfig
from zipasr.encoder.registry import register

register(ToyConfig)

if __name__ == "__main__":
    for line in sys.stdin:
        name, *words = shlex.split(line)
        module, _, function = name.partition(":")
        command = getattr(importlib.import_module(f"zipasr.cli.{module}"), function or "main")
        status = command(words)
        sys.stderr.write(f"{name}: {status}\n")
        if status:
            sys.exit(status)
