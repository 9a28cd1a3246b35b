"""An objective that worker processes can import: a formula, which dies, stops or fails as its point says."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned


class Toy:
    def __init__(self, *, device: torch.device) -> None:
        self.data = DataSummary(fingerprint=f"toy on {device}")

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        for stage in ("pretrain", f"round {job.number}"):
            on_stage(stage)
        while job.point.get("while") and Path(str(job.point["while"])).exists():
            time.sleep(0.05)
        if job.point.get("act") == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.point.get("act") == "stop":
            time.sleep(1)  # Ray brings the stages while the process runs
            os.kill(os.getpid(), signal.SIGSTOP)
        if job.point.get("act") == "fail":
            return Failed(reason="diverged", message=f"job {job.number} is not finite")
        for rung in sorted(job.rungs):
            there = {"iid/ndcg_at_20": job.number / 10}
            if (message := on_rung(rung, there)) is not None:
                return Pruned(rung=rung, message=message, metrics=there)
        return Completed(
            metrics={"iid/ndcg_at_20": job.number / 8, "ood/ndcg_at_20": job.config.mask.sparsity}
        )


class Loud(Toy):
    """Says a secret, as drivers and libraries do."""

    def __init__(self, *, device: torch.device) -> None:
        sys.stderr.write("postgresql://me:hunter2@host/db\n")
        sys.stderr.flush()
        super().__init__(device=device)


class Frail(Toy):
    """Dies over its data as often as the file says."""

    def __init__(self, deaths: Path, *, device: torch.device) -> None:
        left = int(deaths.read_text())
        if left > 0:
            deaths.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(device=device)
