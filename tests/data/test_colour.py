import colorsys

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from juanji.data import transforms as T
from juanji.data.colour import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation
from juanji.data.randaugment import OPERATIONS, apply
from juanji.data.randomness import SampleSeeds

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
VALUES = T.ToTensor()(PICTURE).numpy()


@pytest.mark.parametrize("change", [adjust_brightness, adjust_contrast, adjust_saturation])
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_pictures_and_tensors_change_alike(change, factor):
    of_picture = np.asarray(change(PICTURE, factor)).transpose(2, 0, 1) / 255
    of_tensor = change(VALUES, factor)
    assert of_tensor.dtype == np.float32
    # Pillow's greys are rounded to whole numbers, and so is the result
    assert np.abs(of_picture - of_tensor).max() < 2.5 / 255
    if factor == 1:
        assert np.allclose(of_tensor, VALUES, atol=1e-6)


@pytest.mark.parametrize("shift", [-0.5, -0.13, 0.0, 0.3, 0.5])
def test_hue_is_that_of_colorsys(shift):
    turned = adjust_hue(VALUES.astype(np.float64), shift)
    for y, x in ((0, 0), (3, 5), (8, 10)):
        h, s, v = colorsys.rgb_to_hsv(*VALUES[:, y, x].astype(float))
        assert np.allclose(turned[:, y, x], colorsys.hsv_to_rgb((h + shift) % 1, s, v), atol=1e-12)
    grey = np.full((3, 2, 2), 0.25)
    assert np.array_equal(adjust_hue(grey, shift), grey)
    of_picture = np.asarray(adjust_hue(PICTURE, shift)).transpose(2, 0, 1) / 255
    assert np.abs(of_picture - turned).max() < 16 / 255  # Pillow's hues have 256 steps


def test_hue_goes_round():
    assert np.allclose(adjust_hue(VALUES, 0.5), adjust_hue(VALUES, -0.5), atol=1e-6)
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert adjust_hue(red, 1 / 3).getpixel((0, 0)) == (0, 255, 0)


def test_what_has_no_colour_keeps_it():
    grey = PICTURE.convert("L")
    jitter = T.ColorJitter(saturation=(3, 3), hue=(0.4, 0.4))
    assert np.array_equal(np.asarray(jitter(grey)), np.asarray(grey))
    assert np.array_equal(jitter(VALUES[:1]), VALUES[:1])


def test_jitter_draws_within_its_ranges():
    flat = np.full((1, 2, 2), 0.5)
    seen = []
    for k in range(200):
        with SampleSeeds(1, k):
            seen.append(T.ColorJitter(brightness=0.2)(flat).max() / 0.5)
    assert 0.8 <= min(seen) < 0.82
    assert 1.18 < max(seen) <= 1.2
    jitter = T.ColorJitter(0.5, 0.5, 0.5, 0.1)
    assert (jitter.brightness, jitter.hue) == ((0.5, 1.5), (-0.1, 0.1))
    assert T.ColorJitter(2.0).brightness == (0, 3)
    assert T.ColorJitter(0).brightness is None
    assert T.ColorJitter()(PICTURE) is PICTURE
    # the order is drawn as well: with fixed factors there is more than one result
    fixed = T.ColorJitter((1.8, 1.8), (0.3, 0.3))
    results = set()
    for k in range(20):
        with SampleSeeds(2, k):
            results.add(fixed(PICTURE).tobytes())
    assert len(results) == 2


