"""What a report says of the training, from a run.json that may be of another version or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.scoring.training_facts import training_facts

SESSION = {
    "started": "2026-11-29T14:07:27.167803+00:00",
    "ended": "2026-11-29T14:41:32.556597+00:00",
    "exit": "finished",
    "command": ["train.py", "--recipe", "espeak"],
    "world_size": 2,
    "seed": 42,
    "data": {
        "train": [{"split": "train", "cuts": 3600, "hours": 2.4861}],
        "valid": [{"split": "dev", "manifest": "large.jsonl.gz"}],
    },
    "environment": {"revision": "cfb4e033d283", "device": "cpu", "torch": "2.11.0", "k2": "absent"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def write(folder: Path, *sessions: Any) -> None:
    (folder / "run.json").write_text(json.dumps({"sessions": sessions}))


def test_the_last_session_is_told(tmp_path: Path) -> None:
    assert training_facts(tmp_path) == ([], "")
    (tmp_path / "curves.png").write_bytes(b"png")
    write(tmp_path, SESSION)
    facts = training_facts(tmp_path)
    assert dict(facts.rows) == {
        "Command": "train.py --recipe espeak",
        "Date": "2026-11-29 14:07 to 2026-11-29 14:41 UTC",
        "Revision": "cfb4e033d283",
        "Machine": "cpu, 2 processes, torch 2.11.0",
        "Data": "train: train, 3600 cuts, 2.49 hours; valid: dev",
        "Seed": "42",
    }
    assert facts.curves == "data:image/png;base64,cG5n"
    write(tmp_path, SESSION, SESSION | {"ended": None, "exit": None})
    date = dict(training_facts(tmp_path).rows)["Date"]
    assert date == "2026-11-29 14:07 UTC, no end is known; session 2"


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        # Of each session: whether it trained, None in files of earlier versions; how it ended.
        ([(True, "finished"), (False, "error: it does not fit.")], 1),
        ([(True, "finished"), (True, "error: the disk is full."), (False, None)], 2),
        ([(True, "interrupted"), (False, "finished")], 1),
        ([(False, "error: no data."), (False, "error: it does not fit.")], 2),
        ([(None, "finished"), (None, "error: it does not fit.")], 1),
        ([(None, "finished"), (None, "interrupted")], 2),
        ([(None, "error: the disk is full.")], 1),
        ([(None, "finished"), (False, "error: it does not fit.")], 1),
        ([(None, "finished"), (True, None), (False, "error: it does not fit.")], 2),
    ],
)
def test_a_session_that_did_not_train_is_passed_over(
    ends: list[tuple[bool | None, str | None]], told: int, tmp_path: Path
) -> None:
    sessions = []
    for number, (trained, end) in enumerate(ends, start=1):
        session = SESSION | {"seed": number, "exit": end}
        sessions.append(session if trained is None else session | {"trained": trained})
    write(tmp_path, *sessions)
    rows = dict(training_facts(tmp_path).rows)
    assert rows["Seed"] == str(told)
    assert rows["Date"].endswith(f"; session {told}") == (told > 1)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SESSION, "trained"]), anything))
def test_other_contents_are_passed_over(folder: Path, values: dict[str, Any]) -> None:
    write(folder, SESSION | values)
    for name, text in training_facts(folder).rows:
        assert name
        assert text
