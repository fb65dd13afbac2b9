import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from juanji.data import transforms as T
from juanji.data._tensors import Tensor, to_tensor
from juanji.data.randomness import SampleSeeds, uniform_batch

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_to_tensor_of_a_picture_and_of_an_array():
    from_picture, from_array = T.ToTensor()(Image.fromarray(PIXELS)), T.ToTensor()(PIXELS)
    expected = PIXELS.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    for out in (from_picture, from_array):
        assert isinstance(out, Tensor)
        assert out.numpy().dtype == np.float32
        assert np.array_equal(out.numpy(), expected)


@pytest.mark.parametrize(
    ("mode", "value", "dtype", "expected"),
    [
        ("L", 51, np.float32, np.float32(51) / np.float32(255)),
        ("1", 1, np.float32, 1.0),
        ("I;16", 60000, np.int32, 60000),
        ("I", -5, np.int32, -5),
        ("F", 1.5, np.float32, 1.5),
    ],
)
def test_to_tensor_of_other_modes(mode, value, dtype, expected):
    out = T.ToTensor()(Image.new(mode, (3, 2), value)).numpy()
    assert out.shape == (1, 2, 3)
    assert out.dtype == dtype
    assert np.all(out == expected)


def test_to_tensor_keeps_other_arrays():
    assert T.ToTensor()(np.full((2, 2), 300.5)).numpy().tolist() == [[[300.5, 300.5], [300.5, 300.5]]]


def test_to_tensor_refuses():
    with pytest.raises(TypeError, match="got list"):
        T.ToTensor()([1])
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        T.ToTensor()(np.zeros(3))


def test_normalize():
    x = T.ToTensor()(PIXELS)
    before = x.numpy().copy()
    out = T.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(x)
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    assert np.array_equal(out.numpy(), (before - mean) / std)
    assert np.array_equal(x.numpy(), before)
    inplace = T.Normalize(0.5, 0.5, inplace=True)
    assert inplace(x) is x
    assert np.array_equal(x.numpy(), (before - np.float32(0.5)) / np.float32(0.5))


def test_normalize_refuses():
    with pytest.raises(TypeError, match=r"a Pillow picture; put transforms.ToTensor\(\) before"):
        T.Normalize(0.5, 0.5)(Image.new("L", (2, 2)))
    with pytest.raises(TypeError, match="floating-point values, and got uint8"):
        T.Normalize(0.5, 0.5)(PIXELS)
    with pytest.raises(ValueError, match=r"mean=\(0.5, 0.5\) for 2 channels.*has 3"):
        T.Normalize((0.5, 0.5), (1, 1))(T.ToTensor()(PIXELS))
    with pytest.raises(ValueError, match="not 0"):
        T.Normalize(0.5, 0)
    with pytest.raises(ValueError, match="got shape"):
        T.Normalize(0.5, 1)(to_tensor(np.zeros(3)))


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([0, 1, 3]),
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 2),
)
@settings(max_examples=60, deadline=None)
def test_a_batch_equals_its_pictures_bit_for_bit(count, height, width, channels, seed, std):
    shape = (count, height, width) + ((channels,) if channels else ())
    pictures = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    transform = T.Compose([T.ToTensor(), T.Normalize((0.1307,), (std,))])
    single = np.stack([transform(p).numpy() for p in pictures])
    batch = T.batch_function(transform)(pictures.copy())
    assert batch.dtype == single.dtype
    assert np.array_equal(batch, single)


def test_which_transforms_take_batches():
    assert T.batch_function(T.Compose([T.ToTensor()])) is not None
    assert T.batch_function(T.Compose([])) is None
    assert T.batch_function(T.Compose([T.Resize(2), T.ToTensor()])) is None
    assert T.batch_function(lambda x: x) is None

    class Other(T.ToTensor):
        def __call__(self, picture):
            return 0

    assert T.batch_function(Other()) is None
    assert T.batch_function(T.Compose([Other()])) is None


def test_reprs():
    assert repr(T.Compose([T.ToTensor(), T.Normalize((0.5,), (0.5,))])) == (
        "Compose(\n    ToTensor()\n    Normalize(mean=(0.5,), std=(0.5,))\n)"
    )
    assert repr(T.Resize((4, 5))) == "Resize(size=[4, 5], interpolation=bilinear)"
    assert repr(T.CenterCrop(3)) == "CenterCrop(size=(3, 3))"
    assert repr(T.Grayscale()) == "Grayscale(num_output_channels=1)"
    assert repr(T.RandomCrop(4, padding=1)) == "RandomCrop(size=(4, 4), padding=1)"
    assert repr(T.RandomHorizontalFlip()) == "RandomHorizontalFlip(p=0.5)"


