"""The report: what it says is what was measured; nothing in a name acts; it needs no other file."""

import re
import shutil
import string
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import juanji as jj
from juanji.report import charts, drawing, raster, write
from juanji.report.findings import findings
from juanji.report.page import duration
from juanji.report.pictures import overlay, thumbnails
from juanji.report.sentences import SENTENCES, in_chinese
from juanji.report.texts import LANGUAGES, TABLE, Texts
from report.sample import outcome

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = [
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "'; DROP--&amp;<!--",
    "]]></svg></title><script>document.title='taken'</script>",
    "\u202egpj.exe\u0007\n",
    "{0}{name}{__class__}",
    "卷积" * 60,
]


class Reader(HTMLParser):
    """The elements of a page and its text; fails on what is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    assert not reader.open
    return reader


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_of_one_file(tmp_path, language):
    made = outcome(tmp_path / "pictures")
    assert write(made, tmp_path / "report.html", language) == [tmp_path / "report.html"]
    page = read(tmp_path / "report.html")
    text = " ".join(page.text)
    for value in (
        "80.0%",
        "24 / 30",
        "BSD-3-Clause",
        "ab" * 32,
        "broken.png: the picture is damaged",
        "there are few",
        "12.5 s",
    ):
        assert value in text, value
    tags = [tag for tag, _ in page.elements]
    assert tags.count("section") == 9
    assert tags.count("svg") == 5
    assert tags.count("img") == 2 * (6 + 12)  # six mistakes, twelve others, each with its map
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(tags)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert (
                value is None or value.startswith("data:image/jpeg;base64,") or (tag == "a" and value.startswith("#"))
            )
        if tag == "img":
            assert attributes["alt"]
        if tag == "a":
            assert any(other.get("id") == attributes["href"][1:] for _, other in page.elements)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "http" not in re.sub(r"http-equiv", "", tmp_path.joinpath("report.html").read_text("utf-8"))
    assert "url(" not in tmp_path.joinpath("report.html").read_text("utf-8")
    assert dict(page.elements)["html"]["lang"] == {"en": "en", "zh": "zh-Hans"}[language]


def test_drawings_are_xml_with_a_title_and_a_description(tmp_path):
    made = outcome(tmp_path / "pictures")
    write(made, tmp_path / "report.html")
    found = re.findall(r"<svg.*?</svg>", (tmp_path / "report.html").read_text("utf-8"))
    assert len(found) == 5
    for text in found:
        root = ElementTree.fromstring(text)
        assert root[0].tag == "title"
        assert root[0].text
        assert root[1].tag == "desc"
        assert len(root[1].text) > 10


def test_hostile_names_stay_names(tmp_path):
    made = outcome(
        tmp_path / "<b>pictures",
        classes=[HOSTILE[0], HOSTILE[1], HOSTILE[3]],
        recipe=HOSTILE[5],
        reasons=HOSTILE,
        settings=dict.fromkeys(HOSTILE, HOSTILE[1]),
        weights={"name": HOSTILE[0], "licence": HOSTILE[1]},
        versions={HOSTILE[0]: HOSTILE[1]},
        names=["<img src=x onerror=alert(1)>.png", "a\u202egnp.png", "b&amp;.png", "'\"c.png"],
    )
    made.history[0]["phase"] = HOSTILE[0]
    made.data["warnings"] = made.data["duplicates"][0] = HOSTILE
    made.data["skipped"] = [{"name": n, "reason": n} for n in HOSTILE]
    for language in LANGUAGES:
        path, *_ = write(made, tmp_path / "report.html", language, images=True)
        page = read(path)
        assert not {"script", "b"} & {tag for tag, attributes in page.elements if tag != "b" or attributes}
        assert len([1 for tag, _ in page.elements if tag == "img"]) == 36
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert HOSTILE[0] in " ".join(page.text)
        assert not re.search("[\u202a-\u202e\u0000-\u0008]", path.read_text("utf-8"))
        assert "default-src 'none'" in path.read_text("utf-8")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_nothing_of_it(tmp_path):
    made = outcome(
        tmp_path / "pictures", classes=[HOSTILE[0], HOSTILE[1], HOSTILE[3]], names=["<img src=x onerror=alert(1)>.png"]
    )
    path, *_ = write(made, tmp_path / "report.html")
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
    ]
    shown = subprocess.run([*command, f"file://{path}"], capture_output=True, text=True, timeout=60, check=False)
    if "</html>" not in shown.stdout:
        pytest.skip("chromium does not run here")
    assert re.search(r"<title>Sequential on pictures", shown.stdout)
    assert shown.stdout.count("<img") == 36


def test_pngs_beside_it(tmp_path):
    made = outcome(tmp_path / "pictures", classes=["红色", "绿色", "蓝色"])
    written = write(made, tmp_path / "my report.html", "zh", images=True)
    names = {p.name for p in written[1:]}
    assert names == {f"my report-{n}.png" for n in ("curves", "confusion", "calibration", "mistakes", "uncertain")}
    for path in written[1:]:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 5


def test_findings(tmp_path):
    made = outcome(tmp_path / "pictures")
    found = findings(made, shown=4)
    wrong = np.flatnonzero(made.logits.argmax(1) != made.labels)
    assert found.right == 24
    assert found.count == 30
    assert len(wrong) == 6
    sure = found.probabilities.max(1)
    assert found.mistakes == sorted(wrong.tolist(), key=lambda i: -sure[i])[:4]
    assert len(found.uncertain) == 4
    assert not set(found.uncertain) & set(found.mistakes)
    top = np.sort(found.probabilities, axis=1)
    margin = top[:, -1] - top[:, -2]
    rest = sorted(set(range(30)) - set(found.mistakes), key=lambda i: margin[i])
    assert found.uncertain == rest[:4]
    assert found.confused == [(0, 1, 2), (1, 2, 2), (2, 0, 2)]
    assert found.interval == pytest.approx(jj.metrics.wilson_interval(24, 30))
    assert found.loss == pytest.approx(float(jj.metrics.cross_entropy(made.logits, made.labels).mean()))


def test_maps_point_at_the_colour(tmp_path):
    pixels = np.zeros((12, 10, 3), np.uint8)
    pixels[:6, :, 0] = 255  # red above, a little green below
    pixels[6:, :, 1] = 140
    Image.fromarray(pixels).save(tmp_path / "half.png")
    made = outcome(tmp_path / "pictures")
    made.paths[0] = str(tmp_path / "half.png")
    made.paths[1] = str(tmp_path / "gone.png")
    found = thumbnails(made, [0, 1])
    assert list(found) == [0]
    assert found[0].plain.shape == (192, 160, 3)  # 16 times as large, pixel by pixel
    assert (found[0].plain[0, 0] == [255, 0, 0]).all()
    warm = found[0].seen.astype(int)
    assert warm[:90].mean() > 150 > warm[110:].mean()
    grey = found[0].seen[150, 80]
    assert grey[0] == grey[1] == grey[2]


def test_an_overlay_is_grey_where_the_map_is_zero():
    pixels = np.full((4, 4, 3), (10, 200, 60), np.uint8)
    heat = np.zeros((4, 4))
    heat[:, 3] = 1
    shown = overlay(pixels, heat)
    assert shown[0, 0].tolist() == [127] * 3
    assert shown[0, 3].tolist() != [127] * 3


def test_pictures_that_are_gone_are_counted(tmp_path):
    made = outcome(tmp_path / "pictures")
    shutil.rmtree(tmp_path / "pictures")
    text = " ".join(read(write(made, tmp_path / "r.html")[0]).text)
    assert "6 pictures could not be opened again" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": [], "best_epoch": 0}, "There are no curves"),
        ({"weights": None}, "none: random"),
        ({"recipe": "last:2"}, "the last 2 stages"),
        ({"recipe": "full"}, "then all layers"),
        ({"recipe": "my own"}, "my own"),
        ({"part": "test"}, "played no part in the training"),
        ({"part": "train"}, "says little about new ones"),
        ({"data": {}}, "Model card"),
        ({"timing": {}, "seeds": {}, "reasons": []}, "Model card"),
        (
            {
                "history": [
                    {"epoch": i, "lr": [0.1 * i, 0.01], "train_loss": float("nan"), "val_loss": 1.0} for i in (1, 2)
                ]
            },
            "0.2",
        ),
        ({"history": [{"epoch": 1, "val_loss": 1.0}], "best_epoch": 1}, "no curves of a single epoch"),
        ({"history": [{"epoch": 1, "val_loss": 1.0}], "best_epoch": 0}, "which played no part in the training"),
    ],
)
def test_what_may_be_missing(tmp_path, changes, message):
    made = outcome(tmp_path / "pictures", **changes)
    assert message in " ".join(read(write(made, tmp_path / "r.html")[0]).text)


def test_no_mistakes_and_unknown_classes(tmp_path):
    made = outcome(tmp_path / "pictures", count=4, classes=["red", "green", "blue"])
    text = " ".join(read(write(made, tmp_path / "r.html")[0]).text)
    assert "No mistake was made" in text
    made = outcome(tmp_path / "pictures", count=2)  # nothing blue
    assert "–" in " ".join(read(write(made, tmp_path / "r.html")[0]).text)


def test_many_classes(tmp_path):
    size, count = 60, 120
    made = outcome(tmp_path / "pictures", count=3)
    generator = np.random.default_rng(0)
    made.classes = [f"class {i}" for i in range(size)]
    made.labels = generator.integers(0, size, count)
    made.logits = generator.normal(size=(count, size)).astype(np.float32)
    made.paths = made.paths[:1] * count
    made.model = jj.nn.Sequential(jj.nn.Flatten(), jj.nn.Linear(360, size)).eval()  # no maps: no Grad-CAM
    page = read(write(made, tmp_path / "r.html")[0])
    text = " ".join(page.text)
    assert "The 40 classes with the most mistakes of 60" in text
    assert "top-5 accuracy" in text
    assert "and 40 more" in text
    assert len([1 for tag, _ in page.elements if tag == "img"]) == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"paths": [], "labels": np.zeros(0, np.int64), "logits": np.zeros((0, 3), np.float32)},
            "no evaluated pictures",
        ),
        ({"labels": np.zeros(4, np.int64)}, "labels of shape"),
        ({"logits": np.full((30, 3), np.nan, np.float32)}, "not finite"),
        ({"labels": np.full(30, 3)}, "valid are 0 to 2"),
    ],
)
def test_what_does_not_fit_together(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(outcome(tmp_path / "pictures", **changes), tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_languages(tmp_path):
    made = outcome(tmp_path / "pictures")
    with pytest.raises(ValueError, match="language='de' must be one of en, zh"):
        write(made, tmp_path / "r.html", "de")
    for key, (english, chinese) in TABLE.items():
        fields = [{f for _, f, _, _ in string.Formatter().parse(t) if f is not None} for t in (english, chinese)]
        assert fields[0] == fields[1], key
        assert english.strip(), key
    assert Texts("zh")["accuracy"] == "准确率"
    source = " ".join(p.read_text("utf-8") for p in drawing_sources())
    unused = [
        k
        for k in TABLE
        if not re.search(f"""['"]{k}['"]""", source)
        and not re.match(r"(measured|part|recipe|timing)_|\w+_note$|train$|val$|\w+_(loss|accuracy)$", k)
    ]
    assert not unused


