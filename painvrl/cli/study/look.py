"""``painvrl study front`` and ``status``: look at a study."""

from __future__ import annotations

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.cli.study.common import StudyArgument, nothing_feasible, open_named


def front(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print the front: trials that no other beats."""
    from painvrl.cli import render
    from painvrl.study.report import front_table

    table = front_table(open_named(study, workspace))
    if json:
        render.json(table.as_dict())
    elif table.rows:
        render.front(table)
    if not table.rows:
        raise nothing_feasible(table.study)


def status(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print how far a study is, and why trials failed."""
    from painvrl.cli import render
    from painvrl.study.report import status as status_of

    now = status_of(open_named(study, workspace))
    if json:
        render.json(now.as_dict())
    else:
        render.status(now)
    if not now.front_size:
        raise nothing_feasible(now.study)
