"""train.py for a launcher; each process also leaves its parameters."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from zipasr.cli.train import main
from zipasr.training.session import Session

save_or_raise = Session.save_or_raise


def save_and_dump(session: Session, path: Path) -> None:
    save_or_raise(session, path)
    torch.save(session.model.state_dict(), path.with_name(f"rank-{session.world.rank}.pt"))


Session.save_or_raise = save_and_dump  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
