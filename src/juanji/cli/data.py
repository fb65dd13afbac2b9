"""`juanji data`: the known data sets, where they are, and getting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from juanji.cli.output import JsonOption, command, emit, show

if TYPE_CHECKING:
    from juanji.data.registry import Entry

app = typer.Typer(
    help="Known data sets: what there is, where it is, getting it.",
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
