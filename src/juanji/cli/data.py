"""`juanji data`: the known data sets, where they are, and getting them; and what is in a set of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from juanji.cli.output import JsonOption, command, emit, show

if TYPE_CHECKING:
    from juanji.data.registry import Entry

app = typer.Typer(
    help="Known data sets: what there is, where it is, getting it. Your own pictures: what is in them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(help="A data set's name, as `juanji data list` shows it.")]


@app.command("list")
@command
def list_(as_json: JsonOption = False) -> None:
    """List the known data sets and whether they are here."""
    from juanji.data import registry

    entries = registry.entries()
    if as_json:
        emit({"datasets": [_plain(entry) for entry in entries]})
        return
    for entry in entries:
        state = f"here: {entry.folder}" if entry.folder else f"not here; {entry.bytes / 1e6:.1f} MB to fetch"
        show(f"{entry.name:14s} {entry.text}\n{'':14s} {entry.train:,} + {entry.test:,} pictures, {state}")
        if entry.source:
            show(f"{'':14s} {entry.source}")


@app.command("get")
@command
def get(name: NameArgument, as_json: JsonOption = False) -> None:
    """Fetch a data set into the cache, where it is not there yet."""
    from juanji.cli.downloads import showing
    from juanji.cli.sets import check_name
    from juanji.data import registry

    check_name(name)
    with showing() as progress:
        entry = registry.get(name, progress)
    if as_json:
        emit(_plain(entry))
    else:
        show(f"{entry.source}\n{entry.folder}")


@app.command("path")
@command
def path(name: NameArgument, as_json: JsonOption = False) -> None:
    """Print the folder of a data set that is here; exit code 1 if it is not."""
    from juanji.cli.sets import check_name
    from juanji.data import registry

    folder = registry.path(check_name(name))
    if as_json:
        emit({"name": name, "folder": str(folder)})
    else:
        show(str(folder))


@app.command("scan")
@command
def scan(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with a folder for each class, or with train, val and test that have such folders,"
            " or a CSV table of paths and labels."
        ),
    ],
    group_column: Annotated[
        str | None, typer.Option(help="The table's column that says which pictures belong together.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Open every picture once; list classes, sizes, duplicates and files that cannot be read.

    Files that cannot be read are listed and are no failure; a set without a readable picture is one.
    """
    from juanji.cli.counting import counting
    from juanji.data import scan as look_through

    with counting("looking through the pictures") as shown:
        found = look_through(source, group_column=group_column, progress=shown)
    if as_json:
        emit(found.as_dict())
    else:
        show(str(found))


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "text": entry.text,
        "train": entry.train,
        "test": entry.test,
        "bytes": entry.bytes,
        "here": entry.folder is not None,
        "folder": str(entry.folder) if entry.folder else None,
        "source": entry.source or None,
    }
