"""`juanji train`: pictures in, a model file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from juanji.cli.output import JsonOption, UsageError, command, emit, say, show


@command
def train(
    dataset: Annotated[
        str | None,
        typer.Argument(help="mnist or fashion-mnist, fetched on first use. Optional with --data."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A folder with the four IDX files of an MNIST-like set."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training pictures.")] = 15,
    batch_size: Annotated[int, typer.Option(min=1, max=65536, help="Pictures in a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate of the cycle.")] = 5e-3,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same model.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads to compute with.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The model file; DATASET-lenet.safetensors here by default."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a LeNet on MNIST digits, or on pictures like them, and save it.

    Progress goes to standard error; the closing table (or, with --json, one object) to standard output.
    """
    from juanji.cli import sets

    if dataset is not None:
        sets.check_name(dataset)
    if dataset is None and data is None:
        raise UsageError(f"name a data set ({', '.join(sets.names())}) or a folder with --data")
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {str(data)!r} is not a folder")
    name = dataset or (data.resolve().name if data is not None else "") or "data"
    target = out or Path(f"{name}-lenet.safetensors")
    _check_writable(target)

    import juanji
    from juanji.cli.display import closing_table, listener, live
    from juanji.interop.modelfile import save_model
    from juanji.train import mnist

    try:
        recipe = mnist.Recipe(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if threads is not None:
        juanji.set_num_threads(threads)
    pair = sets.load(name, data)
    say(f"data: {pair.source}")
    with live() as bars:
        trained = mnist.train(
            pair.train_images,
            pair.train_labels,
            pair.test_images,
            pair.test_labels,
            pair.classes,
            recipe=recipe,
            center_ink=pair.digits,
            listener=listener(bars, epochs),
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
                "seed": seed,
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
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


def _check_writable(target: Path) -> None:
    """Finds out before the training, not after it, that its result could not be saved."""
    import os

    folder = target.parent
    if target.is_dir():
        raise UsageError(f"--out {str(target)!r} is a folder; name a file")
    if not folder.is_dir():
        raise UsageError(f"--out {str(target)!r}: the folder {str(folder)!r} does not exist")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {str(folder)!r} can't be written; choose another with --out")
