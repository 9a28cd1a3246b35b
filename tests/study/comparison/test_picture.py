from __future__ import annotations

from painvrl.study.comparison.picture import planes_of


def test_every_ood_objective_has_a_plane_with_the_iid_one_of_its_metric() -> None:
    names = ["iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood_new/ndcg_at_20", "ood/ndcg_at_10"]
    assert planes_of(names) == (
        ("iid/recall_at_20", "ood/recall_at_20"),
        ("iid/ndcg_at_20", "ood_new/ndcg_at_20"),
    )


def test_without_such_a_pair_the_first_two_objectives_are_the_plane() -> None:
    assert planes_of(["iid/ndcg_at_20", "ood/recall_at_20"]) == (("iid/ndcg_at_20", "ood/recall_at_20"),)
    assert planes_of(["ood/ndcg_at_20"]) == (("ood/ndcg_at_20", "ood/ndcg_at_20"),)
