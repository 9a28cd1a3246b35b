"""Which painvrl a workspace and its studies are of: a newer one's are refused in one line."""

from __future__ import annotations

import json
import re

import painvrl
from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace


def is_newer(version: str) -> bool:
    """Whether a version of painvrl may have written what this one does not know.

    Until 1.0 a minor version may; a patch never does.

    >>> is_newer("0.1.7"), is_newer("99.0"), is_newer("no version")
    (False, True, False)
    """
    theirs, ours = (re.match(r"(\d+)\.(\d+)", each) for each in (version, painvrl.__version__))
    if theirs is None or ours is None:
        return False
    return tuple(map(int, theirs.groups())) > tuple(map(int, ours.groups()))


def too_new(version: str) -> str:
    """What is said of such a version."""
    return f"painvrl {version}, and this is {painvrl.__version__}: update painvrl (pip install -U painvrl)"


def refuse_newer(workspace: Workspace) -> None:
    """Refuse a workspace whose stamp is of a newer painvrl; one that cannot be read says nothing.

    Raises:
        StudyError: it is.
    """
    try:
        stamp = json.loads(workspace.stamp.read_bytes())
        version = str(stamp["painvrl"])
    except (OSError, ValueError, LookupError, TypeError):
        return
    if is_newer(version):
        raise StudyError(f"the workspace is of {too_new(version)}", file=workspace.stamp)