def test_jitter_refuses():
    for arguments, match in (
        ({"brightness": -1}, "brightness=-1"),
        ({"contrast": (1, 0)}, r"contrast=\(1, 0\)"),
        ({"hue": 0.6}, "hue=0.6 must be between 0 and 0.5"),
        ({"hue": (-0.1, 0.7)}, "at most 0.5"),
        ({"hue": (-0.7, 0)}, "-0.5 or more"),
        ({"saturation": (0.5,)}, "two numbers"),
    ):
        with pytest.raises(ValueError, match=match):
            T.ColorJitter(**arguments)
    with pytest.raises(TypeError, match="uint8"):
        T.ColorJitter(0.1)(np.zeros((3, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"got shape \(2, 4, 4\)"):
        T.ColorJitter(0.1)(np.zeros((2, 4, 4)))


def done(name, strength, picture=PICTURE, **options):
    return np.asarray(apply(picture, name, strength, **options))


def test_the_operations_of_randaugment():
    square = Image.fromarray(np.arange(331 * 2, dtype=np.int64).reshape(2, 331).repeat(4, 0).astype(np.uint8))
    values = np.asarray(square)
    assert np.array_equal(done("Identity", 1), PIXELS)
    moved = done("TranslateX", 0.1, square)  # 15 of 331 columns to the right
    assert np.array_equal(moved[:, 15:], values[:, :-15])
    assert (moved[:, :15] == 0).all()
    back = done("TranslateX", -0.1, square, fill=9)
    assert np.array_equal(back[:, :-15], values[:, 15:])
    assert (back[:, -15:] == 9).all()
    assert np.array_equal(done("TranslateY", 1)[4:], PIXELS[:-4])  # int(9 * 150 / 331)
    # a row is moved by 0.3 times its (middle's) height, and taken from the nearest pixel
    sheared = done("ShearX", 1)
    for y in range(9):
        shift = int(np.floor(0.3 * (y + 0.5) + 0.5))
        assert np.array_equal(sheared[y, : 11 - shift], PIXELS[y, shift:])
    sheared = done("ShearY", 1)
    for x in range(11):
        shift = int(np.floor(0.3 * (x + 0.5) + 0.5))
        assert np.array_equal(sheared[: 9 - shift, x], PIXELS[shift:, x])
    assert np.array_equal(done("Rotate", 0.5), np.asarray(PICTURE.rotate(15)))
    for name in ("Brightness", "Color", "Contrast", "Sharpness"):
        for strength in (-1, 0.5):
            expected = getattr(ImageEnhance, name)(PICTURE).enhance(1 + 0.9 * strength)
            assert np.array_equal(done(name, strength), np.asarray(expected))
    assert np.array_equal(done("Posterize", -1), PIXELS & 0xF0)
    assert np.array_equal(done("Posterize", 9 / 30), PIXELS & 0xFE)
    assert np.array_equal(done("Solarize", 0), np.where(PIXELS == 255, 0, PIXELS))
    assert np.array_equal(done("Solarize", 0.5), np.where(PIXELS < 127.5, PIXELS, 255 - PIXELS))
    assert np.array_equal(done("AutoContrast", 1), np.asarray(ImageOps.autocontrast(PICTURE)))
    assert np.array_equal(done("Equalize", 1), np.asarray(ImageOps.equalize(PICTURE)))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_randaugment(mode):
    picture = PICTURE.convert(mode)
    results = set()
    for k in range(60):
        with SampleSeeds(4, k):
            out = T.RandAugment()(picture)
        assert (out.size, out.mode) == (picture.size, mode)
        results.add(out.tobytes())
    assert len(results) > 40
    assert T.RandAugment(num_ops=0)(picture) is picture
    for name in OPERATIONS:
        for strength in (-1.0, 0.0, 1.0):
            assert apply(picture, name, strength, 2, 128).size == picture.size


def test_randaugment_draws_all_operations_evenly(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "juanji.data.randaugment.apply", lambda picture, name, strength, *rest: seen.append((name, strength)) or picture
    )
    with SampleSeeds(0, 0):
        T.RandAugment(num_ops=2800, magnitude=15)(PICTURE)
    counts = {name: sum(n == name for n, _ in seen) for name in OPERATIONS}
    assert min(counts.values()) > 140
    assert max(counts.values()) < 260
    assert {s for _, s in seen} == {-0.5, 0.5}


def test_randaugment_refuses():
    for arguments, match in (
        ({"num_ops": -1}, "num_ops=-1"),
        ({"magnitude": 31}, "magnitude=31"),
        ({"num_magnitude_bins": 1}, "num_magnitude_bins=1"),
        ({"interpolation": "box"}, "interpolation='box'"),
    ):
        with pytest.raises(ValueError, match=match):
            T.RandAugment(**arguments)
