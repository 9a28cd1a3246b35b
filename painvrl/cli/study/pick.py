"""``painvrl study pick``: choose a trial of the front, and keep the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    StorageOption,
    StudyArgument,
    WorkspaceOption,
    open_named,
)
from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.choice.rules import Rule


def pick(
    study: StudyArgument = None,
    *,
    knee: Annotated[
        bool, typer.Option("--knee", help="Farthest above the line between the best IID and the best OOD.")
    ] = False,
    iid: Annotated[bool, typer.Option("--iid", help="The best IID metric.")] = False,
    ood: Annotated[bool, typer.Option("--ood", help="The best OOD metric.")] = False,
    loeo: Annotated[
        bool, typer.Option("--loeo", help="The best metric of left-out environments; reads no OOD part.")
    ] = False,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="The largest harmonic mean of IID and OOD.")
    ] = False,
    max_ood_with_iid: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="The best OOD metric with at least this share of the best IID metric, such as 98% or 0.98.",
        ),
    ] = None,
    max_iid_with_loeo: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="The best IID metric with at least this share of the best left-out metric, such as 90%; "
            "reads no OOD part.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=W,...",
            help="The largest weighted sum of objectives, each scaled to the front's range.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="The largest worst margin over these values, in units of the front's range.",
        ),
    ] = None,
    trial: Annotated[
        str | None, typer.Option(metavar="N", help="This trial; of a swept one a point, such as 12.3.")
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Its name, and its model's alias in MLflow; left out, it is the rule's, such as knee.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show what was picked.")] = False,
    clear: Annotated[str | None, typer.Option(metavar="NAME", help="Forget this pick.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    json: JsonOption = False,
) -> None:
    """Pick a trial of the front by one rule, and keep it with its reason.

    The pick is what `train --best` trains. It is stored with the study under a name, and shown on the trial's
    run in MLflow; the model that is trained from it gets that name as its alias. OOD here is the validation
    part: picking by it uses knowledge of the shift that the test will have.

    Example: painvrl study pick --max-ood-with-iid 90%
    """
    given = {
        "--knee": knee,
        "--iid": iid,
        "--ood": ood,
        "--loeo": loeo,
        "--balanced": balanced,
        "--max-ood-with-iid": max_ood_with_iid is not None,
        "--max-iid-with-loeo": max_iid_with_loeo is not None,
        "--weights": weights is not None,
        "--reference": reference is not None,
        "--trial": trial is not None,
        "--list": show,
        "--clear": clear is not None,
    }
    asked = [name for name, is_given in given.items() if is_given]
    if len(asked) != 1:
        found = " and ".join(asked) or None
        raise ConfigError(f"needs exactly one of {', '.join(given)}", key="pick", value=found)
    if alias is not None and asked[0] in {"--list", "--clear"}:
        raise ConfigError(f"does not go with {asked[0]}", key="--as", value=alias)

    from painvrl.cli import render
    from painvrl.study.choice.choosing import choose, forget, kept_picks

    place, stored = Workspace(workspace), open_named(study, workspace, storage)
    name, kept = stored.name, None
    if show:
        picks = kept_picks(stored)
        figures: dict[str, object] = {"picks": [one.as_dict() for one in picks]}
        lines = [str(one) for one in picks]
        lines = lines or [
            f"nothing is picked in {name}; `painvrl study pick {name} --knee` would pick the knee"
        ]
    elif clear is not None:
        kept = forget(stored, place, clear)
        figures = {"cleared": kept.as_dict()}
        lines = [f"{clear} is no longer a pick of {name} (it was trial {kept.pick.name})"]
    else:
        share = max_ood_with_iid if max_ood_with_iid is not None else max_iid_with_loeo
        what = trial if trial is not None else _rule(asked[0], share, weights, reference)
        kept = choose(stored, place, what, alias=alias)
        figures = kept.as_dict()
        lines = [f"{kept.pick.alias} = trial {kept.pick.name} of {name}: {kept.pick.reason}"]
        if (old := kept.replaced) is not None:
            lines += [
                f"in place of trial {old.name}, which was {old.alias} by {old.rule}; `--as NAME` keeps both"
            ]
        others = [one.pick.alias for one in kept_picks(stored) if one.pick.alias != kept.pick.alias]
        if others:
            lines.append(
                f"also picked: {', '.join(others)}. Of several, `train --best` needs one by --pick NAME; "
                "`painvrl study pick --clear NAME` forgets one"
            )
    if json:
        render.print_json({"study": name, **figures})
    else:
        render.show(*lines)
    if kept is not None and kept.warning is not None:
        typer.echo(f"warning: the run in MLflow does not show it: {kept.warning}", err=True)


def _rule(option: str, share: str | None, weights: str | None, reference: str | None) -> Rule:
    from painvrl.study.choice.rules import MaxIidWithLoeo, MaxOodWithIid, Reference, Weighted, rule_named

    if share is not None and option == "--max-iid-with-loeo":
        return MaxIidWithLoeo(share=_share(share, option, of="left-out metric"))
    if share is not None:
        return MaxOodWithIid(share=_share(share, option, of="IID"))
    if weights is not None:
        return Weighted(weights=_numbers(weights, "--weights"))
    if reference is not None:
        return Reference(reference=_numbers(reference, "--reference"))
    return rule_named(option.removeprefix("--"))


def _share(text: str, option: str, *, of: str) -> float:
    """``98%`` and ``0.98`` are the same."""
    rule = f"must be a share of the best {of}, such as 98% or 0.98"
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(rule, key=option, value=text) from None
    if not 0 <= share <= 1:
        raise ConfigError(rule, key=option, value=text)
    return share


def _numbers(text: str, option: str) -> dict[str, float]:
    """``NAME=NUMBER,NAME=NUMBER``."""
    numbers: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            rule = "reads OBJECTIVE=NUMBER,OBJECTIVE=NUMBER, such as iid/ndcg_at_20=1,ood/ndcg_at_20=2"
            raise ConfigError(rule, key=option, value=part) from None
        if name in numbers:
            raise ConfigError("names an objective twice", key=option, value=name)
        numbers[name] = value
    return numbers
