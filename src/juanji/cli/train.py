"""`juanji train`: pictures in, a model file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from juanji.cli.output import JsonOption, UsageError, command, emit, say, show


@command
def train(
    ctx: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(help="mnist or fashion-mnist, fetched on first use. Optional with --data."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A folder with the four IDX files of an MNIST-like set."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training pictures.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1, max=65536, help="Pictures in a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate of the cycle.")] = 5e-3,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same model.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads to compute with.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The model file; DATASET-lenet.safetensors here by default."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="[FILE]",
            help="Go on from a checkpoint; the one beside --out by default. Its arguments need not be repeated.",
        ),
    ] = None,
    keep_checkpoint: Annotated[
        bool, typer.Option("--keep-checkpoint", help="Keep the checkpoint after the training.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a LeNet on MNIST digits, or on pictures like them, and save it.

    Progress goes to standard error; the closing table (or, with --json, one object) to standard output.
    A checkpoint is saved after each epoch and on Ctrl-C, beside the model; --resume goes on from it and ends
    with the same model as a training that was never stopped.
    """
    from juanji.cli import sets
    from juanji.cli.resume import start

    if dataset is not None:
        sets.check_name(dataset)
    if dataset is None and data is None and resume is None:
        raise UsageError(f"name a data set ({', '.join(sets.names())}) or a folder with --data")
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {str(data)!r} is not a folder")
    if out is not None:
        check_writable(out)
    given = {n for n in ctx.params if getattr(ctx.get_parameter_source(n), "name", "") != "DEFAULT"}
    numbers = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    begin = start(dataset, data, out, resume, numbers, given)
    name, target = begin.name, begin.target
    if out is None:
        check_writable(target)

    import juanji
    from juanji.cli.display import closing_table, listener, live
    from juanji.interop.modelfile import save_model
    from juanji.train import mnist
    from juanji.train.checkpoint import Checkpointer, Interrupted, StopSignals
    from juanji.train.loop import TrainingError

    try:
        recipe = mnist.Recipe(**begin.numbers)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if threads is not None:
        juanji.set_num_threads(threads)
    pair = sets.load(name, begin.data)
    say(f"data: {pair.source}")
    with StopSignals() as signals:
        checkpointer = Checkpointer(
            begin.checkpoint, resume=begin.resume, signals=signals, notes=begin.notes(), say=say
        )
        try:
            with live() as bars:
                trained = mnist.train(
                    pair.train_images,
                    pair.train_labels,
                    pair.test_images,
                    pair.test_labels,
                    pair.classes,
                    recipe=recipe,
                    center_ink=pair.digits,
                    listener=listener(bars, recipe.epochs),
                    checkpointer=checkpointer,
                )
            report, evaluation = trained.report, trained.evaluation
            save_model(
                target,
                trained.model,
                classes=pair.classes,
                preprocessing=trained.preprocessing,
                metrics={"accuracy": evaluation.accuracy, "count": evaluation.count, "loss": evaluation.loss},
                metadata={"dataset": name, "source": pair.source, "recipe": mnist.described(recipe)},
            )
        except Interrupted as stop:
            raise checkpointer.interrupted(stop.signal, recipe.epochs) from None
        except TrainingError:
            if not keep_checkpoint:  # going on from it would end in the same way
                checkpointer.remove()
            raise
        if not keep_checkpoint:
            checkpointer.remove()
    if as_json:
        emit(
            {
                "accuracy": round(evaluation.accuracy, 6),
                "count": evaluation.count,
                "loss": round(evaluation.loss, 6),
                "per_class": evaluation.per_class,
                "model": str(target),
                "dataset": name,
                "source": pair.source,
                **begin.numbers,
                "resumed": begin.resume is not None,
                "steps": report.steps,
                "train_count": len(pair.train_labels),
                "seconds": round(report.seconds, 3),
                "seconds_compiling": round(report.seconds_compiling, 3),
                "seconds_waiting": round(report.seconds_waiting, 3),
                "images_per_second": round(report.images / max(report.seconds, 1e-9), 1),
            }
        )
        return
    closing_table(evaluation, report)
    show(f"accuracy {evaluation.accuracy:.2%}, saved as {target}")


def check_writable(target: Path, option: str = "--out") -> None:
    """Finds out before the training, not after it, that its result could not be saved.

    Raises:
        UsageError: the path is a folder, or in none.
        PermissionError: its folder can't be written.
    """
    import os

    folder = target.parent
    if target.is_dir():
        raise UsageError(f"{option} {str(target)!r} is a folder; name a file")
    if not folder.is_dir():
        raise UsageError(f"{option} {str(target)!r}: the folder {str(folder)!r} does not exist")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {str(folder)!r} can't be written; choose another with {option}")