def test_sentences_of_other_parts():
    """Each pattern is still what its source says: nothing is left of it in English, and its words are in the source."""
    root = Path(jj.__file__).parent
    source = " ".join(p.read_text("utf-8") for part in ("tune", "data") for p in (root / part).glob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # strings over several lines
    for english, chinese in SENTENCES:
        fields = re.findall(r"\{(\w+)\}", english)
        said = english.format(**{name: f"<{i}>" for i, name in enumerate(fields)})
        expected = chinese.format(**{name: f"<{i}>" for i, name in enumerate(fields)})
        assert in_chinese(said) == expected
        # Numbers of things, and verbs that follow them, are made by functions.
        said = re.sub(r"^(1|\{count\}) (files?|pictures?) |(is|are) (?=in no class)", "", english)
        for words in re.split(r"\{\w+\}", said):
            assert words.strip(" :;,") in source, english


def drawing_sources():
    folder = Path(drawing.__file__).parent
    return [p for p in folder.glob("*.py") if p.name != "texts.py"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 0.003, [0, 0.001, 0.002, 0.003]), (1, 24, [5, 10, 15, 20]), (2, 2, [2])],
)
def test_ticks(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_ticks_lie_between(seed):
    generator = np.random.default_rng(seed)
    low = generator.normal() * 10.0 ** generator.integers(-6, 6)
    high = low + abs(generator.normal()) * 10.0 ** generator.integers(-6, 6)
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 7
    slack = (high - low) * 1e-6 + 1e-11
    assert all(low - slack <= t <= high + slack for t in found)


def test_a_solved_head_is_epoch_0():
    history = [{"epoch": e, "val_loss": 1 / (e + 1), "phase": "all" if e else "head"} for e in range(4)]
    assert charts.known(history, "val_loss") == [(0, 1), (1, 1 / 2), (2, 1 / 3), (3, 1 / 4)]
    (panel,) = charts.curves(history, 0, Texts())
    assert "Epochs 0 to 3" in panel.description
    (line,) = [s for s in panel.shapes if isinstance(s, drawing.Path)]
    assert len({x for x, _ in line.points}) == 4


def test_both_ways_of_drawing_draw_every_shape():
    sheet = drawing.Drawing(60, 40, "t", "d")
    pixels = np.full((4, 4, 3), 200, np.uint8)
    sheet.add(
        drawing.Rect(0, 0, 10, 10, "wrong", 0.5, "tip"), drawing.Line(0, 20, 60, 20, "ink", 2), drawing.Line(0, 25, 60, 25, "ink", 2, True),
        drawing.Path([(0, 30), (60, 30), (60, 39)], "second", 2, True), drawing.Circle(30, 10, 4, "right"), drawing.Text(40, 12, "ab"),
        drawing.Text(20, 38, "x", angle=-45), drawing.Picture(50, 0, 10, 10, pixels),
    )  # fmt: skip
    root = ElementTree.fromstring(drawing.svg(sheet, "s"))
    assert [e.tag for e in root] == [
        "title",
        "desc",
        "rect",
        "line",
        "line",
        "polyline",
        "circle",
        "text",
        "text",
        "image",
    ]
    picture = np.asarray(raster.image(sheet, 1)).astype(int)
    assert picture.shape == (40, 60, 3)
    assert (picture[5, 5] == [218, 145, 139]).all() or abs(picture[5, 5] - [218, 145, 139]).max() <= 2
    assert picture[20, 30].max() < 60
    dashes = picture[25, :, 0] < 100
    assert 0.3 < dashes.mean() < 0.8
    assert (picture[5, 55] == 200).all()
    assert picture[4:13, 40:50].min() < 120
    with pytest.raises(ValueError, match="colour='pink'"):
        drawing.svg(drawing.Drawing(1, 1, "t", shapes=[drawing.Circle(0, 0, 1, "pink")]), "s")


def test_durations():
    assert [duration(s) for s in (0.031, 59.94, 60, 3599.6, 86400)] == [
        "0.031 s",
        "59.9 s",
        "1 min 0 s",
        "1 h 0 min",
        "24 h 0 min",
    ]


def test_a_classifiers_maps_are_grad_cam_of_its_features(tmp_path):
    jj.manual_seed(0)
    made = outcome(tmp_path / "pictures", count=14)
    made.model = jj.zoo.create("resnet18", num_classes=3).eval()
    made.preprocessing = made.preprocessing.__class__((64, 64), "RGB", (0.5,) * 3, (0.25,) * 3)
    found = thumbnails(made, range(13))  # two parts, of which one is filled up
    assert list(found) == list(range(13))
    for i in (0, 6, 12):
        pixels = made.preprocessing.picture(jj.data.open_image(made.paths[i]))
        said = int(made.logits[i].argmax())
        maps = jj.grad_cam(made.model, jj.from_numpy(made.preprocessing.normalize(pixels[None])), said, "layer4")
        expected = overlay(found[i].plain, maps.numpy()[0]).astype(int)
        assert abs(found[i].seen.astype(int) - expected).mean() < 12
