import numpy as np
import pytest
from PIL import Image

from juanji.data import open_image
from juanji.data.datasets import ImageFolder
from juanji.data.transforms import ToTensor
from juanji.errors import DataError


def save(path, mode="RGB", size=(4, 3), color=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tiff", "ppm"])
def test_formats(tmp_path, suffix):
    picture = open_image(save(tmp_path / f"a.{suffix}", color=(250, 250, 250)))
    assert (picture.mode, picture.size) == ("RGB", (4, 3))
    assert abs(picture.getpixel((1, 1))[0] - 250) <= 2


def test_modes(tmp_path):
    grey = save(tmp_path / "grey.png", "L", color=100)
    assert open_image(grey, None).mode == "L"
    assert open_image(grey).getpixel((0, 0)) == (100, 100, 100)
    colour = save(tmp_path / "colour.png", color=(10, 20, 30))
    assert open_image(colour, None).mode == "RGB"
    assert open_image(colour, "L").mode == "L"
    assert open_image(save(tmp_path / "1.png", "1", color=1), None).getpixel((0, 0)) == 255
    assert open_image(save(tmp_path / "cmyk.jpg", "CMYK", color=(0, 0, 0, 0))).getpixel((0, 0)) == (
        255,
        255,
        255,
    )
    with pytest.raises(ValueError, match="mode='P'"):
        open_image(grey, "P")


@pytest.mark.parametrize(("mode", "color"), [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))])
def test_transparency_becomes_white(tmp_path, mode, color):
    path = save(tmp_path / "a.png", mode, color=color)
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(path, "L").getpixel((0, 0)) == 255


def test_half_transparency_and_palettes(tmp_path):
    path = save(tmp_path / "half.png", "RGBA", color=(0, 0, 0, 128))
    assert abs(open_image(path).getpixel((0, 0))[0] - 127) <= 1
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    opened = open_image(tmp_path / "p.png")
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 255)]


def test_sixteen_bits_and_floats(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png", None)).tolist() == [[0, 100, 255]]
    Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)).save(tmp_path / "a.tiff")
    assert np.asarray(open_image(tmp_path / "a.tiff", None)).tolist() == [[0, 128, 255]]
    Image.fromarray(np.array([[0, 100, 300]], dtype=np.float32)).save(tmp_path / "b.tiff")
    assert np.asarray(open_image(tmp_path / "b.tiff", None)).tolist() == [[0, 100, 255]]


def test_exif_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(save(tmp_path / "a.jpg", size=(8, 4), exif=exif)).size == (4, 8)


def test_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (2, 2), c) for c in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_what_is_no_picture(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello")
    whole = save(tmp_path / "whole.png", size=(300, 300)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.jpg").write_bytes(save(tmp_path / "whole.jpg", size=(300, 300)).read_bytes()[:700])
    (tmp_path / "a.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    for name, message in (
        ("none.png", "there is no such file"),
        (".", "it is a folder"),
        ("empty.png", "found an empty file"),
        ("text.png", "found 5 bytes of something else"),
        ("cut.png", "damaged"),
        ("cut.jpg", "damaged"),
        ("a.eps", "EPS files are not read"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            open_image(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [40, 400])
def test_pictures_that_are_too_large(tmp_path, monkeypatch, side):
    path = save(tmp_path / "a.png", size=(side, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="more than the 1,000 pixels"):
        open_image(path)


def test_a_folder_of_classes(tmp_path):
    for name in (
        "dog/b.PNG",
        "dog/deep/a.jpg",
        "cat/1.gif",
        ".git/x.png",
        "cat/.hidden.png",
        "cat/notes.png.txt",
    ):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("x")
    pictures = ImageFolder(tmp_path, transform=ToTensor(), target_transform=lambda t: t + 10)
    assert pictures.classes == ["cat", "dog"]
    assert pictures.class_to_idx == {"cat": 0, "dog": 1}
    names = [path.removeprefix(str(tmp_path)).replace("\\", "/") for path, _ in pictures.samples]
    assert names == ["/cat/1.gif", "/dog/b.PNG", "/dog/deep/a.jpg"]
    assert pictures.imgs == pictures.samples
    assert pictures.targets == [0, 1, 1]
    x, label = pictures[2]
    assert tuple(x.shape) == (3, 3, 4)
    assert label == 11
    assert "3 pictures of 2 classes" in repr(pictures)


def test_links_that_lead_back(tmp_path):
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    assert len(ImageFolder(tmp_path)) == 1


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="and there is none"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(DataError, match="it has no sub-folders"):
        ImageFolder(tmp_path)
    for name in "abcde":
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="no pictures in the class a, b, c and 2 more"):
        ImageFolder(tmp_path)
    assert len(ImageFolder(tmp_path, allow_empty=True)) == 0


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1\.png: expected a picture"):
        ImageFolder(tmp_path)[0]
