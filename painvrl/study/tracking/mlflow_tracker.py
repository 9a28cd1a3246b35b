"""Studies in MLflow: one parent run a study, one child run a trial, the front's runs tagged.

A swept trial is one training and several points; those of the front have child runs of their own.

MLflow is imported when a tracker is made, with its telemetry off. Everything goes through a client
with an explicit URI: no active run, no global tracking URI.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned, point_name
from painvrl.run.hyperparameters import Point
from painvrl.study.front import FrontTable
from painvrl.study.store.records import TrialRecord
from painvrl.study.tracking.measurements import Measurement, at, of_outcome, of_pruned, of_split
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, knock, mlflow_calls
from painvrl.study.tracking.mlflow_database import ready_database
from painvrl.study.tracking.mlflow_view import (
    BEHIND,
    CHARTED_TAG,
    COLOUR_TAG,
    NOTE_TAG,
    ON_FRONT,
    VIEW_TAG,
    front_note,
    front_view,
    opens_views,
    view_url,
)
from painvrl.study.tracking.port import (
    PARENT,
    ConfigOf,
    FinishedTrial,
    Opened,
    Status,
    StudyHeader,
    Tracker,
    front_url,
    resolve_tracking_uri,
    run_pages_url,
    runs_filter,
    runs_url,
    ui_of,
)

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, Run
    from mlflow.tracking import MlflowClient


POINT_TABLE = "points.json"
"""The table of all points. JSON, because the UI reads ``12.10`` in a CSV file as the number 12.1."""


class MlflowTracker(Tracker):
    """Mirrors a study into MLflow.

    Args:
        tracking_uri: an MLflow store: a database's URL or a server's.
        artifact_root: an absolute folder for artifacts; ``None`` leaves them to the server.

    Raises:
        StudyError: the store cannot be reached (here and in every method).
    """

    def __init__(self, *, tracking_uri: str, artifact_root: Path | None) -> None:
        self._uri = tracking_uri
        with mlflow_calls(tracking_uri):
            from mlflow.tracking import MlflowClient

            self._client: MlflowClient = MlflowClient(tracking_uri=tracking_uri)
            self._experiment = _experiment(self._client, artifact_root)
        self._parent = ""
        self._objectives: tuple[str, ...] = ()
        self._study = ""
        self._has_front = True
        self._has_view = False
        self._data = ""
        self._tags: dict[str, dict[str, str]] = {}
        self._points: dict[str, str] = {}
        self._half_made: set[str] = set()

    def open(self, header: StudyHeader, finished: Sequence[FinishedTrial]) -> Opened:
        """Find the study's run or make it; write again, without curves, the runs of trials that are gone."""
        self._objectives, self._study = header.objectives, header.name
        self._has_front = header.kind == "study"
        self._data = header.data.fingerprint
        with mlflow_calls(self._uri):
            self._parent = self._parent_run(header)
            self._has_view = self._save_view(header)
            children = self._read_children()
            rewritten = dict(self._bring_up_to_date(finished, children, header.alive))
            if self._has_view:
                self._chart_old(finished, children)
        return Opened(parent_run=self._parent, rewritten=rewritten, points=dict(self._points))

    def start(self, job: Job) -> str:
        """Open a child run with the trial's parameters and its resolved configuration.

        What was interrupted goes on in its run, which has the trial's new number from now on.
        """
        with mlflow_calls(self._uri):
            run_id = self._reopened(job) or self._new_trial(job)
            self._describe(run_id, job)
        return run_id

    def finish(self, run_id: str | None, job: Job, outcome: Outcome, *, ended: int | None = None) -> None:
        """Log what the trial came to in one batch, and end its run."""
        if run_id is None:
            return
        from mlflow.entities import RunTag

        logged: Iterable[Measurement] = ()
        if isinstance(outcome, Failed):
            tags = {"reason": outcome.reason, "message": outcome.message}
        elif isinstance(outcome, Pruned):
            tags = {"pruned": outcome.rung, "message": outcome.message}
            logged = of_pruned(outcome)
        else:
            tags = {CHARTED_TAG: "true"}
            if outcome.mixed:
                tags["continued_with_another"] = ", ".join(outcome.mixed)
            if outcome.points:
                tags["reported"] = _reported(job.trial, outcome)
            logged = of_outcome(outcome, {*self._objectives, job.config.training.monitor})
        with mlflow_calls(self._uri):
            self._client.log_batch(
                run_id,
                tags=[RunTag(key, value) for key, value in tags.items()],
                # The numbers not in `start`: a batch of metrics costs as much for six of them as for sixty.
                metrics=_numbers(job.point, ended) + _logged(logged, ended),
            )
            if isinstance(outcome, Failed) and outcome.log:
                self._client.log_text(run_id, outcome.log, "failure.txt")
            self._client.set_terminated(
                run_id, status="FAILED" if isinstance(outcome, Failed) else "FINISHED", end_time=ended
            )
        self._tags.setdefault(run_id, {}).update(tags)

    def kill(self, run_id: str | None) -> None:
        """End the run of a trial that was interrupted, unless another process goes on in it, or ended it."""
        if run_id is None:
            return
        with mlflow_calls(self._uri):
            run, known = self._find(run_id), self._tags.get(run_id, {}).get("trial")
            if run is None or run.info.status != "RUNNING":
                return
            if known in {None, run.data.tags.get("trial")}:
                self._client.set_terminated(run_id, status="KILLED")

    def mark_front(self, membership: Mapping[str, bool]) -> None:
        """Tag runs ``pareto = true`` or ``false``, and paint them; only changes are written."""
        with mlflow_calls(self._uri):
            for run_id, member in membership.items():
                self._tag(run_id, "pareto", str(member).lower())
                self._tag(run_id, COLOUR_TAG, ON_FRONT if member else BEHIND)

    def points(
        self, trainings: Sequence[TrialRecord], front: Collection[str], config_of: ConfigOf
    ) -> dict[str, str]:
        """Make what is missing of the runs of the front's points, and the table of all points again."""
        with mlflow_calls(self._uri):
            self._read_children()  # other processes may have made some
            for training in trainings:
                if not training.points or training.run_id is None:
                    continue
                on_front = [point for point in training.points if point.name in front]
                for point in on_front:
                    self._make_point(point, training.run_id, config_of)
                self._tag(training.run_id, "has_front_point", str(bool(on_front)).lower())
                # A point with a run of its own is not drawn a second time.
                reported = self._tags[training.run_id].get("reported")
                self._tag(training.run_id, CHARTED_TAG, str(reported not in self._points).lower())
            self._client.log_text(self._parent, _point_table(trainings, front, self._objectives), POINT_TABLE)
            # What MLflow's own `log_table` notes, so that the UI shows a table; it would add to the last one.
            self._client.set_tag(
                self._parent, "mlflow.loggedArtifacts", json.dumps([{"path": POINT_TABLE, "type": "table"}])
            )
        return dict(self._points)

    def close(
        self, status: Status, *, pages: Mapping[str, str] | None = None, front: FrontTable | None = None
    ) -> None:
        """End the study's own run; a resumed study opens it again."""
        with mlflow_calls(self._uri):
            for name, text in (pages or {}).items():
                self._client.log_text(self._parent, text, name)
            if front is not None and front.rows:
                self._client.set_tag(self._parent, NOTE_TAG, front_note(front, self._experiment))
            if self._has_front:
                size = float(sum(tags.get("pareto") == "true" for tags in self._tags.values()))
                self._client.log_batch(self._parent, metrics=_metrics({"study/front_size": size}))
            self._client.set_terminated(self._parent, status=status)

    def link(self, base_url: str) -> str:
        """The page of MLflow's UI that shows the front, in the study's view if it has one."""
        base = ui_of(self._uri, base_url)
        if self._has_view:
            return view_url(base, self._experiment, self._parent)
        if not self._has_front:
            return runs_url(base, self._experiment, runs_filter(self._parent), self._objectives[0])
        return front_url(base, self._experiment, self._parent, self._objectives[0])

    def run_pages(self, base_url: str) -> str:
        """Where MLflow's UI has the pages of runs, each under its id."""
        return run_pages_url(ui_of(self._uri, base_url), self._experiment)

    def _parent_run(self, header: StudyHeader) -> str:
        run = None if header.parent_run is None else self._find(header.parent_run)
        if run is not None:
            run_id = str(run.info.run_id)
            self._client.update_run(run_id, status="RUNNING")
        else:
            data = header.data
            tags = {"kind": header.kind, "study": header.name, "data": data.fingerprint}
            run_id = self._new_run(
                header.name, {**tags, "protocol": str(data.statistics.get("protocol", ""))}
            )
            self._client.log_dict(run_id, dict(data.statistics), "split_statistics.json")
            statistics = "\n".join(table.to_text() for table in data.tables)
            self._client.log_text(run_id, statistics, "split_statistics.txt")
            self._client.log_batch(run_id, metrics=_logged(of_split(data.statistics)))
        # Again at each open: much of it, such as points and constraints, may be another than the last time.
        self._client.log_text(run_id, header.yaml, f"{header.kind}.yaml")
        return run_id

    def _save_view(self, header: StudyHeader) -> bool:
        """Save the view of the study's front, if it is one that the UI opens; whether it is."""
        view = front_view(header, self._parent) if self._has_front and opens_views(self._uri) else None
        if view is not None:
            self._client.set_experiment_tag(self._experiment, VIEW_TAG + self._parent, view)
        return view is not None

    def _new_run(self, name: str, tags: Mapping[str, str], begun: int | None = None) -> str:
        run = self._client.create_run(self._experiment, start_time=begun, run_name=name, tags=tags)
        return str(run.info.run_id)

    def _new_child(self, name: str, begun: int | None = None, /, **tags: str | None) -> str:
        """The run of a trial or a point."""
        known = {key: value for key, value in tags.items() if value is not None}
        run_id = self._new_run(name, {PARENT: self._parent, "study": self._study, **known}, begun)
        self._tags[run_id] = known
        return run_id

    def _reopened(self, job: Job) -> str | None:
        """The run of the attempt before, if there was one and its run is there."""
        run = None if job.run_id is None else self._find(job.run_id)
        if run is None:
            return None
        run_id = str(run.info.run_id)
        self._client.update_run(run_id, status="RUNNING", name=self._name_of(job))
        self._tags[run_id] = dict(run.data.tags)
        self._tag(run_id, "trial", str(job.trial))
        return run_id

    def _find(self, run_id: str) -> Run | None:
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        # A run in another experiment or in the bin would not be found by the front's link.
        usable = run.info.lifecycle_stage == "active" and run.info.experiment_id == self._experiment
        return run if usable else None

    def _read_children(self) -> dict[str, Run]:
        """The runs of trials and points, and what is known of them from now on."""
        children = {run.info.run_id: run for run in self._children()}
        self._tags = {run_id: dict(run.data.tags) for run_id, run in children.items()}
        of_points = [run for run in children.values() if run.data.tags.get("kind") == "point"]
        self._points = {run.data.tags["point"]: run.info.run_id for run in of_points}
        self._half_made = {run.info.run_id for run in of_points if run.info.status != "FINISHED"}
        return children

    def _children(self) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], runs_filter(self._parent), page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _tag(self, run_id: str, key: str, value: str) -> None:
        """Tag a run, unless it has the tag."""
        known = self._tags.setdefault(run_id, {})
        if known.get(key) != value:
            self._client.set_tag(run_id, key, value)
            known[key] = value

    def _make_point(self, point: TrialRecord, training: str, config_of: ConfigOf) -> None:
        """The run of a point on the front, made or finished if need be. ``training``: its training's run."""
        run_id = self._points.get(point.name)
        if run_id is None:
            run_id = self._points[point.name] = self._new_child(
                f"{self._study}-{point.number:03d}.{point.place}",
                kind="point",
                trial=str(point.number),
                point=point.name,
                training=training,
                pareto="true",
                **{CHARTED_TAG: "true"},
                preset=point.preset,
            )
            self._half_made.add(run_id)
        self._tag(run_id, "training", training)
        if run_id in self._half_made:
            numbers = _numbers(point.point) + _metrics(point.metrics)
            self._client.log_batch(run_id, params=_params(point.point, point.preset), metrics=numbers)
            self._client.log_text(run_id, dump_yaml(config_of(point)), "config.yaml")
            self._client.set_terminated(run_id, status="FINISHED")
            self._half_made.remove(run_id)

    def _bring_up_to_date(
        self, finished: Sequence[FinishedTrial], children: Mapping[str, Run], alive: Collection[str]
    ) -> Iterator[tuple[int, str]]:
        known = {trial.record.run_id for trial in finished}
        # A final model may be training in another process: only trials stand under the study's lock.
        left = [
            run
            for run_id, run in children.items()
            if run.info.status == "RUNNING"
            and run.data.tags.get("kind") == "trial"
            and run_id not in known
            and run_id not in alive
        ]
        # Among them are runs whose server was lost before it could say that it had made them.
        unclaimed = {run.info.run_name: run.info.run_id for run in left}
        names, rewritten = {self._name_of(trial.job) for trial in finished}, dict[str, str]()
        for trial in finished:
            run = children.get(trial.record.run_id or "")
            if run is None:
                run_id = rewritten[self._name_of(trial.job)] = self._write_again(trial, unclaimed)
                yield trial.record.number, run_id
            elif trial.spooled or run.info.status not in {"FINISHED", "FAILED"}:
                self._finish_again(run.info.run_id, trial)
        for run in left:
            if run.info.run_name not in names:
                self.kill(run.info.run_id)
            elif run.info.run_id != rewritten.get(run.info.run_name):  # made twice
                self._client.delete_run(run.info.run_id)

    def _write_again(self, trial: FinishedTrial, unclaimed: dict[str, str]) -> str:
        run_id = unclaimed.pop(self._name_of(trial.job), None) or self._new_trial(trial.job, trial.begun)
        self._describe(run_id, trial.job)
        if (origin := trial.record.taken_from) is not None:
            self._tag(run_id, "taken_from", str(origin))
            if origin.run_id is not None:
                self._tag(run_id, "taken_from_run", origin.run_id)
        self._finish_again(run_id, trial)
        return run_id

    def _new_trial(self, job: Job, begun: int | None = None) -> str:
        return self._new_child(
            self._name_of(job),
            begun,
            kind="trial",
            trial=str(job.trial),
            preset=job.preset,
            seeds=str(job.seeds) if job.seeds > 1 else None,
        )

    def _name_of(self, job: Job) -> str:
        return f"{self._study}-{job.run_name}"

    def _describe(self, run_id: str, job: Job) -> None:
        """What the run of a trial has from its start."""
        from mlflow.entities import Param

        params = [*_params(job.point, job.preset), Param("seed", str(job.seed))]
        self._client.log_batch(run_id, params=params)
        self._client.log_inputs(run_id, [_dataset(job, self._data)])
        self._client.log_text(run_id, dump_yaml(job.config), "config.yaml")

    def _chart_old(self, finished: Sequence[FinishedTrial], children: Mapping[str, Run]) -> None:
        """Make points of the view of what an earlier version of painvrl tracked."""
        complete = (trial.record.run_id for trial in finished if trial.record.values is not None)
        for run_id in (*complete, *self._points.values()):
            if run_id is not None and run_id in children and CHARTED_TAG not in self._tags[run_id]:
                self._tag(run_id, CHARTED_TAG, "true")

    def _finish_again(self, run_id: str, trial: FinishedTrial) -> None:
        if trial.record.outcome is not None:
            self.finish(run_id, trial.job, trial.record.outcome, ended=trial.ended)


