from __future__ import annotations

from pathlib import Path

import numpy as np
import torch


def test_tables_of_100k_have_columns_that_official_and_given_read(tmp_path: Path) -> None:
    from benchmarks.parts_100k import SPLITS, table_of
    from painvrl.run.config import TrainConfig
    from painvrl.run.prepare import prepare

    rng = np.random.default_rng(0)
    rows = [
        f"{user}\t{item}\t4\t{int(881250949 + rng.integers(30 * 86400))}"
        for user in range(40)
        for item in range(30)
        if rng.random() < 0.6
    ]
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows) + "\n"
    )
    names = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    films = "".join(f"{item}\tFilm {item}\t1995\tDrama Comedy\n" for item in range(30))
    (tmp_path / "ml-100k.item").write_text(names + films)
    data = {**table_of(tmp_path, tmp_path / "tables"), "core": 1}
    del data["item_table"]["text"]  # which would have to be encoded
    for split in SPLITS.values():
        config = TrainConfig.model_validate({"data": data, "split": split})
        statistics = prepare(
            config, cache_dir=tmp_path / "cache", device=torch.device("cpu")
        ).split.statistics
        assert [part.name for part in statistics.parts] == [
            "train",
            "iid_valid",
            "iid_test",
            "ood_valid",
            "ood_test",
        ]
