"""Write the curves of a run into a recipe, which every later run of the recipe is drawn beside.

    .venv/bin/python -m benchmarks.reference_curves exp/espeak-causal \
        egs/espeak/reference-causal.jsonl

The first line says how the run was made; the records are those of ``metrics.jsonl`` that are drawn.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zipasr.scoring.training_facts import training_facts
from zipasr.training.epoch_report import PANELS
from zipasr.training.metrics import METRICS_FILE, read_metrics

SHOWN = {(curve.name, curve.split) for panel in PANELS[:2] for curve in panel.curves}


def main() -> None:
    """Write the file that is named second, of the run that is named first."""
    run, target = map(Path, sys.argv[1:])
    facts = dict(training_facts(run).rows)
    about = ", ".join(
        (
            facts["Command"],
            f"seed {facts['Seed']}",
            facts["Date"][:10],
            f"revision {facts['Revision']}",
        )
    )
    lines = [json.dumps({"about": about, "machine": facts["Machine"], "data": facts["Data"]})]
    for record in read_metrics(run / METRICS_FILE):
        if (record["name"], record["split"]) in SHOWN and record["value"] is not None:
            kept = {name: record[name] for name in ("step", "epoch", "name", "value", "split")}
            lines.append(json.dumps(kept | {"value": float(f"{record['value']:.4g}")}))
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
