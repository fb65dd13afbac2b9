"""Network architectures by name: `juanji.zoo.create("resnet18", num_classes=5)`."""

from __future__ import annotations

from juanji.zoo.alexnet import AlexNet
from juanji.zoo.classifier import Classifier
from juanji.zoo.efficientnet_lite import EfficientNetLite
from juanji.zoo.lenet import LeNet
from juanji.zoo.loading import Report, load_weights
from juanji.zoo.mobilenet import MobileNetV2
from juanji.zoo.pretrained import fetch_weights, find_weights
from juanji.zoo.registry import architecture, create, input_size, list, register
from juanji.zoo.resnet import ResNet
from juanji.zoo.vgg import VGG
from juanji.zoo.weights import Weights, imagenet_classes, weights

__all__ = [
    "VGG", "AlexNet", "Classifier", "EfficientNetLite", "LeNet", "MobileNetV2", "Report", "ResNet", "Weights",
    "architecture", "create", "fetch_weights", "find_weights", "imagenet_classes", "input_size", "list",
    "load_weights", "register", "weights",
]  # fmt: skip
