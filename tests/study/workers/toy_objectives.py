"""Objectives that worker processes can import: a formula, with accidents where a file says so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.outcomes import Completed, Outcome, Pruned
from painvrl.run.config import TrainConfig


class Toy:
    """Reads ``<number>`` in the folder ``accidents``: ``die`` or ``wait``; writes who trained what."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        cache_dir: Path,
        device: torch.device,
        share_pretrained: bool,
        **_: object,
    ) -> None:
        self.folder = cache_dir.parent / "accidents"
        self.folder.mkdir(exist_ok=True)
        made = self.folder / f"made-{os.getpid()}"
        made.write_text(made.read_text() + "x" if made.exists() else "x")
        self.data = DataSummary(fingerprint="planted-1")

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        on_stage("pretrain")
        (self.folder / f"trained-{job.number}").write_text(f"{os.getpid()} {torch.get_num_threads()}")
        order = self.folder / str(job.number)
        act = order.read_text() if order.exists() else ""
        if act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while act == "wait" and order.exists():
            time.sleep(0.01)
        sparsity = job.config.mask.sparsity
        for epoch in (1, 2):
            rung, there = f"pretrain/{epoch}", {"iid/ndcg_at_20": float(epoch), "ood/ndcg_at_20": sparsity}
            if rung in job.rungs and (said := on_rung(rung, there)) is not None:
                return Pruned(rung=rung, message=said, metrics=there)
        return Completed(metrics={"iid/ndcg_at_20": 1 - sparsity, "ood/ndcg_at_20": sparsity})


class Dead:
    """Dies before it knows its data."""

    def __init__(self, *_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
