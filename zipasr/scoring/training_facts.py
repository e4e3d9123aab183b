"""run.json of a training, and what a report says of it: command, date, machine, data, curves."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RUN_FILE = "run.json"


def read_sessions(exp_dir: Path) -> list[dict[str, Any]]:
    """Return what each session of a run was made from, in order; nothing of a damaged file."""
    try:
        found = json.loads((exp_dir / RUN_FILE).read_text(encoding="utf-8"))["sessions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def last_trained(sessions: Sequence[Mapping[str, Any]]) -> int:
    """Return how many sessions there are up to the last that trained; all if none did.

    One that was refused, because it does not fit the checkpoint, made nothing of the model. Files
    of earlier versions do not say which trained: there it is each that did not end with an error.
    """
    for number in range(len(sessions), 0, -1):
        one = sessions[number - 1]
        if one.get("trained", not str(one.get("exit")).startswith("error:")):
            return number
    return len(sessions)


CURVES_FILE = "curves.png"
VERSIONS = ("torch", "lhotse", "k2")


class TrainingFacts(NamedTuple):
    """What a report says of a training.

    Attributes:
        rows: name and text of each fact that is known.
        curves: picture of losses and error rates as a data address; empty without.
    """

    rows: Sequence[tuple[str, str]] = ()
    curves: str = ""


def training_facts(exp_dir: Path) -> TrainingFacts:
    """Return what is known of the training in a folder, from the last session that trained."""
    sessions = read_sessions(exp_dir)
    number = last_trained(sessions)
    last = sessions[number - 1] if sessions else {}
    rows = {
        "Command": " ".join(map(str, _list(last.get("command")))),
        "Date": _date(last, number),
        "Revision": _of(last, "environment", "revision"),
        "Machine": _machine(last),
        "Data": "; ".join(_sets(last)),
        "Seed": str(last.get("seed", "")),
    }
    return TrainingFacts([(name, text) for name, text in rows.items() if text], _curves(exp_dir))


def _date(session: Mapping[str, Any], number: int) -> str:
    started, ended = (str(session.get(name) or "") for name in ("started", "ended"))
    if not started:
        return ""
    end = f" to {_minute(ended)}" if ended else ""
    reason = session.get("exit")
    how = "" if reason == "finished" else f", {reason or 'no end is known'}"
    return f"{_minute(started)}{end} UTC{how}" + (f"; session {number}" if number > 1 else "")


def _minute(time: str) -> str:
    """Return a date and time in UTC as people write it."""
    return time[:16].replace("T", " ")


def _machine(session: Mapping[str, Any]) -> str:
    processes = session.get("world_size", 1)
    texts = [_of(session, "environment", name) for name in ("device", "machine")]
    texts += [f"{processes} processes"] if processes != 1 else []
    for name in ("zipasr", "python", *VERSIONS):
        version = _of(session, "environment", name)
        texts += [f"{name} {version}"] if version not in ("", "absent") else []
    return ", ".join(text for text in texts if text)


def _sets(session: Mapping[str, Any]) -> list[str]:
    found = []
    data = session.get("data")
    for use, splits in (data if isinstance(data, dict) else {}).items():
        for one in _list(splits):
            if isinstance(one, dict):
                size = [f"{_short(one[unit])} {unit}" for unit in ("cuts", "hours") if unit in one]
                found.append(f"{use}: " + ", ".join([str(one.get("split", "")), *size]))
    return found


def _short(number: object) -> str:
    return f"{number:.2f}" if isinstance(number, float) else str(number)


def _of(session: Mapping[str, Any], table: str, name: str) -> str:
    values = session.get(table)
    return str(values.get(name, "")) if isinstance(values, dict) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _curves(exp_dir: Path) -> str:
    try:
        picture = (exp_dir / CURVES_FILE).read_bytes()
    except OSError:
        return ""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