def mlflow_tracker(workspace: Workspace, tracking_uri: str | None = None) -> MlflowTracker:
    """The tracker of a workspace, or of another store (see ``resolve_tracking_uri``)."""
    uri = resolve_tracking_uri(workspace, tracking_uri)
    knock(uri)
    remote = uri.startswith(("http://", "https://", "databricks"))
    if not remote:
        workspace.create()
    if uri == workspace.tracking_uri:
        ready_database(workspace)
    return MlflowTracker(tracking_uri=uri, artifact_root=None if remote else workspace.artifacts)


def _experiment(client: MlflowClient, artifact_root: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        location = None if artifact_root is None else (artifact_root / EXPERIMENT).as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:  # nobody else made it meanwhile
                raise
    return str(found.experiment_id)


def _dataset(job: Job, fingerprint: str) -> DatasetInput:
    """The data of a trial as MLflow lists them, its split beside them."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data, _, split = fingerprint.partition("-")
    source = job.config.data.model_dump_json()
    dataset = Dataset(name=job.config.data.kind, digest=data, source_type="painvrl", source=source)
    tags = {"protocol": job.config.split.protocol, "split": split}
    return DatasetInput(dataset=dataset, tags=[InputTag(key, value) for key, value in tags.items()])


def _point_table(trainings: Sequence[TrialRecord], front: Collection[str], objectives: Sequence[str]) -> str:
    """The points of complete trials, in the format of MLflow's ``log_table``; ``front``: names of points.

    ``place`` tells ``12.10`` from ``12.1`` where a reader takes names for numbers. Empty cells are ``null``.
    """
    points = [point for training in trainings for point in training.points or (training,)]
    paths = sorted({path for point in points for path in point.point})
    columns = ["trial", "place", "point", "on_front", "preset", *objectives, *paths]
    rows = [
        [
            *(point.number, point.place, point.name, point.name in front, point.preset),
            *(point.values or ()),
            *(point.point.get(path) for path in paths),
        ]
        for point in points
    ]
    return json.dumps({"columns": columns, "data": rows})


def _reported(number: int, outcome: Completed) -> str:
    """The name of the point whose metrics stand for a swept training."""
    return point_name(number, [point.metrics for point in outcome.points].index(outcome.metrics))


def _params(point: Point, preset: str | None) -> list[Param]:
    from mlflow.entities import Param

    given = {**point, **({} if preset is None else {"preset": preset})}
    return [Param(path, str(value)) for path, value in given.items()]


def _numbers(point: Point, when: int | None = None) -> list[Metric]:
    """Hyperparameters once more as metrics: parameters compare only as strings in MLflow's filters."""
    numbers = {f"param/{path}": value for path, value in point.items() if isinstance(value, int | float)}
    return _logged(at(0, numbers), when)


def _logged(measurements: Iterable[Measurement], when: int | None = None) -> list[Metric]:
    from mlflow.entities import Metric

    when = int(time.time() * 1000) if when is None else when
    return [Metric(each.name, each.value, when, each.step) for each in measurements]


def _metrics(values: Mapping[str, float]) -> list[Metric]:
    return _logged(at(0, values))
