"""run.json: the sessions of a training run, in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"


def read_sessions(exp_dir: Path) -> list[dict[str, Any]]:
    """Return what each session of a run was made from, in order; nothing of a damaged file."""
    try:
        found = json.loads((exp_dir / RUN_FILE).read_text(encoding="utf-8"))["sessions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
