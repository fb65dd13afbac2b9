"""Geometry, noise and holes, and that a loader's pictures hang on its seed alone."""

import math

import numpy as np
import pytest
from PIL import Image

from juanji.data import DataLoader, Dataset, default_collate
from juanji.data import transforms as T
from juanji.data._tensors import Tensor
from juanji.data.randomness import SampleSeeds
from juanji.random import Generator

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def drawn(transform, picture, count=40):
    """What comes out for `count` different seeds."""
    out = []
    for k in range(count):
        with SampleSeeds(5, k):
            out.append(transform(picture))
    return out


def test_random_resized_crop_draws_parts_within_its_ranges():
    crop = T.RandomResizedCrop(8, scale=(0.2, 0.5), ratio=(0.5, 2))
    areas, ratios = [], []
    for k in range(200):
        with SampleSeeds(1, k):
            left, top, width, height = crop._part(300, 200)
        assert 0 <= left <= 300 - width
        assert 0 <= top <= 200 - height
        areas.append(width * height / 60_000)
        ratios.append(math.log(width / height))
    assert 0.19 < min(areas) < 0.23
    assert 0.47 < max(areas) < 0.51
    assert math.log(0.49) < min(ratios) < -0.5
    assert 0.5 < max(ratios) < math.log(2.04)
    assert abs(np.mean(areas) - 0.35) < 0.02


def test_random_resized_crop_is_a_crop_and_a_resize():
    for k in range(5):
        crop = T.RandomResizedCrop((6, 9), interpolation="bicubic")
        with SampleSeeds(2, k):
            out = crop(PICTURE)
        with SampleSeeds(2, k):
            left, top, width, height = crop._part(*PICTURE.size)
        expected = PICTURE.crop((left, top, left + width, top + height)).resize((9, 6), 3)
        assert np.array_equal(np.asarray(out), np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [((100, 10), (1, 1), (45, 0, 10, 10)), ((10, 100), (1, 1), (0, 45, 10, 10)), ((30, 30), (1, 1), (0, 0, 30, 30))],
)
def test_random_resized_crop_falls_back_on_the_middle(size, ratio, expected):
    assert T.RandomResizedCrop(4, scale=(2, 2), ratio=ratio)._part(*size) == expected


def test_the_whole_picture_resized():
    whole = T.RandomResizedCrop((20, 30), scale=(1, 1), ratio=(1.5, 1.5))
    assert np.array_equal(np.asarray(whole(PICTURE)), PIXELS)


def test_vertical_flip():
    x = T.ToTensor()(PICTURE)
    assert np.array_equal(T.RandomVerticalFlip(1)(x).numpy(), x.numpy()[:, ::-1])
    assert np.array_equal(np.asarray(T.RandomVerticalFlip(1)(PICTURE)), PIXELS[::-1])
    assert T.RandomVerticalFlip(0)(PICTURE) is PICTURE
    for flip in (T.RandomVerticalFlip(), T.RandomVerticalFlip(0.2)):
        turned = [not np.array_equal(np.asarray(p), PIXELS) for p in drawn(flip, PICTURE, 200)]
        assert abs(np.mean(turned) - flip.p) < 0.1
        with SampleSeeds(3, 0):
            whole = T.Compose([flip, T.ToTensor()]).batch(np.stack([PIXELS] * 30))
        with SampleSeeds(3, 0) as seeds:
            single = []
            for k in range(30):
                seeds.place(k)
                single.append(T.ToTensor()(flip(PICTURE)).numpy())
        assert np.array_equal(whole, np.stack(single))
        with SampleSeeds(3, 0):
            assert np.array_equal(T.Compose([T.ToTensor(), flip]).batch(np.stack([PIXELS] * 30)), whole)


