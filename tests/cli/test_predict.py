"""`juanji predict` and `juanji evaluate`, on pictures and folders of all kinds."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from juanji.data import read_idx
from juanji.interop.preprocessing import Preprocessing

BAR = 3  # a class whose bar lies across: drawn the same from any place


def picture(idx_folder, label):
    images = read_idx(idx_folder / "t10k-images-idx3-ubyte")
    labels = read_idx(idx_folder / "t10k-labels-idx1-ubyte")
    return images[labels.tolist().index(label)]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "L"),
        ("a.jpg", "L"),
        ("a.webp", "RGB"),
        ("a.bmp", "L"),
        ("a.gif", "P"),
        ("a.tiff", "RGB"),
        ("a.png", "RGBA"),
    ],
)
def test_pictures_of_any_format(juanji, trained, idx_folder, tmp_path, name, mode):
    Image.fromarray(picture(idx_folder, BAR)).convert(mode).save(tmp_path / name)
    done = juanji("predict", trained.path, tmp_path / name, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["predictions"]
    assert found["class"] == str(BAR)
    assert found["image"] == str(tmp_path / name)
    assert len(found["top"]) == 3
    assert found["top"][0] == {"class": found["class"], "probability": found["probability"]}


def test_ink_on_paper_of_another_size(juanji, trained, idx_folder, tmp_path):
    paper = 255 - picture(idx_folder, BAR)
    Image.fromarray(paper).resize((280, 280)).save(tmp_path / "paper.png")
    Image.fromarray(paper).save(tmp_path / "small.png")
    for extra, names in ((), {str(BAR)}), (("--invert", "yes"), {str(BAR)}):
        done = juanji("predict", trained.path, tmp_path / "paper.png", tmp_path / "small.png", "--json", *extra)
        assert {p["class"] for p in json.loads(done.stdout)["predictions"]} == names


def test_top_k_and_lines_for_people(juanji, trained, idx_folder, tmp_path):
    Image.fromarray(picture(idx_folder, BAR)).save(tmp_path / "a.png")
    done = juanji("predict", trained.path, tmp_path / "a.png", "--top-k", 2)
    assert done.stdout.startswith(f"{tmp_path / 'a.png'}: {BAR}  ")
    assert done.stdout.count("%") == 2
    done = juanji("predict", trained.path, tmp_path / "a.png", "--top-k", 99, "--json")
    top = json.loads(done.stdout)["predictions"][0]["top"]
    assert len(top) == 10
    assert sum(t["probability"] for t in top) == pytest.approx(1, abs=1e-4)


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(juanji, trained, idx_folder, tmp_path):
    Image.fromarray(picture(idx_folder, BAR)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:90])
    names = [tmp_path / n for n in ("bad.png", "good.png", "cut.png", "none.png")]
    done = juanji("predict", trained.path, *names, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)["predictions"]
    assert ["error" in p for p in found] == [True, False, True, True]
    assert len(done.stderr.strip().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["predict"], 2),
        (["predict", "MODEL"], 2),
        (["predict", "MODEL", "x.png", "--top-k", "0"], 2),
        (["predict", "MODEL", "x.png", "--invert", "maybe"], 2),
        (["predict", "none.safetensors", "x.png"], 1),
        (["predict", "BROKEN", "x.png"], 1),
        (["evaluate", "MODEL"], 2),
        (["evaluate", "MODEL", "cifar"], 2),
        (["evaluate", "none.safetensors", "IDX"], 1),
        (["evaluate", "BROKEN", "IDX"], 1),
        (["evaluate", "MODEL", "EMPTY"], 1),
    ],
)
def test_exit_codes(juanji, trained, idx_folder, tmp_path, arguments, code):
    (tmp_path / "broken.safetensors").write_bytes(trained.path.read_bytes()[:-5])
    (tmp_path / "empty").mkdir()
    named = {
        "MODEL": trained.path,
        "BROKEN": tmp_path / "broken.safetensors",
        "IDX": idx_folder,
        "EMPTY": tmp_path / "empty",
    }
    done = juanji(*(named.get(a, a) for a in arguments), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_evaluate_idx_files_as_the_training_did(juanji, trained, idx_folder):
    done = juanji("evaluate", trained.path, idx_folder, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accuracy"] == pytest.approx(trained.result["accuracy"])
    assert result["count"] == 60
    assert result["per_class"] == trained.result["per_class"]


def test_evaluate_a_folder_of_class_folders(juanji, trained, idx_folder, tmp_path):
    images, labels = (
        read_idx(idx_folder / "t10k-images-idx3-ubyte"),
        read_idx(idx_folder / "t10k-labels-idx1-ubyte"),
    )
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "set" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        # Every other one as ink on paper: the same picture once it is turned.
        Image.fromarray(image if i // 10 % 2 else 255 - image).save(folder / f"{i}.png")
    done = juanji("evaluate", trained.path, tmp_path / "set", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["accuracy"], result["count"]) == (pytest.approx(trained.result["accuracy"]), 60)
    people = juanji("evaluate", trained.path, tmp_path / "set")
    assert "accuracy" in people.stdout
    (tmp_path / "set" / "cat").mkdir()
    shutil.copy(tmp_path / "set" / "3" / "3.png", tmp_path / "set" / "cat")
    done = juanji("evaluate", trained.path, tmp_path / "set")
    assert done.returncode == 1
    assert "cat" in done.stderr


def test_evaluate_with_foreign_classes_or_sizes(juanji, trained, tmp_path):
    from juanji.data import write_idx

    def write(folder, images, labels):
        folder.mkdir()
        write_idx(folder / "t10k-images-idx3-ubyte", images)
        write_idx(folder / "t10k-labels-idx1-ubyte", labels)
        return folder

    high = write(tmp_path / "high", np.zeros((2, 28, 28), np.uint8), np.array([0, 10], np.uint8))
    large = write(tmp_path / "large", np.zeros((2, 32, 32), np.uint8), np.array([0, 1], np.uint8))
    for folder, word in ((high, "10 classes"), (large, "32")):
        done = juanji("evaluate", trained.path, folder)
        assert done.returncode == 1
        assert word in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("juanji:")]) == 1


def test_the_fixture_is_what_predict_sees(idx_folder):
    one = picture(idx_folder, BAR)
    assert np.array_equal(Preprocessing(background="dark").picture(Image.fromarray(one))[0], one)


def test_a_name_that_is_neither_a_file_nor_a_network(juanji, tmp_path):
    done = juanji("predict", "mobilenet_v9", tmp_path / "x.png")
    assert done.returncode == 1
    assert "'mobilenet_v9' is neither a file here nor a network of the zoo" in done.stderr
