"""The stored searches of the reference implementation; see tests/golden/search/README.md."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.search.hot_words import ContextGraph, HotWords
from zipasr.search.protocol import Utterance
from zipasr.search.transducer_step import TransducerSteps

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "search"


@cache
def arrays() -> dict[str, Tensor]:
    with np.load(FOLDER / "searches.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@cache
def runs(method: str) -> list[dict[str, Any]]:
    return [
        run for run in json.loads((FOLDER / "searches.json").read_text()) if run["method"] == method
    ]


@cache
def transducer() -> tuple[Decoder, Joiner]:
    decoder, joiner = Decoder(23, 40, 0, 2), Joiner(64, 40, 36, 23)
    for name, module in (("decoder", decoder), ("joiner", joiner)):
        prefix = f"w.{name}."
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in arrays().items() if k.startswith(prefix)}
        )
    return decoder.eval(), joiner.eval()


def steps(options: dict[str, Any]) -> TransducerSteps:
    """The transducer with the blank penalty and the temperature of a run."""
    names = ("blank_penalty", "temperature")
    return TransducerSteps(*transducer(), **{n: options[n] for n in names if n in options})


def hot_words(options: dict[str, Any], *, strict: bool) -> HotWords | None:
    """The hot-words of a run, if it has any."""
    if "context" not in options:
        return None
    context = options["context"]
    graph = ContextGraph(context["words"], context["context_score"], context.get("scores"))
    return HotWords(graph, strict=strict)


def check(utterances: list[Utterance], run: dict[str, Any]) -> None:
    """Compare with the stored run, near ties and what did not end excepted."""
    for n, utterance in enumerate(utterances):
        if run["stable"][n] and run["hyps"][n] is not None:
            assert utterance.tokens == run["hyps"][n]
            if run["timestamps"] is not None and run["timestamps"][n] is not None:
                assert utterance.frames == run["timestamps"][n]
            if run.get("log_probs", [None] * (n + 1))[n] is not None:
                assert abs(utterance.log_prob - run["log_probs"][n]) < 1e-4
