"""What "auto" stands for: chosen by how many pictures there are and how much time, and said why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from juanji import nn, zoo
from juanji.data.fetch import Progress
from juanji.errors import DataError
from juanji.runtime.team import threads
from juanji.visual.costs import costs

#: In the order in which they are taken if there is time for them: the better ones first.
MODELS = ("efficientnet_lite2", "efficientnet_lite0", "mobilenet_v2")
#: Multiply-adds a second of one thread, about, in networks like these. Only to choose by.
SPEED = 15e9
#: A training step takes about so many times as long as a prediction.
TRAINING = 3.5
#: Fewer pictures of each class, on average, than this are not enough to move all layers.
PER_CLASS = 40
#: Fewer passes than this move them too little, more are not needed.
LEAST, MOST = 6, 20


@dataclass
class Choice:
    """What was chosen, and why.

    Attributes:
        value: of what was asked for.
        reasons: one sentence each.
    """

    value: str
    reasons: list[str] = field(default_factory=list)


def seconds_a_picture(name: str, size: int | None = None) -> float:
    """About how long a network looks at a picture on this machine, judged by its multiply-adds."""
    with nn.init.skipped():
        model = zoo.create(name)
    wanted = size or zoo.input_size(name)
    channels = int(zoo.architecture(model)["arguments"].get("in_channels", 3))
    return costs(model, (1, channels, wanted, wanted)).multiply_adds / SPEED / max(1, threads())


def model(pictures: int, budget: float, size: int | None = None, progress: Progress | None = None) -> Choice:
    """The network: the best one that can look at all pictures in a third of the time.

    Args:
        pictures: how many there are.
        budget: seconds.
        size: of the pictures, where it is not the network's own.
        progress: who is told about fetching.

    Raises:
        DataError: none of their weights is here or can be fetched.
    """
    slow: list[str] = []
    missing: list[str] = []
    for name in MODELS:
        seconds = 2 * pictures * seconds_a_picture(name, size)
        if seconds > budget / 3 and name != MODELS[-1]:
            slow.append(f"{name} would need about {seconds:.0f} s only to look at them")
            continue
        try:
            zoo.fetch_weights(name, progress)
        except DataError as error:
            missing.append(str(error))
            continue
        reasons = [f"{name}: the best of the small pretrained networks that there is time for"]
        if slow:
            reasons.append(f"with {pictures:,} pictures and {budget:g} s, {'; '.join(slow)}")
        if missing:
            reasons.append(f"the weights of {' and '.join(MODELS[: len(missing)])} are out of reach")
        return Choice(name, reasons)
    raise DataError(missing[0])


def recipe(pictures: int, classes: int, seconds: Callable[[], float], left: float) -> tuple[Choice, int]:
    """The recipe, and its epochs where it has some.

    Args:
        pictures: to learn from.
        classes: their number.
        seconds: measures how long a prediction takes.
        left: of the budget.
    """
    each = pictures / classes
    if each < PER_CLASS:
        why = (
            f"head: {pictures:,} pictures of {classes} classes are {each:.0f} for each, and moving all layers pays "
            f"from about {PER_CLASS}"
        )
        return Choice("head", [why]), 0
    epoch = TRAINING * seconds() * pictures
    epochs = int(0.8 * left / epoch)
    if epochs < LEAST:
        why = (
            f"head: a pass over {pictures:,} pictures through all layers takes about {epoch:.0f} s, and of the budget "
            f"{max(left, 0):.0f} s are left, too little for {LEAST} passes"
        )
        return Choice("head", [why]), 0
    chosen = min(epochs, MOST)
    why = (
        f"full: {each:.0f} pictures for each class are enough to move all layers, and {chosen} passes of about "
        f"{epoch:.0f} s fit into the {left:.0f} s that are left of the budget"
    )
    return Choice("full", [why]), chosen
