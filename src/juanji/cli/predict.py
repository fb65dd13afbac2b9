"""`juanji predict`: what is in these pictures?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from juanji.cli.output import Failed, JsonOption, command, emit, one_line, say, show

if TYPE_CHECKING:
    from juanji.interop.modelfile import LoadedModel


class Invert(StrEnum):
    """Whether dark and light are swapped before prediction."""

    auto = "auto"
    yes = "yes"
    no = "no"


ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="A model file that juanji has saved, or a network with trained weights (`juanji models --pretrained`).",
        show_default=False,
    ),
]
InvertOption = Annotated[
    Invert,
    typer.Option(
        help="MNIST's digits are white on black. 'auto' swaps dark and light where the model learned that "
        "and the picture's corners are light, such as ink on paper."
    ),
]


@command
def predict(
    model: ModelArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Pictures: PNG, JPEG, WebP, ...", show_default=False),
    ],
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show for each picture.")] = 3,
    invert: InvertOption = Invert.auto,
    as_json: JsonOption = False,
) -> None:
    """Say which class each picture belongs to, and how sure the model is.

    Pictures of any size and colour are made into what the model file says its model takes.
    """
    loaded = open_model(model)
    results = predictions(loaded, images, top_k, invert)
    if as_json:
        emit({"model": str(model), "predictions": results})
    failed = 0
    for result in results:
        if "error" in result:
            failed += 1
            say(f"juanji: {result['error']}")
        elif not as_json:
            others = ", ".join(f"{t['class']} {t['probability']:.1%}" for t in result["top"][1:])
            tail = f"  ({others})" if others else ""
            show(f"{result['image']}: {result['class']}  {result['probability']:.1%}{tail}")
    if failed:
        raise Failed


def open_model(model: Path) -> LoadedModel:
    """The model of a file or, where there is none of that name, a network of the zoo with its trained weights."""
    from juanji import zoo
    from juanji.cli.downloads import showing
    from juanji.interop.modelfile import load_model
    from juanji.interop.pretrained import load_pretrained

    if str(model) not in zoo.list() and not model.exists() and not model.suffix and model.name == str(model):
        raise FileNotFoundError(
            f"{str(model)!r} is neither a file here nor a network of the zoo; `juanji models` lists those"
        )
    if model.exists() or str(model) not in zoo.list():
        return load_model(model)
    with showing() as progress:
        return load_pretrained(str(model), progress=progress)


def predictions(loaded: LoadedModel, images: list[Path], top_k: int, invert: Invert) -> list[dict[str, Any]]:
    """For each picture its class, probability and the `top_k` best; or, where it can't be read, an error."""
    import numpy as np

    from juanji.data import DataLoader
    from juanji.data.images import open_image
    from juanji.errors import DataError
    from juanji.metrics import softmax
    from juanji.train.loop import scores
    from juanji.train.pictures import Pictures

    results: list[dict[str, Any]] = []
    ready, places = [], []
    for path in images:
        results.append({"image": str(path)})
        try:
            ready.append(loaded.preprocessing.picture(open_image(path, None), invert.value))
            places.append(results[-1])
        except (DataError, OSError) as error:
            results[-1]["error"] = one_line(error)
    if not ready:
        return results
    batches = DataLoader(Pictures(np.stack(ready), np.zeros(len(ready), np.int64), loaded.preprocessing), batch_size=64)
    values = np.concatenate([batch for batch, _ in scores(loaded.model, batches, compiled=False)])
    # Softmax in double precision: probabilities that are shown add up to one.
    likely = softmax(values)
    for result, row in zip(places, likely, strict=True):
        best = np.argsort(-row, kind="stable")[:top_k]
        top = [{"class": loaded.classes[i], "probability": round(float(row[i]), 6)} for i in best]
        result.update(top[0])
        result["top"] = top
    return results