@pytest.mark.parametrize("padding", [None, 3, (2, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize(
    ("mode", "fill"),
    [("constant", 0), ("constant", 9), ("constant", (1, 2, 3)), ("edge", 0), ("reflect", 0), ("symmetric", 0)],
)
def test_random_crop_of_a_padded_picture(mode, padding, fill):
    crop = T.RandomCrop((18, 25), padding, fill=fill, padding_mode=mode)
    left, top, right, bottom = crop._sides
    widths = ((top, bottom), (left, right), (0, 0))
    if mode == "constant":
        around = np.full((20 + top + bottom, 30 + left + right, 3), fill, np.uint8)
        around[top : top + 20, left : left + 30] = PIXELS
    else:
        around = np.pad(PIXELS, widths, mode)
    parts = {
        around[y : y + 18, x : x + 25].tobytes() for y in range(len(around) - 17) for x in range(around.shape[1] - 24)
    }
    with SampleSeeds(8, 0):
        whole = crop.batch(np.stack([PIXELS] * 12))
    with SampleSeeds(8, 0):
        planar = crop.batch(np.stack([PIXELS] * 12).transpose(0, 3, 1, 2).astype(np.float32))
    assert np.array_equal(planar, whole.transpose(0, 3, 1, 2))
    for k in range(12):
        outs = []
        for given in (PICTURE, PIXELS.transpose(2, 0, 1)):
            with SampleSeeds(8, 0) as seeds:
                seeds.place(k)
                outs.append(np.asarray(crop(given)))
        assert outs[0].tobytes() in parts
        assert np.array_equal(outs[0].transpose(2, 0, 1), outs[1])
        assert np.array_equal(outs[0], whole[k])


def test_random_crop_pads_where_needed():
    for size in ((30, 30), (20, 40), (25, 10)):
        crop = T.RandomCrop(size, pad_if_needed=True, fill=5)
        for k in range(10):
            with SampleSeeds(1, k):
                out = np.asarray(crop(PICTURE))
            with SampleSeeds(1, k):
                assert np.array_equal(np.asarray(crop(PIXELS.transpose(2, 0, 1))), out.transpose(2, 0, 1))
            assert out.shape == (*size, 3)
    grey = np.zeros((3, 4, 4), np.uint8)
    assert T.RandomCrop(6, pad_if_needed=True, fill=5).batch(grey).shape == (3, 6, 6)
    assert T.RandomCrop(3, pad_if_needed=True)._around(4, 4) == (0, 0, 0, 0)
    assert T.RandomCrop(7, padding=1, pad_if_needed=True)._around(4, 4) == (2, 2, 2, 2)
    for make, match in (
        (lambda: T.RandomCrop(3, padding_mode="wrap"), "padding_mode='wrap'"),
        (lambda: T.RandomCrop(3, padding=(1, 2, 3)), "padding="),
        (lambda: T.RandomCrop(3, padding=(1, 2, 3, -1)), "padding="),
        (lambda: T.RandomCrop(9, padding=3, fill=(1, 2))(np.zeros((3, 4, 4))), r"fill=\(1, 2\) has 2 channels"),
    ):
        with pytest.raises(ValueError, match=match):
            make()


def test_rotation():
    quarter = T.RandomRotation((90, 90), expand=True)
    assert np.array_equal(np.asarray(quarter(PICTURE)), np.rot90(PIXELS))
    assert T.RandomRotation((90, 90))(PICTURE).size == PICTURE.size
    corner = T.RandomRotation((45, 45), fill=(1, 2, 3))(PICTURE)
    assert corner.getpixel((0, 0)) == (1, 2, 3)
    assert T.RandomRotation((45, 45), fill=7)(PICTURE.convert("L")).getpixel((0, 0)) == 7
    about = T.RandomRotation((180, 180), center=(0, 0))(PICTURE)
    assert np.asarray(about)[1:, 1:].max() == 0
    assert len({p.tobytes() for p in drawn(T.RandomRotation(20, "bilinear"), PICTURE)}) == 40
    angles = T.RandomRotation(30).degrees
    assert angles == (-30, 30)


def test_noise():
    grey = np.full((3, 40, 40), 0.5, np.float32)
    noisy = T.GaussianNoise(mean=0.1, sigma=0.05)(grey)
    assert noisy.dtype == np.float32
    assert abs(noisy.mean() - 0.6) < 0.01
    assert abs(noisy.std() - 0.05) < 0.005
    assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.1
    assert (grey == 0.5).all()
    assert T.GaussianNoise(sigma=3)(grey).max() == 1
    assert T.GaussianNoise(sigma=3, clip=False)(grey).max() > 2
    assert isinstance(T.GaussianNoise()(T.ToTensor()(PICTURE)), Tensor)
    bytes_ = T.GaussianNoise(sigma=0.1)(np.full((1, 60, 60), 100, np.uint8))
    assert bytes_.dtype == np.uint8
    assert abs(bytes_.astype(float).std() - 25.5) < 2
    assert T.GaussianNoise(sigma=2)(np.full((1, 60, 60), 250, np.uint8)).max() == 255


def test_erasing():
    ones = np.ones((3, 40, 60), np.float32)
    erase = T.RandomErasing(p=1, scale=(0.1, 0.2), ratio=(0.5, 2))
    places = set()
    for out in drawn(erase, ones, 60):
        rows, columns = np.nonzero((out == 0).all(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (out == 0).sum() == 3 * height * width  # one rectangle in all channels
        assert 0.09 < height * width / 2400 < 0.22
        assert 0.45 < height / width < 2.2
        places.add((rows.min(), columns.min()))
    assert len(places) > 30
    assert (ones == 1).all()
    happened = [out is not ones for out in drawn(T.RandomErasing(p=0.3), ones, 300)]
    assert abs(np.mean(happened) - 0.3) < 0.08
    coloured = T.RandomErasing(p=1, value=(0.1, 0.2, 0.3))(ones)
    assert {tuple(np.unique(c)) for c in coloured} == {(np.float32(v), 1) for v in (0.1, 0.2, 0.3)}
    random = T.RandomErasing(p=1, scale=(0.3, 0.3), ratio=(1, 1), value="random")(ones)
    hole = random[random != 1]
    assert abs(hole.mean()) < 0.15
    assert abs(hole.std() - 1) < 0.15
    x = T.ToTensor()(PICTURE)
    kept = T.RandomErasing(p=1, inplace=True)(x)
    assert kept is x
    assert not np.array_equal(x.numpy(), T.ToTensor()(PICTURE).numpy())
    # a rectangle has to be smaller than the picture: none is, and nothing happens
    assert T.RandomErasing(p=1, scale=(1, 1), ratio=(1, 1))(ones[:, :40, :40]).min() == 1


def test_refusals():
    for make, match in (
        (lambda: T.RandomResizedCrop(0), "size=0"),
        (lambda: T.RandomResizedCrop(4, scale=(1, 0.5)), r"scale=\(1, 0.5\)"),
        (lambda: T.RandomResizedCrop(4, ratio=(0, 1)), "ratio="),
        (lambda: T.RandomResizedCrop(4, interpolation="best"), "interpolation='best'"),
        (lambda: T.RandomVerticalFlip(1.5), "p=1.5"),
        (lambda: T.RandomRotation(-1), "degrees=-1"),
        (lambda: T.RandomRotation((3, 2)), r"degrees=\(3, 2\)"),
        (lambda: T.RandomRotation(3, "lanczos"), "valid are nearest, bilinear, bicubic"),
        (lambda: T.RandomRotation(3, center=(1,)), "center="),
        (lambda: T.RandomRotation((45, 45), fill=(1, 2))(PICTURE), "fill=.*has 2 channels.* RGB 3"),
        (lambda: T.GaussianNoise(sigma=-1), "sigma=-1"),
        (lambda: T.RandomErasing(scale=(0.5, 2)), "scale="),
        (lambda: T.RandomErasing(value="noise"), "value='noise'"),
        (lambda: T.RandomErasing(p=1, value=(1, 2))(np.ones((3, 9, 9))), r"value=\(1, 2\).*3 channels"),
        (lambda: T.RandomErasing()(np.ones((9, 9))), r"got shape \(9, 9\)"),
    ):
        with pytest.raises(ValueError, match=match):
            make()
    tensor = T.ToTensor()(PICTURE)
    for transform in (T.RandomResizedCrop(4), T.RandomRotation(3), T.RandAugment()):
        with pytest.raises(TypeError, match=r"put \w+ before ToTensor\(\)"):
            transform(tensor)
    for transform in (T.GaussianNoise(), T.RandomErasing()):
        with pytest.raises(TypeError, match=r"put \w+ after ToTensor\(\)"):
            transform(PICTURE)
    with pytest.raises(TypeError, match="int64"):
        T.GaussianNoise()(np.zeros((1, 2, 2), np.int64))


def test_reprs():
    assert repr(T.RandomResizedCrop(4)) == (
        "RandomResizedCrop(size=(4, 4), scale=(0.08, 1.0), ratio=(0.75, 1.3333), interpolation=bilinear, antialias=True)"
    )
    for transform in (
        T.RandomVerticalFlip(),
        T.RandomRotation(3),
        T.GaussianNoise(),
        T.RandomErasing(),
        T.RandAugment(),
    ):
        assert repr(transform).startswith(type(transform).__name__ + "(")


class Pictures(Dataset):
    """Every transform there is, one after another."""

    transform = T.Compose(
        [
            T.RandomResizedCrop(12),
            T.RandomHorizontalFlip(),
            T.RandomVerticalFlip(),
            T.RandomRotation(20),
            T.ColorJitter(0.4, 0.4, 0.4, 0.1),
            T.RandAugment(),
            T.RandomCrop(10, padding=2),
            T.ToTensor(),
            T.GaussianNoise(),
            T.RandomErasing(value="random"),
            T.Normalize(0.5, 0.5),
        ]
    )

    def __getitem__(self, index):
        return self.transform(Image.fromarray(np.roll(PIXELS, index, 1))), index % 3

    def __len__(self):
        return 14


def batches(workers, collate=default_collate, seed=9):
    loader = DataLoader(
        Pictures(), 4, shuffle=True, num_workers=workers, generator=Generator().manual_seed(seed), collate_fn=collate
    )
    return [[values.numpy() for values in batch] for _ in range(2) for batch in loader]


def mixing(batch):
    return T.RandomChoice([T.MixUp(num_classes=3), T.CutMix(num_classes=3, alpha=0.5)])(*default_collate(batch))


@pytest.mark.parametrize("collate", [default_collate, mixing])
def test_any_number_of_workers_gives_the_same(collate):
    first = batches(0, collate)
    assert len(first) == 8
    for workers in (1, 2):
        for a, b in zip(first, batches(workers, collate), strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    # the second pass, and another seed, are something else
    assert not np.array_equal(first[0][0], first[4][0])
    assert not np.array_equal(first[0][0], batches(0, collate, seed=8)[0][0])
