"""The `juanji` program. Each command is a file of its own, and imports what is heavy only when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from juanji.cli import bench, data, doctor, evaluate, finetune, models, predict, train
from juanji.cli.resume import ResumeCommand

# Plain help: drawing it with rich would import more than the rest of `juanji --help` together.
app = typer.Typer(
    name="juanji",
    help="Juanji: convolutional networks on the CPU you have. Train, fine-tune, predict, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        import juanji

        print(f"juanji {juanji.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Juanji: convolutional networks on the CPU you have. Train, fine-tune, predict, evaluate."""


app.command("train", cls=ResumeCommand)(train.train)
app.command("finetune", cls=ResumeCommand)(finetune.finetune)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("doctor")(doctor.doctor)
app.command("models")(models.models)
app.command("bench")(bench.bench)
app.add_typer(data.app, name="data")


def main() -> None:
    """The entry point of the `juanji` program."""
    try:
        app()
    except KeyboardInterrupt:  # before or after a command of ours ran
        sys.exit(130)


if __name__ == "__main__":
    main()
