"""Trained networks mean what they mean in PyTorch: pixels, logits and names. The real weights only where reachable."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import juanji as jj
from juanji import zoo
from juanji.data.package import PackageFile, from_package
from juanji.errors import DataError
from juanji.interop import pretrained
from juanji.interop.modelfile import load_model, save_model
from juanji.interop.preprocessing import Preprocessing


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("shape", [(300, 451), (451, 300), (224, 224), (100, 90), (257, 256), (37, 1000)])
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_pictures_are_scaled_and_cut_as_torchvision_does(shape, name):
    made = Preprocessing.from_json(zoo.weights(name).preprocessing)
    image = picture(*shape)
    height, width = shape
    short = min(shape)
    large = image.resize((256 * width // short, 256 * height // short), Image.Resampling[made.interpolation.upper()])
    left, top = round((large.width - 224) / 2), round((large.height - 224) / 2)
    wanted = np.asarray(large.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1)
    found = made.picture(image)
    assert found.shape == (3, 224, 224)
    # Pillow's filter coefficients are rounded; a cut-out's differ from the whole's in the last place.
    assert np.abs(found.astype(int) - wanted).max() <= 2
    assert (found != wanted).mean() < 0.03


def test_a_line_of_pixels_takes_no_memory():
    made = Preprocessing.from_json(zoo.weights("mobilenet_v2").preprocessing)
    assert made.picture(Image.new("RGB", (1_000_000, 1), (9, 8, 7))).tolist()[2][5][5] == 7


def test_what_preprocessing_refuses():
    for resize in (100, 1 << 20, 1.5, "x", True):
        with pytest.raises(DataError, match="resize is"):
            Preprocessing(size=(224, 224), mode="RGB", mean=(0,) * 3, std=(1,) * 3, resize=resize)
    assert "resize" not in Preprocessing().to_json()
    for name in zoo.list():
        if name != "lenet":
            made = Preprocessing.from_json(zoo.weights(name).preprocessing)
            assert Preprocessing.from_json(made.to_json()) == made


def test_pixels_of_efficientnet_lite():
    made = Preprocessing.from_json(zoo.weights("efficientnet_lite0").preprocessing)
    values = made.normalize(np.arange(256, dtype=np.uint8).reshape(1, 1, 256).repeat(3, 0))
    np.testing.assert_allclose(values[0, 0], (np.arange(256) - 127) / 128, atol=1e-6)


def test_a_loaded_network_can_be_saved_as_a_model(tmp_path, monkeypatch):
    model = zoo.create("mobilenet_v2")
    jj.save(model.state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(zoo, "fetch_weights", lambda name, progress=None: tmp_path / "w.pth")
    loaded = pretrained.load_pretrained("mobilenet_v2")
    assert loaded.classes[285] == "Egyptian cat"
    assert loaded.architecture == "mobilenet_v2"
    assert not loaded.model.training
    save_model(tmp_path / "m.safetensors", loaded.model, classes=loaded.classes, preprocessing=loaded.preprocessing)
    again = load_model(tmp_path / "m.safetensors")
    assert again.preprocessing == loaded.preprocessing
    assert again.arguments == loaded.arguments


# With the real weights, where they can be had.


@pytest.fixture(scope="module", params=["mobilenet_v2", "efficientnet_lite0"])
def real(request):
    try:
        path = zoo.fetch_weights(request.param)
    except DataError as error:
        pytest.skip(str(error))
    return request.param, path


SKIMAGE = {"chelsea": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
           "coffee": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"}  # fmt: skip
WHEEL = ("0.26.0", "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
         "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af")  # fmt: skip


@pytest.fixture(scope="module")
def pictures():
    """scikit-image's chelsea.png and coffee.png."""
    spec = importlib.util.find_spec("skimage")
    if spec is not None and spec.origin:
        folder = Path(spec.origin).parent / "data"
        return {name: Image.open(folder / f"{name}.png") for name in SKIMAGE}
    result = {}
    for name, checksum in SKIMAGE.items():
        member = PackageFile("scikit-image", WHEEL[0], WHEEL[1], WHEEL[2], f"skimage/data/{name}.png", checksum)
        try:
            result[name] = Image.open(io.BytesIO(from_package(member)))
        except DataError as error:
            pytest.skip(str(error))
    return result


def plain_torch():
    path = Path(__file__).parents[1] / "zoo" / "plain_torch.py"
    spec = importlib.util.spec_from_file_location("plain_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NETWORKS


def test_logits_are_pytorchs(real):
    torch = pytest.importorskip("torch")
    name, path = real
    theirs = plain_torch()[name]().eval()
    original = torch.load(path, weights_only=True)
    names = list(theirs.state_dict())
    # Both write layers in their order in the network, whatever they call them: a mapping that owes nothing to ours.
    theirs.load_state_dict(dict(zip(names, original.values(), strict=True)))
    made = Preprocessing.from_json(zoo.weights(name).preprocessing)
    x = made.normalize(np.stack([made.picture(picture(300, 400, seed)) for seed in range(2)]))
    mine = zoo.create(name, pretrained=path).eval()
    with torch.no_grad(), jj.no_grad():
        wanted, found = theirs(torch.from_numpy(x)).numpy(), mine(jj.from_numpy(x)).numpy()
    assert np.abs(wanted).max() > 3
    assert np.abs(found - wanted).max() < 1e-4


def test_a_cat_and_a_cup_of_coffee(real, pictures):
    name, _ = real
    loaded = pretrained.load_pretrained(name)
    x = loaded.preprocessing.normalize(np.stack([loaded.preprocessing.picture(p) for p in pictures.values()]))
    with jj.no_grad():
        scores = loaded.model(jj.from_numpy(x)).numpy()
    cat, coffee = ([loaded.classes[i] for i in np.argsort(-row)[:3]] for row in scores)
    assert set(cat) == {"Egyptian cat", "tiger cat", "tabby"}
    assert coffee[0] == "espresso"
    if name == "mobilenet_v2":
        assert cat[0] == "Egyptian cat"
