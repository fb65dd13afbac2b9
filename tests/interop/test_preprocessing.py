"""Preprocessing: geometry, inversion, normalisation, and files that lie about it."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from juanji.errors import DataError
from juanji.interop.preprocessing import Preprocessing, border_level

DIGITS = Preprocessing(mean=(0.1307,), std=(0.3081,), background="dark", center_ink=True)


def drawing(size=(200, 120), ground=255, ink=0, box=(120, 20, 150, 100)):
    image = Image.new("L", size, ground)
    ImageDraw.Draw(image).rectangle(box, fill=ink)
    return image


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:20, 10:14] = 200
    assert np.array_equal(DIGITS.picture(Image.fromarray(pixels))[0], pixels)


@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (230, 20), (0, 255), (10, 240)])
def test_ink_is_centred_and_bright_whatever_the_ground(ground, ink):
    result = DIGITS.picture(drawing(ground=ground, ink=ink))[0].astype(float)
    assert result.shape == (28, 28)
    assert result[0].max() == result[:, 0].max() == 0
    assert result.max() > 200
    rows, columns = np.flatnonzero(result.max(axis=1) > 50), np.flatnonzero(result.max(axis=0) > 50)
    assert 19 <= len(rows) <= 21
    assert abs(float((result.sum(axis=1) @ np.arange(28)) / result.sum()) - 13.5) <= 1.1
    assert abs(float((result.sum(axis=0) @ np.arange(28)) / result.sum()) - 13.5) <= 1.1
    assert len(columns) < len(rows)


def test_invert_yes_no_auto():
    light = Image.fromarray(np.full((28, 28), 255, np.uint8))
    assert DIGITS.picture(light, "auto").max() == 0
    assert DIGITS.picture(light, "yes").max() == 0
    assert DIGITS.picture(light, "no").min() == 255
    dark = Image.fromarray(np.zeros((28, 28), np.uint8))
    assert DIGITS.picture(dark, "auto").max() == 0
    assert DIGITS.picture(dark, "yes").min() == 255
    assert Preprocessing().picture(light, "auto").min() == 255  # this model has no preferred ground


def test_an_empty_page_stays_empty():
    assert DIGITS.picture(Image.new("L", (300, 200), 255)).max() == 0


def test_the_shape_is_kept_by_padding_with_the_border():
    wide = Image.new("RGB", (64, 32), (10, 20, 30))
    result = Preprocessing(size=(16, 16), mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3).picture(wide)
    assert result.shape == (3, 16, 16)
    assert [int(c.min()) for c in result] == [int(c.max()) for c in result] == [10, 20, 30]


def test_tiny_and_extreme_pictures():
    for size in ((1, 1), (1, 500), (500, 1), (3, 2)):
        assert DIGITS.picture(Image.new("L", size, 0)).shape == (1, 28, 28)
        assert Preprocessing().picture(Image.new("RGB", size, (1, 2, 3))).shape == (1, 28, 28)


def test_a_single_corner_does_not_turn_the_picture():
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:10, :10] = 255
    assert border_level(pixels) == 0


def test_normalize_is_to_tensor_and_normalize():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    expected = (pixels / 255.0 - 0.1307) / 0.3081
    result = DIGITS.normalize(pixels)
    assert result.dtype == np.float32
    assert np.allclose(result, expected, atol=1e-6)


def test_json_round_trip():
    assert Preprocessing.from_json(DIGITS.to_json()) == DIGITS


@pytest.mark.parametrize(
    "change",
    [
        {"size": [28]},
        {"size": [0, 28]},
        {"size": [28.0, 28]},
        {"size": [10**9, 28]},
        {"size": "28"},
        {"size": [True, 28]},
        {"mode": "CMYK"},
        {"mode": 3},
        {"mean": [0.1, 0.2]},
        {"mean": ["a"]},
        {"mean": [float("nan")]},
        {"std": [0]},
        {"std": [-1.0]},
        {"std": None},
        {"interpolation": "magic"},
        {"background": "blue"},
        {"center_ink": 1},
        {"unknown": 1},
    ],
)
def test_wrong_values_are_refused(change):
    with pytest.raises(DataError):
        Preprocessing.from_json({**DIGITS.to_json(), **change})


@pytest.mark.parametrize("value", [None, [], "L", {}, {"size": [28, 28]}])
def test_what_is_no_preprocessing_is_refused(value):
    with pytest.raises(DataError):
        Preprocessing.from_json(value)
