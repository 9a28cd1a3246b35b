"""Studies: run them, look at their fronts as data frames, pick a point, confirm and train it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from painvrl.api.inputs import DEFAULT_WORKSPACE, PathLike, Tree, place_of, spec_of
from painvrl.core.errors import ConfigError, SeveralStudies, StudyError

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from painvrl.core.workspace import Workspace
    from painvrl.serving.retrain import TrainReport
    from painvrl.study.choice.picks import Pick
    from painvrl.study.confirmation.confirm import ConfirmationSummary
    from painvrl.study.file.spec import StudySpec
    from painvrl.study.store.records import TrialRecord
    from painvrl.study.store.storage import StoredStudy

RuleName: TypeAlias = Literal["knee", "iid", "ood", "loeo", "balanced"]


class Study:
    """A study of a workspace. What it holds is read again at each call, so it may be running elsewhere.

    Attributes:
        name: of the study, or of one of its versions.
        workspace: where it is kept.
    """

    def __init__(self, stored: StoredStudy, workspace: Workspace, storage: str | None = None) -> None:
        self._stored, self._storage = stored, storage
        self.name: str = stored.name
        self.workspace = workspace

    def __repr__(self) -> str:
        return f"<Study {self.name!r} in {self.workspace.root}>"

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics that it maximises, such as ``ood/ndcg_at_20``."""
        return self._stored.objectives

    def trials(self) -> pd.DataFrame:
        """A row a trial, by its number: state, preset, seconds, objectives, and hyperparameters.

        A swept trial has the values of the point that was reported to the sampler.
        """
        return self._frame([(str(record.number), record) for record in self._stored.trials()])

    def points(self) -> pd.DataFrame:
        """A row a point of the complete trials, by its name: ``12.3`` is point 3 of trial 12."""
        from painvrl.study.store.records import complete

        return self._frame([(point.name, point) for point in complete(self._stored.trials())])

    def front(self) -> pd.DataFrame:
        """The rows of :meth:`points` that keep to the constraints and that no other dominates."""
        from painvrl.study.store.records import front_of

        return self._frame([(point.name, point) for point in front_of(self._stored.trials())])

    def plot_front(self) -> Figure:
        """The front in the planes of IID and OOD, for a notebook.

        Raises:
            StudyError: no metric is measured on an IID and an OOD part, or nothing is complete.
        """
        from painvrl.study.front import front_table
        from painvrl.study.plots.figure import front_figure, title_of
        from painvrl.study.plots.panels import panels_of

        table = front_table(self._stored)
        panels = panels_of(table)
        if not panels:
            raise StudyError("there is no plane of IID and OOD to draw", key=self.name)
        return front_figure(panels, title_of(table))

    def pick(
        self,
        rule: RuleName | None = None,
        *,
        max_ood_with_iid: float | None = None,
        max_iid_with_loeo: float | None = None,
        weights: Mapping[str, float] | None = None,
        reference: Mapping[str, float] | None = None,
        trial: str | int | None = None,
        alias: str | None = None,
    ) -> Pick:
        """Pick a point of the front by exactly one rule, and keep it, as ``painvrl study pick`` does.

        Args:
            rule: ``knee``, ``iid``, ``ood``, ``loeo`` or ``balanced``.
            max_ood_with_iid: the best OOD with at least this share of the best IID, such as 0.98.
            max_iid_with_loeo: the best IID with at least this share of the best metric of left-out
                environments, such as 0.9; it reads no OOD part.
            weights: of objectives; the largest weighted sum wins.
            reference: values of objectives; the largest worst margin over them wins.
            trial: a point by its name, such as ``12.3``.
            alias: what the pick is called; by default what its rule is called on the command line, such as
                ``knee``, ``max-ood-with-iid`` or ``trial``. A pick of that name is replaced.

        Raises:
            ConfigError: not exactly one rule is given, or it breaks a rule itself.
            NothingFeasible: the study has no front yet.
        """
        from painvrl.study.choice.choosing import choose
        from painvrl.study.choice.rules import (
            MaxIidWithLoeo,
            MaxOodWithIid,
            Reference,
            Rule,
            Weighted,
            rule_named,
        )

        rules: list[Rule | str] = []
        if rule is not None:
            rules.append(rule_named(rule))
        if max_ood_with_iid is not None:
            rules.append(MaxOodWithIid(share=max_ood_with_iid))
        if max_iid_with_loeo is not None:
            rules.append(MaxIidWithLoeo(share=max_iid_with_loeo))
        if weights is not None:
            rules.append(Weighted(weights=weights))
        if reference is not None:
            rules.append(Reference(reference=reference))
        if trial is not None:
            rules.append(str(trial))
        if len(rules) != 1:
            raise ConfigError("needs exactly one rule", key="pick", value=len(rules))
        return choose(self._stored, self.workspace, rules[0], alias=alias).pick

    def confirm(
        self,
        *,
        candidates: Literal["front", "plausible"] = "plausible",
        seeds_at_most: int = 10,
        sure: float = 0.9,
        workers: int = 1,
        device: str = "auto",
    ) -> ConfirmationSummary:
        """Train the front's candidates under fresh seeds, as ``painvrl study confirm`` does.

        Args:
            candidates: the front's points only, or also those that noise may have kept off it.
            seeds_at_most: fresh seeds of any candidate.
            sure: the probability at which a candidate is decided.
            workers: trainings at a time.
            device: see :func:`painvrl.train`.

        Raises:
            UserError: an argument or the data break a rule.
            NothingFeasible: the study has no front yet.
        """
        from painvrl.core.device import select_device
        from painvrl.study.confirmation.confirm import run_confirmation

        return run_confirmation(
            self._stored,
            self.workspace,
            select_device(device),
            seeds_at_most=seeds_at_most,
            sure=sure,
            scope=candidates,
            workers=workers,
        )

    def train(
        self,
        *,
        trial: str | int | None = None,
        pick: str | None = None,
        prefer: RuleName | None = None,
        refit: bool = False,
        seed: int | None = None,
        device: str = "auto",
    ) -> TrainReport:
        """Train a point of the front again and keep the model, as ``painvrl train --best`` does.

        Where nothing is named here, what is tagged ``selected = true`` in MLflow is trained, else the only
        pick, else the knee. The sealed test parts are read, and the read is counted.

        Args:
            trial: a point by its name; at most one of this and the next two.
            pick: the alias of a stored pick.
            prefer: a rule.
            refit: train the kept model on the valid parts, too.
            seed: another seed than the trial's.
            device: see :func:`painvrl.train`.

        Raises:
            UserError: there is no such point, or more than one was named.
        """
        from painvrl.core.device import select_device
        from painvrl.serving.retrain import Choice, TrainOptions, train_best

        if sum(one is not None for one in (trial, pick, prefer)) > 1:
            raise ConfigError("give only one of trial, pick and prefer", key="train")
        point = None if trial is None else str(trial)
        choice = Choice(study=self.name, trial=point, pick=pick, prefer=prefer, storage=self._storage)
        options = TrainOptions(device=select_device(device), seed=seed, refit=refit, test=True)
        return train_best(choice, self.workspace, options)

    def _frame(self, named: list[tuple[str, TrialRecord]]) -> pd.DataFrame:
        import pandas as pd

        rows = [self._row(record) for _, record in named]
        index = pd.Index([name for name, _ in named], name="trial")
        columns = [*_ABOUT, *self.objectives, *sorted({path for _, record in named for path in record.point})]
        return pd.DataFrame(rows, index=index, columns=columns)

    def _row(self, record: TrialRecord) -> dict[str, object]:
        about = dict(
            zip(_ABOUT, (record.state.value, record.preset, record.seconds, record.run_id), strict=True)
        )
        values = record.values or (None,) * len(self.objectives)
        return {**about, **dict(zip(self.objectives, values, strict=True)), **record.point}


