import zlib

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


@pytest.mark.parametrize("mark", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_every_exif_turn(tmp_path, mark, suffix):
    upright = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    # What a camera that was held so stores: turned upright by the mark's meaning, it is the picture.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[mark]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = mark
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / f"a.{suffix}")), upright)


def test_colours_of_print(tmp_path):
    """Photoshop's CMYK pictures are stored inverted, with a mark that says so."""
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    inks.save(tmp_path / "a.tiff")
    inks.save(tmp_path / "a.jpg", quality=100)
    for name in ("a.tiff", "a.jpg"):
        red, green, blue = open_image(tmp_path / name).getpixel((8, 8))
        assert red > 220, name
        assert max(green, blue) < 40, name


@pytest.mark.parametrize(
    ("depth", "kind"), [(d, 0) for d in (1, 2, 4)] + [(d, k) for d in (8, 16) for k in (0, 2, 4, 6)]
)
def test_every_depth_of_png(tmp_path, depth, kind):
    """Grey, colours, and both with transparency, written by hand: Pillow writes few of these."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    most = 2**depth - 1
    row = (
        b"\0"
        + (most.to_bytes(2, "big") if depth == 16 else bytes([most << (8 - depth) if depth < 8 else most])) * channels
    )

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes([depth, kind, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert open_image(tmp_path / "a.png", "L").getpixel((0, 0)) == 255


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_animated_pictures_give_their_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), c) for c in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert open_image(tmp_path / f"a.{suffix}").getpixel((4, 4)) == (250, 0, 0)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "tiff", "ppm"])
def test_truncated_anywhere(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match="damaged|something else"):
            open_image(path)


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
