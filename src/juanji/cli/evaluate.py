"""`juanji evaluate`: how often is a model right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from juanji.cli.output import JsonOption, UsageError, command, emit, say, show
from juanji.cli.predict import Invert, InvertOption, ModelArgument, open_model


@command
def evaluate(
    model: ModelArgument,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="mnist or fashion-mnist (their test pictures), a folder of IDX files, or a folder that has "
            "one folder of pictures for each class, named as in the model.",
            show_default=False,
        ),
    ],
    invert: InvertOption = Invert.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled pictures: accuracy, also by class."""
    from juanji.cli import sets

    known = sets.names()
    if data not in known and not Path(data).is_dir():
        raise UsageError(f"{data!r} is neither a folder nor a known data set ({', '.join(known)})")

    from juanji.data import DataLoader
    from juanji.train import loop
    from juanji.train.mnist import EVALUATION_BATCH
    from juanji.train.pictures import Pictures

    loaded = open_model(model)
    test = sets.test_pictures(data, loaded.classes, loaded.preprocessing, invert.value)
    say(f"data: {test.source}; {len(test.labels):,} pictures to test")
    batches = DataLoader(Pictures(test.images, test.labels, loaded.preprocessing), batch_size=EVALUATION_BATCH)
    evaluation = loop.evaluate(loaded.model, batches, loaded.classes)
    if as_json:
        emit(
            {
                "accuracy": round(evaluation.accuracy, 6),
                "count": evaluation.count,
                "loss": round(evaluation.loss, 6),
                "per_class": evaluation.per_class,
                "model": str(model),
                "data": data,
                "source": test.source,
            }
        )
        return
    from rich.console import Console

    from juanji.cli.display import accuracy_table

    Console(highlight=False).print(accuracy_table(evaluation))
    show(f"accuracy {evaluation.accuracy:.2%} on {evaluation.count:,} pictures")
