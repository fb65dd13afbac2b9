"""Pictures: what is drawn where, read back from the figures; tensors and modules in a notebook."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import juanji as jj
from juanji import nn

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def no_windows():
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    yield
    plt.close("all")


def texts(axes):
    return [t.get_text() for t in axes.texts]


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_numbers_are_written_into_small_planes():
    figure = jj.show(jj.arange(6).reshape(2, 3))
    (axes,) = figure.axes
    assert texts(axes) == ["0", "1", "2", "3", "4", "5"]
    assert pixels(figure).std() > 0


def test_planes_of_every_rank():
    assert len(jj.show(jj.rand(5)).axes) == 1
    assert len(jj.show(jj.rand(3, 20, 30)).axes) == 1  # three channels are one picture
    drawn = [a for a in jj.show(jj.rand(2, 5, 9, 9), columns=5).axes if a.images]
    assert len(drawn) == 10
    assert jj.show(Image.new("RGB", (40, 30), "red")).axes[0].images[0].get_array().shape == (30, 40, 3)
    assert "the first 64 of 70" in jj.show(jj.rand(70, 1, 3, 3)).get_suptitle()


def test_show_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"\[2, 2, 2, 2, 2\]"):
        jj.show(jj.zeros(2, 2, 2, 2, 2))
    with pytest.raises(ValueError, match="no elements"):
        jj.show(jj.zeros(0, 3))
    with pytest.raises(TypeError, match="must be a tensor"):
        jj.show("cat")


def test_filters_keep_one_scale_with_zero_in_the_middle():
    layer = nn.Conv2d(1, 4, 3)
    figure = jj.show_filters(layer)
    shown = [a.images[0] for a in figure.axes if a.images]
    assert len(shown) == 4
    largest = float(layer.weight.abs().max())
    for image, expected in zip(shown, layer.weight.detach().numpy()[:, 0], strict=True):
        assert image.get_clim() == pytest.approx((-largest, largest))
        np.testing.assert_array_equal(image.get_array(), expected)
    assert len([a for a in jj.show_filters(nn.Conv2d(3, 5, 3)).axes if a.images]) == 5
    with pytest.raises(TypeError, match="ReLU has none"):
        jj.show_filters(nn.ReLU())


def test_feature_maps_are_what_the_layers_return():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Dropout(0.5))
    model.train()
    image = jj.randn(1, 9, 9)
    figures = jj.show_feature_maps(model, image)
    assert list(figures) == ["0", "1", "2"]
    expected = model[0](image.unsqueeze(0)).relu().detach().numpy()[0]
    shown = [a.images[0].get_array() for a in figures["2"].axes if a.images]
    np.testing.assert_array_equal(np.stack(shown), expected)  # no dropout: evaluation mode
    assert model.training
    with pytest.raises(ValueError, match="no layer 'conv9'; there are 0, 1, 2"):
        jj.show_feature_maps(model, image, ["conv9"])


def test_arithmetic_shows_the_article_and_its_sum():
    """The worked example of article 003, with the right numbers."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with jj.no_grad():
        conv.weight.copy_(jj.tensor([[1.0, 0, -1]] * 3).reshape(1, 1, 3, 3))
    figure = jj.plot_arithmetic(conv, jj.arange(1, 26).reshape(5, 5), output=(1, 0))
    given, kernel, output = figure.axes
    assert texts(kernel) == ["1", "0", "-1"] * 3
    assert texts(output)[:10] == ["-9", "-4", "-4", "-4", "13", "-21", "-6", "-6", "-6", "27"]
    assert len(texts(given)) == 49  # padded to 7 by 7
    assert figure.get_supxlabel().endswith("= -21")
    assert "2·(-1)" in figure.get_supxlabel()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3, stride=2, dilation=2, padding=1), (4, 4)),
        (nn.Conv2d(1, 1, (2, 3), padding="same"), (5, 5)),
        (nn.MaxPool2d(3, stride=2, ceil_mode=True), (3, 3)),
        (nn.MaxPool2d(3, stride=2, padding=1), (4, 4)),
        (nn.AvgPool2d(2), (3, 3)),
    ],
    ids=str,
)
def test_arithmetic_of_other_layers(layer, shape):
    figure = jj.plot_arithmetic(layer)
    assert figure.axes[-1].images[0].get_array().shape == shape
    assert pixels(figure).std() > 0


def test_arithmetic_errors():
    with pytest.raises(TypeError, match="not ReLU"):
        jj.plot_arithmetic(nn.ReLU())
    with pytest.raises(ValueError, match="too large to read"):
        jj.plot_arithmetic(nn.MaxPool2d(2), jj.zeros(64, 64))
    with pytest.raises(IndexError, match=r"output=\(9, 9\)"):
        jj.plot_arithmetic(nn.MaxPool2d(2), output=(9, 9))


def test_tensors_in_a_notebook():
    html = jj.tensor([[1.0, float("nan")]], requires_grad=True)._repr_html_()
    assert "tensor [1, 2]" in html
    assert "1 not finite" in html
    assert "requires_grad=True" in html
    html = jj.arange(256.0).reshape(16, 16)._repr_html_()
    data = re.search(r"base64,([^']+)'", html).group(1)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(picture, np.arange(256).reshape(16, 16))
    assert jj.zeros(0)._repr_html_()
    assert jj.tensor(True)._repr_html_()
    assert jj.rand(40, 3, 16, 16)._repr_html_().count("<img") == 16


def test_modules_in_a_notebook():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU()))
    model[0].weight.requires_grad_(False)
    html = model._repr_html_()
    assert "20 parameters, 18 frozen" in html
    assert html.count("<details") == html.count("</details>") == 2
