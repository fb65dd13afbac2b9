"""The recipes: what of a pretrained network is trained, and how fast. Each is a few lines.

A recipe freezes and unfreezes, and gives an optimiser's groups: those nearer to the picture learn slower, because what
they know already is good for any picture (Howard and Ruder, "Universal language model fine-tuning", 2018). All but
"scratch" begin with a head that is right for the features as they are: a random one would spoil them first (Kumar et
al., "Fine-tuning can distort pretrained features", 2022). Statistics of normalisations stay what they are, except with
"bn" and "scratch": a few batches of a few pictures know less about them than a million pictures did.
"""

from __future__ import annotations

from typing import Any

from juanji import nn
from juanji.zoo import Classifier

Groups = list[dict[str, Any]]


def head(model: Classifier, lr: float, decay: float) -> Groups:
    """Only the last layer."""
    model.freeze()
    return [_group("head", [model.get_classifier().unfreeze()], lr)]


def full(model: Classifier, lr: float, decay: float) -> Groups:
    """All layers, each stage slower than the one behind it."""
    _unfreeze(model)
    return _by_stage(model, list(model.named_stages()), lr, decay)


def bn(model: Classifier, lr: float, decay: float) -> Groups:
    """The normalisations, scale, shift and statistics, and the last layer: few numbers, so few pictures do."""
    model.freeze()
    norms = [m.unfreeze() for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    return [*([_group("norms", norms, lr)] if norms else []), _group("head", [model.get_classifier().unfreeze()], lr)]


def last(model: Classifier, lr: float, decay: float, count: int) -> Groups:
    """The last stages and the last layer."""
    model.freeze()
    names = list(model.named_stages())[-count:]
    for name in names:
        for layer in model.named_stages()[name]:
            _unfreeze(layer)
    model.get_classifier().unfreeze()
    return _by_stage(model, names, lr, decay)


def scratch(model: nn.Module, lr: float, decay: float) -> Groups:
    """All layers at one speed, from random weights."""
    model.unfreeze()
    return [{"params": list(model.parameters()), "lr": lr, "name": "all"}]


def groups(recipe: str, model: Any, lr: float, decay: float) -> Groups:
    """Prepares a model for a recipe and gives the optimiser's groups.

    Args:
        recipe: "head", "full", "bn", "last:N" or "scratch".
        model: of the zoo.
        lr: of the last layer, at its highest.
        decay: from each stage to the one before it.

    Raises:
        ValueError: no such recipe, or more stages than the network has.

    >>> from juanji import zoo
    >>> net = zoo.create("resnet18", num_classes=3)
    >>> [(g["name"], round(g["lr"], 2)) for g in groups("last:2", net, 1.0, 0.5)]
    [('head', 1.0), ('layer4', 0.5), ('layer3', 0.25)]
    >>> [next(layer.parameters()).requires_grad for layer in (net.layer2, net.layer3)]
    [False, True]
    >>> net.layer3[0].bn1.frozen
    True
    """
    if recipe.startswith("last:"):
        count, there = int(recipe[5:]), list(model.named_stages())
        if count > len(there):
            raise ValueError(
                f"recipe={recipe!r}: {type(model).__name__} has the {len(there)} stages {', '.join(there)}"
            )
        return last(model, lr, decay, count)
    known = {"head": head, "full": full, "bn": bn, "scratch": scratch}
    if recipe not in known:
        raise ValueError(f"recipe={recipe!r} must be one of {', '.join(known)}, last:N")
    return known[recipe](model, lr, decay)


def _by_stage(model: Classifier, names: list[str], lr: float, decay: float) -> Groups:
    stages = model.named_stages()
    found = [_group("head", [model.get_classifier()], lr)]
    for i, name in enumerate(reversed(names), 1):
        group = _group(name, stages[name], lr * decay**i)
        if group["params"]:
            found.append(group)
    return found


def _unfreeze(module: nn.Module) -> None:
    """Lets parameters learn; statistics stay."""
    module.freeze().requires_grad_(True)


def _group(name: str, modules: list[Any], lr: float) -> dict[str, Any]:
    return {"params": [p for m in modules for p in m.parameters()], "lr": lr, "name": name}