def test_resize():
    picture = Image.fromarray(PIXELS)  # 7 wide, 5 high
    assert T.Resize((10, 20))(picture).size == (20, 10)
    assert T.Resize(10)(picture).size == (14, 10)
    assert T.Resize([10])(picture.rotate(90, expand=True)).size == (10, 14)
    assert T.Resize(5)(picture) is picture
    with pytest.raises(TypeError, match=r"put Resize before ToTensor\(\)"):
        T.Resize(3)(T.ToTensor()(PIXELS))
    with pytest.raises(ValueError, match="size="):
        T.Resize(0)
    with pytest.raises(ValueError, match="interpolation="):
        T.Resize(2, "best")


@pytest.mark.parametrize("size", [(3, 3), (5, 7), (8, 9), (2, 9), (9, 2)])
def test_center_crop_is_the_same_for_pictures_and_tensors(size):
    cropped = T.CenterCrop(size)
    of_picture = T.ToTensor()(cropped(Image.fromarray(PIXELS))).numpy()
    of_tensor = cropped(T.ToTensor()(PIXELS)).numpy()
    assert of_tensor.shape == (3, *size)
    assert np.array_equal(of_picture, of_tensor)


def test_grayscale():
    picture = Image.fromarray(PIXELS)
    assert T.Grayscale()(picture).mode == "L"
    assert T.Grayscale(3)(picture).mode == "RGB"
    with pytest.raises(ValueError, match="1 or 3"):
        T.Grayscale(2)


def test_random_transforms_are_the_same_for_pictures_and_tensors():
    for transform in (T.RandomCrop((4, 5)), T.RandomCrop(6, padding=(2, 3)), T.RandomHorizontalFlip()):
        seen = set()
        for k in range(20):
            with SampleSeeds(3, k):
                of_picture = T.ToTensor()(transform(Image.fromarray(PIXELS))).numpy()
            with SampleSeeds(3, k):
                of_tensor = transform(T.ToTensor()(PIXELS)).numpy()
            assert np.array_equal(of_picture, of_tensor)
            seen.add(of_tensor.tobytes())
        assert len(seen) > 1


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_random_transforms_of_a_batch_equal_those_of_its_pictures(channels):
    shape = (9, 6, 8) + ((channels,) if channels else ())
    pictures = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    random = [T.RandomCrop((5, 7), padding=(2, 1)), T.RandomHorizontalFlip(), T.RandomCrop(4)]
    for transform in (
        T.Compose([*random, T.ToTensor()]),
        T.Compose([T.ToTensor(), *random, T.Normalize(0.5, 0.5)]),
    ):
        batch = T.batch_function(transform)
        with SampleSeeds(11, 3) as seeds:
            whole = batch(pictures.copy())
            single = []
            for k, values in enumerate(pictures):
                seeds.place(k)
                grey = values[..., 0] if channels == 1 else values
                single.append(transform(Image.fromarray(grey)).numpy())
        assert whole.shape == (9, max(channels, 1), 4, 4)
        assert np.array_equal(whole, np.stack(single))


def test_random_numbers_are_spread_evenly():
    with SampleSeeds(0, 0):
        numbers = uniform_batch(2000, 5)
    with SampleSeeds(0, 1):
        others = uniform_batch(2000, 5)
    for drawn in (numbers, others):
        assert 0 <= drawn.min() < 0.001
        assert 0.999 < drawn.max() < 1
        assert np.abs(np.histogram(drawn, 10, (0, 1))[0] - 1000).max() < 150
    correlation = np.corrcoef(np.concatenate([numbers, others], axis=1).T) - np.eye(10)
    assert np.abs(correlation).max() < 0.1


def test_random_transforms_refuse():
    with pytest.raises(ValueError, match="is larger than the picture, 5 x 7"):
        T.RandomCrop(9)(Image.fromarray(PIXELS))
    with pytest.raises(ValueError, match="is larger than the picture, 5 x 7"):
        T.RandomCrop(9, padding=1).batch(PIXELS[None])
    with pytest.raises(TypeError, match="got list"):
        T.RandomHorizontalFlip()([1])
    with pytest.raises(ValueError, match="p=2"):
        T.RandomHorizontalFlip(2)


def test_compose_and_lambda():
    assert T.Compose([T.Lambda(lambda x: x + 1), lambda x: 2 * x])(3) == 8
    with pytest.raises(TypeError, match=r"transforms\[0\]=3"):
        T.Compose([3])
    with pytest.raises(TypeError, match="Lambda takes a function"):
        T.Lambda(3)