_ABOUT = ("state", "preset", "seconds", "run_id")


def run_study(
    spec: StudySpec | Tree | PathLike,
    *,
    values: Mapping[str, object] | None = None,
    trials: int | None = None,
    workers: int = 1,
    workspace: Workspace | PathLike = DEFAULT_WORKSPACE,
    device: str = "auto",
) -> Study:
    """Run a study, or continue it, as ``painvrl study run`` does.

    Args:
        spec: a study's YAML file, what such a file holds, or what was read of it.
        values: by their path in place of the file's, such as ``{"study.seed": 1}``.
        trials: finished trials in all, in place of the file's ``study.trials``.
        workers: trainings at a time.
        workspace: where everything is kept.
        device: see :func:`painvrl.train`.

    Raises:
        UserError: the file, the data or the storage break a rule.
        NothingFeasible: no trial is complete and keeps to the constraints.

    Example::

        study = painvrl.run_study("studies/movielens.yaml", trials=10)
        study.front()
    """
    from painvrl.core.device import select_device
    from painvrl.study.runner import run_study as run

    loaded, place = spec_of(spec, values or {}), place_of(workspace)
    summary = run(loaded, place, select_device(device), trials=trials, workers=workers)
    return open_study(summary.study, workspace=place, storage=loaded.study.storage)


def open_study(
    name: str | None = None,
    *,
    workspace: Workspace | PathLike = DEFAULT_WORKSPACE,
    storage: str | None = None,
) -> Study:
    """A study that exists.

    Args:
        name: its name or its YAML file; not needed while the workspace holds only one.
        workspace: where it is kept.
        storage: the URL of a database in place of the workspace's own.

    Raises:
        StudyError: there is no such study, or several to choose from.
    """
    from painvrl.study.file.spec import load_spec
    from painvrl.study.store.storage import open_study as open_stored

    is_file = name is not None and Path(name).suffix in {".yaml", ".yml"}
    place = place_of(workspace)
    spec = load_spec(Path(str(name))) if is_file else None
    where = storage or (None if spec is None else spec.study.storage)
    try:
        return Study(open_stored(spec or name, place, storage=where), place, where)
    except SeveralStudies as several:
        rule = f"{several.rule}, such as open_study({several.first!r})"
        raise StudyError(rule, file=several.file) from None
