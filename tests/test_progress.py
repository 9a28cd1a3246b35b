from __future__ import annotations

from painvrl.progress import NullObserver, Observer


def test_the_null_observer_hears_everything_and_keeps_nothing() -> None:
    observer: Observer = NullObserver()
    observer.stage("pretrain")
    observer.curve("pretrain", 1, {"loss": 0.5})
    assert vars(observer) == {}
