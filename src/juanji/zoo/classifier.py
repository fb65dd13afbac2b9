"""What all classifiers of the zoo have in common: features, a head that can be exchanged, and maps on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from juanji import nn
from juanji.nn import functional as F
from juanji.tensors import Tensor
from juanji.zoo.registry import RECORD


class Classifier(nn.Module):
    """A network of feature maps and a head: `forward(x)` is `forward_head(forward_features(x))`.

    A subclass yields in `stages` the maps at the end of each of its stages, ending with the features, and names
    its last layer in `classifier_name`.

    Attributes:
        num_classes: how many scores it gives; 0 where the head is an identity.
        num_features: channels of the pooled features.
    """

    classifier_name: str = "fc"
    num_classes: int
    num_features: int

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The maps at the end of each stage, of (N, in_channels, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define stages")

    def named_stages(self) -> dict[str, list[nn.Module]]:
        """The layers of each stage by its name, from the picture to the last layer, which is not among them.

        Together they have all parameters but the last layer's, so that a training can treat stages differently.
        """
        raise NotImplementedError(f"{type(self).__name__} must define named_stages")

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature maps (N, C, h, w) of images (N, in_channels, H, W)."""
        for x in self.stages(x):  # noqa: B007, B020 (the last is wanted)
            pass
        return x

    def pooled(self, x: Tensor) -> Tensor:
        """What the last layer reads, (N, F), of feature maps (N, C, h, w): their mean, unless overridden."""
        flat: Tensor = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return flat

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Scores (N, num_classes) of feature maps; with `pre_logits`, what the last layer would read."""
        x = self.pooled(x)
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, num_classes) of images (N, in_channels, H, W)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self, x: Tensor, indices: int | Sequence[int] | None = None, intermediates_only: bool = False
    ) -> Any:
        """The feature maps and those at the end of chosen stages.

        Args:
            x: images (N, in_channels, H, W).
            indices: which stages: all unless given; an integer means the last so many.
            intermediates_only: return only the list.

        Returns:
            (features, list of maps), or the list.

        Raises:
            IndexError: no such stage.
        """
        maps = list(self.stages(x))
        count = len(maps)
        chosen = list(range(count)) if indices is None else indices
        if isinstance(chosen, int):
            if not 0 < chosen <= count:
                raise IndexError(f"forward_intermediates: indices={indices} must be between 1 and {count}")
            chosen = list(range(count - chosen, count))
        for i in chosen:
            if not -count <= i < count:
                raise IndexError(f"forward_intermediates: stage {i} does not exist; valid are {-count} to {count - 1}")
        found = [maps[i] for i in chosen]
        return found if intermediates_only else (maps[-1], found)

    def own_names(self, names: Sequence[str]) -> dict[str, str]:
        """For names of weights that other programs wrote, the model's own names of the same; identical ones left out.

        Args:
            names: all names of a file.
        """
        return {}

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new last layer for `num_classes` classes, with new random weights; an identity for 0.

        Raises:
            ValueError: a negative number.
        """
        if num_classes < 0:
            raise ValueError(f"reset_classifier: num_classes={num_classes} must not be negative")
        parent, _, name = self.classifier_name.rpartition(".")
        old: Any = self.get_classifier()
        features = old.in_features if isinstance(old, nn.Linear) else self.num_features
        new = nn.Linear(features, num_classes) if num_classes else nn.Identity()
        setattr(self.get_submodule(parent), name, new)
        self.num_classes = num_classes
        record = self.__dict__.get(RECORD)
        if record is not None:
            record["arguments"]["num_classes"] = num_classes


class Columns(Classifier):
    """A classifier of one chain of layers with poolings, `features`, and a chain of linear ones, `classifier`."""

    features: nn.Sequential
    avgpool: nn.Module
    classifier: nn.Sequential

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The maps behind each pooling."""
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                yield x

    def named_stages(self) -> dict[str, list[nn.Module]]:
        """What lies between two poolings; then all fully connected layers but the last."""
        found: dict[str, list[nn.Module]] = {}
        part: list[nn.Module] = []
        for layer in self.features:
            part.append(layer)
            if isinstance(layer, nn.MaxPool2d):
                found[f"stage{len(found) + 1}"], part = part, []
        return {**found, "connected": [*part, *list(self.classifier)[:-1]]}

    def pooled(self, x: Tensor) -> Tensor:
        """(N, num_features) of feature maps: all but the last fully connected layer."""
        x = self.avgpool(x).flatten(1)
        for layer in list(self.classifier)[:-1]:
            x = layer(x)
        return x


def initialise(model: nn.Module, linear_std: float | None = 0.01) -> None:
    """Weights as the papers begin: He's normal over outputs for convolutions, ones and zeros for normalisations.

    Source: He et al., "Delving Deep into Rectifiers", 2015, equation 14.

    Args:
        model: whose layers to set.
        linear_std: standard deviation of linear layers; None leaves them as they are.
    """
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        bias: Any = getattr(module, "bias", None)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(weight)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(weight, 0.0, linear_std)
        else:
            continue
        if bias is not None:
            nn.init.zeros_(bias)
