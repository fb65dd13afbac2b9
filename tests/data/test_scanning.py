import json
import os
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from juanji.data import DataLoader, Pictures, open_image, scan, split
from juanji.data.transforms import ToTensor
from juanji.errors import DataError


def save(path, value=0, mode="RGB", size=(8, 6), **options):
    """A picture of noise that `value` decides, so that different values are different pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def folders(root, **counts):
    for label, count in counts.items():
        for i in range(count):
            save(root / label / f"{i}.png", zlib.crc32(f"{label} {i}".encode()))
    return root


def names(samples):
    return [sample.name for sample in samples]


def test_a_folder_for_each_class(tmp_path):
    folders(tmp_path, cat=3, dog=2)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    found = scan(tmp_path)
    assert (found.layout, found.classes, found.splits, found.ignored) == ("folders", ("cat", "dog"), (), 1)
    assert names(found.samples) == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png"]
    assert found.targets == [0, 0, 0, 1, 1]
    assert found.counts == {"cat": {"all": 3}, "dog": {"all": 2}}
    assert found.sizes == {
        "width": {"min": 8, "median": 8, "max": 8},
        "height": {"min": 6, "median": 6, "max": 6},
    }
    assert (found.warnings, found.problems, found.duplicates) == ([], (), [])
    assert all(open_image(sample.path).size == sample.size for sample in found.samples)


def test_a_tree_of_parts(tmp_path):
    folders(tmp_path / "train", cat=3, dog=2)
    folders(tmp_path / "Validation", cat=1, owl=1)
    folders(tmp_path / "test", dog=1)
    (tmp_path / "raw").mkdir()
    found = scan(tmp_path)
    assert (found.layout, found.splits) == ("tree", ("train", "val", "test"))
    assert found.classes == ("cat", "dog", "owl")
    assert found.counts["cat"] == {"train": 3, "val": 1, "test": 0, "all": 4}
    assert names(found.part("val")) == ["Validation/cat/0.png", "Validation/owl/0.png"]
    said = "\n".join(found.warnings)
    assert "'owl' is only in val: it cannot be learned" in said
    assert "other folders, left out: raw" in said
    assert "3 pictures" not in said
    # the seeds of the pictures are the classes' and numbers': train/cat/0 is val/cat/0 and train/dog/0 test/dog/0
    assert "2 pictures in more than one of train, val, test" in said


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_names_of_the_validation_part(tmp_path, name):
    folders(tmp_path / "train", a=1, b=1)
    folders(tmp_path / name, a=1, b=1)
    assert scan(tmp_path).splits == ("train", "val")


def test_a_class_called_train_is_a_class(tmp_path):
    folders(tmp_path, train=2, bus=2)
    assert scan(tmp_path).classes == ("bus", "train")
    folders(tmp_path, test=2)  # no folders inside: still classes
    assert scan(tmp_path).classes == ("bus", "test", "train")


def test_two_names_for_one_part(tmp_path):
    for name in ("train", "val", "valid"):
        folders(tmp_path / name, a=1, b=1)
    with pytest.raises(DataError, match="both val and valid mean the part 'val'"):
        scan(tmp_path)


def test_only_a_part_to_test_on(tmp_path):
    folders(tmp_path / "test", a=2, b=2)
    assert "no pictures to train on" in " ".join(scan(tmp_path).warnings)


@pytest.mark.parametrize("header", ["", "path,label\n", "Label,Image\n", "datei,art\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables(tmp_path, header, delimiter):
    for i in range(3):
        save(tmp_path / "pics" / f"{i}.png", i)
    turned = header.startswith("Label")
    rows = [("pics/0.png", "10"), ("pics/1.png", "2"), ("pics/2.png", "2")]
    text = header + "\n".join(",".join(row[::-1] if turned else row) for row in rows) + "\n\n"
    (tmp_path / "labels.csv").write_text(text.replace(",", delimiter), "utf-8-sig")
    for source in (tmp_path, tmp_path / "labels.csv"):
        found = scan(source)
        assert (found.layout, found.classes) == ("table", ("2", "10"))  # numbers in the order of numbers
        assert names(found.samples) == ["pics/1.png", "pics/2.png", "pics/0.png"]


def test_a_table_with_parts_and_groups(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", i)
    (tmp_path / "any.csv").write_text(
        "path,label,split,Patient\n0.png,a,train,p1\n1.png,b,valid,p1\n2.png,b,train,\n3.png,a,soon,p2\n"
    )
    found = scan(tmp_path, group_column="Patient")
    assert [(s.name, s.split, s.group) for s in found.samples] == [
        ("0.png", "train", "p1"),
        ("2.png", "train", None),
        ("1.png", "val", "p1"),
    ]
    assert [(p.name, p.reason) for p in found.problems] == [
        ("3.png", "any.csv row 5: split 'soon' is none of train, val, test")
    ]
    with pytest.raises(DataError, match="group_column='who'; its columns are path, label, split, Patient"):
        scan(tmp_path, group_column="who")


def test_a_table_stays_in_its_folder(tmp_path):
    outside = save(tmp_path / "secret.png", 1)
    inside = tmp_path / "set"
    save(inside / "0.png", 2)
    (inside / "link.png").symlink_to(outside)
    (inside / "t.csv").write_text(
        f"../secret.png,a\nsub/../../secret.png,a\nlink.png,a\n0.png,a\n{outside},b\n,a\n0.png,\nnone.png,a\nx\0y.png,a\n"
    )
    found = scan(inside)
    assert [(s.name, found.classes[s.label]) for s in found.samples] == [("0.png", "a"), (str(outside), "b")]
    reasons = {p.name: p.reason for p in found.problems}
    for name in ("../secret.png", "sub/../../secret.png", "link.png"):
        assert "leads outside of the table's folder" in reasons[name]
    assert reasons["t.csv row 6"] == "t.csv row 6 has no path"
    assert reasons["0.png"] == "t.csv row 7 has no label"
    assert "no such file" in reasons["none.png"]
    assert "null character" in reasons["t.csv row 9"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (b"only\n", "first row is 'only'"),
        (b'a.png,"x\n', "no CSV table"),
        (b"a.png," + b"x" * 200_000, "no CSV table"),
        (b"a.png,x\n", r"no picture that can be read; the first of 1 problem: a.png: .*no such file"),
    ],
)
def test_tables_that_are_none(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        scan(tmp_path / "t.csv")


def png_of(width, height):
    """A PNG whose header says its size, and that has next to nothing in it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bad_files_are_listed_and_left_out(tmp_path):
    folders(tmp_path, a=2, b=2)
    bad = tmp_path / "a"
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.jpg").write_text("hello")
    for suffix in ("png", "jpg", "gif", "webp", "bmp"):
        whole = save(tmp_path / f"w.{suffix}", 5, size=(64, 64)).read_bytes()
        (bad / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
        (tmp_path / f"w.{suffix}").unlink()
    (bad / "bomb.png").write_bytes(png_of(100_000, 100_000))
    (bad / "big.png").write_bytes(png_of(10_000, 10_000))
    (bad / "broken_link.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(bad / "pipe.png")  # opening it would wait for ever
    only_bad = tmp_path / "c"
    only_bad.mkdir()
    (only_bad / "x.png").write_bytes(b"x")
    found = scan(tmp_path, workers=2)
    assert (len(found.samples), found.classes, found.empty) == (4, ("a", "b"), ("c",))
    reasons = {p.name: p.reason for p in found.problems}
    assert set(reasons) == {
        *(f"a/cut.{suffix}" for suffix in ("png", "jpg", "gif", "webp", "bmp")),
        *(f"a/{name}" for name in ("empty.png", "text.jpg", "bomb.png", "big.png", "broken_link.png", "pipe.png")),
        "c/x.png",
    }
    assert "empty file" in reasons["a/empty.png"]
    assert "damaged" in reasons["a/cut.jpg"]
    assert "more than the 89,478,485 pixels" in reasons["a/bomb.png"]
    assert "10000 x 10000 pixels" in reasons["a/big.png"]
    assert "it is no file" in reasons["a/pipe.png"]
    assert str(tmp_path) not in " ".join(reasons.values())
    assert "12 files cannot be read and will be left out" in found.warnings
    assert "the class 'c' has no readable picture and is left out" in found.warnings


def test_kinds_that_are_not_read_are_said(tmp_path):
    folders(tmp_path, a=1)
    (tmp_path / "a" / "phone.HEIC").write_bytes(b"x")
    found = scan(tmp_path)
    assert [(p.name, p.reason) for p in found.problems] == [
        ("a/phone.HEIC", "HEIC files are not read; save it as PNG or JPEG")
    ]
    assert found.ignored == 0


def test_mutations_of_good_files_are_never_fatal(tmp_path):
    rng = np.random.default_rng(3)
    good = {
        s: save(tmp_path / f"w.{s}", 5, size=(24, 20)).read_bytes()
        for s in ("png", "jpg", "gif", "webp", "tiff", "bmp")
    }
    root = tmp_path / "set" / "a"
    root.mkdir(parents=True)
    for suffix, data in good.items():
        (root / f"good.{suffix}").write_bytes(data)
        for k in range(40):
            bad = bytearray(data)
            for _ in range(int(rng.integers(1, 6))):
                # most of what decides is in the header
                at = int(rng.integers(min(len(bad), 64) if rng.random() < 0.6 else len(bad)))
                bad[at] = int(rng.integers(256))
            if rng.random() < 0.3:
                del bad[int(rng.integers(1, len(bad))) :]
            (root / f"{k}.{suffix}").write_bytes(bytes(bad))
    found = scan(tmp_path / "set", workers=1)
    assert len(found.samples) + len(found.problems) == 6 * 41
    assert len(found.problems) > 60
    assert sum("good." in s.name for s in found.samples) == 6
    assert not any("\n" in p.reason for p in found.problems)


def test_scanned_pictures_are_a_set_to_load(tmp_path):
    folders(tmp_path / "train", a=3, b=2)
    folders(tmp_path / "val", a=1, c=1)
    found = scan(tmp_path)
    for source, expected in ((found, found.samples), (found.part("train"), found.samples[:5])):
        pictures = Pictures(source, transform=ToTensor())
        assert len(pictures) == len(expected)
        assert pictures.targets == [s.label for s in expected]
        for i, wanted in enumerate(expected):
            x, label = pictures[i]
            assert label == wanted.label
            assert np.array_equal(x.numpy(), ToTensor()(open_image(wanted.path)).numpy())
    x, labels = next(iter(DataLoader(Pictures(split(found.samples)["train"], transform=ToTensor()), 4, num_workers=1)))
    assert (tuple(x.shape), tuple(labels.shape)) == ((4, 3, 6, 8), (4,))
    assert Pictures(found, target_transform=lambda n: n + 5)[0][1] == 5
    assert Pictures(found, loader=lambda path: path)[0][0] == found.samples[0].path
    assert "7 pictures" in repr(Pictures(found))
    os.remove(found.samples[0].path)
    with pytest.raises(DataError, match="there is no such file"):
        Pictures(found)[0]


def test_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    folders(tmp_path, a=1)
    (tmp_path / "a" / "bomb.png").write_bytes(png_of(9_500, 9_500))
    decoded = []
    load = Image.Image.load

    def spy(self):
        decoded.append(self.size)
        return load(self)

    monkeypatch.setattr(Image.Image, "load", spy)
    assert len(scan(tmp_path).problems) == 1
    assert (9_500, 9_500) not in decoded


def test_duplicates_by_content(tmp_path):
    a = save(tmp_path / "train" / "x" / "a.png", 1)
    b = tmp_path / "train" / "x" / "b.bmp"
    Image.open(a).save(b)  # another file, the same pixels
    save(tmp_path / "test" / "y" / "c.png", 1)
    save(tmp_path / "train" / "y" / "d.png", 2)
    save(tmp_path / "train" / "y" / "e.png", 3)
    found = scan(tmp_path)
    assert [names(group) for group in found.duplicates] == [["train/x/a.png", "train/x/b.bmp", "test/y/c.png"]]
    assert found.leaks == found.contradictions == found.duplicates
    save(tmp_path / "train" / "y" / "f.png", 3)
    found = scan(tmp_path)
    assert len(found.duplicates) == 2
    assert len(found.leaks) == 1
    assert "1 picture more than once in the same class" in found.warnings


def test_kinds_go_through_the_reader(tmp_path):
    root = tmp_path / "a"
    save(root / "plain.png", 1)
    save(root / "alpha.png", 2, "RGBA")
    save(root / "cmyk.jpg", 3, "CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "turned.jpg", 4, exif=exif)
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000).save(root / "deep.png")
    Image.fromarray(np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)).save(root / "float.tiff")
    frames = [Image.new("RGB", (8, 6), c) for c in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(root / "moving.gif", save_all=True, append_images=frames[1:])
    picture = Image.new("P", (8, 6))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(root / "palette.png", transparency=0)
    found = scan(tmp_path)
    assert found.problems == ()
    assert {s.name[2:]: s.kinds for s in found.samples} == {
        "plain.png": (),
        "alpha.png": ("alpha",),
        "cmyk.jpg": ("cmyk",),
        "turned.jpg": ("rotated",),
        "deep.png": ("16-bit",),
        "float.tiff": ("float",),
        "moving.gif": ("animated",),
        "palette.png": ("alpha",),
    }
    sizes = {s.name[2:]: s.size for s in found.samples}
    assert sizes.pop("turned.jpg") == (6, 8)
    assert set(sizes.values()) == {(8, 6)}
    assert found.kinds == {"16-bit": 1, "alpha": 2, "animated": 1, "cmyk": 1, "float": 1, "rotated": 1}


def test_warnings_of_small_classes(tmp_path):
    folders(tmp_path, only=1)
    assert scan(tmp_path).warnings == [
        "there is only one class, 'only': nothing can be told apart",
        "the class 'only' has only one picture: nothing is left to test it with",
    ]
    save(tmp_path / "stray.png", 7)
    assert "stray.png is in no class folder" in scan(tmp_path).warnings[0]


def test_reports(tmp_path):
    folders(tmp_path / "train", cat=3, 狗=2)
    folders(tmp_path / "val", cat=2)
    (tmp_path / "val" / "cat" / "bad.png").write_bytes(b"x")
    found = scan(tmp_path)
    text = str(found)
    lines = text.splitlines()
    assert lines[0] == f"{tmp_path}: 7 pictures, 2 classes"
    assert lines[1].split() == ["class", "train", "val", "all"]
    assert lines[2].split() == ["cat", "3", "2", "5"]
    assert "val/cat/bad.png: expected a picture" in text
    assert "train/cat/0.png = val/cat/0.png" in text
    read = json.loads(found.to_json())
    assert read == json.loads(json.dumps(found.as_dict()))
    assert read["classes"] == ["cat", "狗"]
    assert read["samples"][0]["name"] == "train/cat/0.png"
    assert read["warnings"] == found.warnings
    assert "7 pictures of 2 classes" in repr(found)


def test_the_set_has_a_hash(tmp_path):
    folders(tmp_path / "1", a=2, b=2)
    folders(tmp_path / "2", a=2, b=2)
    (tmp_path / "2" / "a" / "0.png").rename(tmp_path / "2" / "a" / "other.png")
    first = scan(tmp_path / "1").digest
    assert scan(tmp_path / "2", workers=1).digest == first  # names of files are no content
    save(tmp_path / "2" / "a" / "other.png", 99)
    assert scan(tmp_path / "2").digest != first


def test_file_names_that_are_no_text(tmp_path):
    folders(tmp_path, a=1)
    save(tmp_path / "a" / "x.png", 5)
    try:
        os.rename(os.fsencode(tmp_path / "a" / "x.png"), os.fsencode(tmp_path / "a") + b"/\xff.png")
    except OSError:
        pytest.skip("this file system takes only text")
    found = scan(tmp_path)
    assert [s.name for s in found.samples] == ["a/0.png", "a/\\xff.png"]
    str(found).encode()
    found.to_json().encode()


def test_stopping_leaves_the_rest_unopened(tmp_path, monkeypatch):
    folders(tmp_path, a=60)
    opened = []

    def slowly(path):
        opened.append(path)
        time.sleep(0.005)
        return open_image(path)

    def stop(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr("juanji.data.scanning.open_image", slowly)
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, workers=1, progress=stop)
    assert len(opened) < 30


def test_progress_and_arguments(tmp_path):
    folders(tmp_path, a=2, b=1)
    seen = []
    scan(tmp_path, progress=lambda done, total: seen.append((done, total)), workers=2)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not [t for t in threading.enumerate() if t.name.startswith("juanji-scan")]
    with pytest.raises(ValueError, match="workers=0"):
        scan(tmp_path, workers=0)
    with pytest.raises(DataError, match="needs a CSV table"):
        scan(tmp_path, group_column="x")
    with pytest.raises(DataError, match="and there is none"):
        scan(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it has no folders"):
        scan(tmp_path / "empty")
