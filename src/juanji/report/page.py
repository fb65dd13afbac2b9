"""The report as one HTML page that needs nothing else: no script, no address outside of it.

Names of files and classes are whatever somebody called them. All of them go through `safe`, and the page's own policy
forbids scripts and requests in case one did not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from juanji import zoo
from juanji.report import charts
from juanji.report.drawing import encoded, plain, safe, svg
from juanji.report.findings import BINS, Findings
from juanji.report.pictures import Thumbnail
from juanji.report.style import sheet
from juanji.report.texts import Texts

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: So many entries of a list of files are shown.
_MOST_LISTED = 20
#: Fewer pictures than this leave the accuracy quite open.
_FEW = 100


def page(outcome: Outcome, found: Findings, pictures: dict[int, Thumbnail], texts: Texts) -> str:
    """The whole page.

    Args:
        outcome: of a fine-tuning.
        found: what `findings` says about it.
        pictures: thumbnails of `found.mistakes` and `found.uncertain`.
        texts: in the reader's language.
    """
    sections = [
        ("curves", _curves(outcome, texts)),
        ("confusion", _confusion(outcome, found, texts)),
        ("classes", _classes(outcome, found, texts)),
        ("calibration", _calibration(found, texts)),
        ("mistakes", _cards(outcome, found, found.mistakes, pictures, texts, "mistakes")),
        ("uncertain", _cards(outcome, found, found.uncertain, pictures, texts, "uncertain")),
        ("recipe", _recipe(outcome, texts)),
        ("data", _data(outcome, texts)),
        ("card", _model_card(outcome, texts)),
    ]
    links = "".join(f'<a href="#{key}">{safe(texts[key])}</a>' for key, _ in sections)
    title = texts.say("headline", name=name_of(outcome), data=data_name(outcome))
    body = "".join(
        f'<section id="{key}" aria-labelledby="h-{key}"><h2 id="h-{key}">{safe(texts[key])}</h2>{content}</section>'
        for key, content in sections
    )
    made = safe(texts.say("made", version=outcome.versions.get("juanji", "")))
    language = "zh-Hans" if texts.language == "zh" else "en"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{safe(title)} · {safe(texts['report'])}</title><style>{sheet()}</style></head>\n<body>"
        f'<header><p class="eyebrow">{safe(texts["report"])}</p><h1>{safe(title)}</h1>'
        f'{_summary(outcome, found, texts)}{_tiles(outcome, found, texts)}<nav aria-label="{safe(texts["contents"])}">'
        f"{links}</nav></header>\n<main>{body}</main>\n<footer>{made}</footer></body></html>\n"
    )


def name_of(outcome: Outcome) -> str:
    """The architecture's name, or the class of a model that is none of the zoo's."""
    try:
        return str(zoo.architecture(outcome.model)["name"])
    except TypeError:
        return type(outcome.model).__name__


def data_name(outcome: Outcome) -> str:
    """The last part of the folder's name."""
    parts = [part for part in str(outcome.data.get("root") or "").replace("\\", "/").split("/") if part]
    return plain(parts[-1]) if parts else "?"


def share(value: float) -> str:
    """A share in percent; a dash where there is none.

    >>> share(0.1234), share(float("nan"))
    ('12.3%', '–')
    """
    return "–" if math.isnan(value) else f"{value:.1%}"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(0.31), duration(42.4), duration(95), duration(7300)
    ('0.31 s', '42.4 s', '1 min 35 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{safe(text)}</p>' if kind else f"<p>{safe(text)}</p>"


def _items(entries: Iterable[object], texts: Texts) -> str:
    listed = list(entries)
    shown = [f"<li>{safe(entry)}</li>" for entry in listed[:_MOST_LISTED]]
    if len(listed) > _MOST_LISTED:
        shown.append(f"<li>{safe(texts.say('and_more', number=len(listed) - _MOST_LISTED))}</li>")
    return f"<ul>{''.join(shown)}</ul>"


def _facts(rows: Iterable[tuple[str, object]]) -> str:
    cells = "".join(f'<tr><th scope="row">{safe(k)}</th><td>{safe(_shown(v))}</td></tr>' for k, v in rows)
    return f'<table class="facts"><tbody>{cells}</tbody></table>'


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    return "–" if value is None else str(value)


def _table(head: Sequence[tuple[str, bool]], rows: Iterable[str]) -> str:
    """A table; `head` says for each column whether it holds numbers."""
    cells = "".join(f'<th scope="col"{" class=n" if number else ""}>{safe(title)}</th>' for title, number in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _summary(outcome: Outcome, found: Findings, texts: Texts) -> str:
    low, high = share(found.interval[0]), share(found.interval[1])
    # Where there was no more than one epoch, the validation pictures chose nothing.
    kind = "fresh" if outcome.part == "val" and len(outcome.history) < 2 else outcome.part
    parts = [texts.say(f"measured_{kind}", count=f"{found.count:,}")]
    if found.count < _FEW:
        parts.append(texts.say("few", low=low, high=high))
    if found.confused:
        names = outcome.classes
        pairs = [texts.say("pair", true=names[t], said=names[p], number=n) for t, p, n in found.confused[:3]]
        parts.append(texts.say("most_confused", pairs=texts.join(pairs)))
        f1 = found.classes.f1
        weakest = min((c for c in range(len(names)) if not math.isnan(f1[c])), key=lambda c: f1[c])
        parts.append(texts.say("weakest", name=names[weakest], f1=share(f1[weakest])))
    else:
        parts.append(texts["no_mistakes"])
    gap = found.confidence - found.accuracy
    kind = "too_sure" if gap > 0.05 else "too_modest" if gap < -0.05 else "sure_enough"
    parts.append(texts.say(kind, said=share(found.confidence), right=share(found.accuracy)))
    return _paragraph(("" if texts.language == "zh" else " ").join(parts))


def _tiles(outcome: Outcome, found: Findings, texts: Texts) -> str:
    interval = texts.say("interval", low=share(found.interval[0]), high=share(found.interval[1]))
    tiles = [
        (share(found.accuracy), texts["accuracy"], interval),
        (f"{found.right:,} / {found.count:,}", texts[f"part_{outcome.part}"], texts["right_note"]),
        (share(found.classes.balanced_accuracy), texts["balanced"], texts["balanced_note"]),
        (share(found.classes.macro_f1), texts["macro_f1"], texts["macro_f1_note"]),
        (share(found.calibration.ece), texts["ece"], texts.say("ece_note", bins=BINS)),
        (f"{found.loss:.3f}", texts["loss"], texts["loss_note"]),
        (duration(outcome.seconds), texts["time"], texts["time_note"]),
        (f"{outcome.peak_memory / 2**20:,.0f} MB", texts["memory"], texts["memory_note"]),
    ]  # fmt: skip
    if len(outcome.classes) > 10:
        tiles.insert(3, (share(found.top5), texts["top5"], texts["top5_note"]))
    shown = "".join(f"<li><b>{safe(v)}</b><span>{safe(k)}</span><small>{safe(n)}</small></li>" for v, k, n in tiles)
    return f'<ul class="tiles">{shown}</ul>'


def _curves(outcome: Outcome, texts: Texts) -> str:
    drawings = charts.curves(outcome.history, outcome.best_epoch, texts)
    if not drawings:
        told = _paragraph(texts["one_epoch" if outcome.best_epoch else "no_curves"])
        return told + (_history(outcome, texts) if outcome.history else "")
    kept = any(charts.epoch_of(row, i) == outcome.best_epoch for i, row in enumerate(outcome.history))
    shown = "".join(svg(drawing, f"curve{i}") for i, drawing in enumerate(drawings))
    note = _paragraph(texts.say("best_epoch", epoch=outcome.best_epoch), "muted") if kept else ""
    return f'{note}<div class="charts">{shown}</div>{_history(outcome, texts)}'


def _history(outcome: Outcome, texts: Texts) -> str:
    """The epochs as numbers, for those who don't see the curves, and for copying."""
    order = ("epoch", "phase", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds", "waiting")
    keys = [key for key in order if any(row.get(key) is not None for row in outcome.history)]
    rows = []
    for row in outcome.history:
        cells = []
        for key in keys:
            value = row.get(key)
            percent = key.endswith("accuracy") or key == "waiting"
            text = share(float(value)) if percent and isinstance(value, (int, float)) else _shown(value)
            cells.append(f'<td class="n">{safe(text)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    table = _table([(texts[key], True) for key in keys], rows)
    return f"<details><summary>{safe(texts['history'])}</summary>{table}</details>"


def _confusion(outcome: Outcome, found: Findings, texts: Texts) -> str:
    drawing = charts.confusion(found.confusion, outcome.classes, texts)
    count = len(outcome.classes)
    note = texts["confusion_note"]
    if count > charts.MOST_CLASSES:
        note = f"{texts.say('confusion_part', shown=charts.MOST_CLASSES, count=count)} {note}"
    rows = [
        f'<tr><td>{safe(outcome.classes[t])}</td><td>{safe(outcome.classes[p])}</td><td class="n">{n}</td></tr>'
        for t, p, n in found.confused[:8]
    ]
    head = [(texts["class"], False), (texts["taken_for"], False), (texts["times"], True)]
    pairs = f"<div><h3>{safe(texts['pairs_title'])}</h3>{_table(head, rows)}</div>" if rows else ""
    return f'{_paragraph(note)}<div class="beside"><div class="scroll">{svg(drawing, "confusion")}</div>{pairs}</div>'


def _classes(outcome: Outcome, found: Findings, texts: Texts) -> str:
    given = found.classes
    counts = outcome.data.get("counts") or {}
    order = sorted(range(len(outcome.classes)), key=lambda c: (math.isnan(given.f1[c]), given.f1[c], c))
    rows = []
    for c in order:
        trained = (counts.get(outcome.classes[c]) or {}).get("train")
        f1 = given.f1[c]
        bar = "" if math.isnan(f1) else f'<i><u style="width:{100 * f1:.1f}%"></u></i>'
        rows.append(
            f'<tr><th scope="row">{safe(outcome.classes[c])}</th><td class="n">{safe(_shown(trained))}</td>'
            f'<td class="n">{int(given.support[c])}</td><td class="n">{share(given.precision[c])}</td>'
            f'<td class="n">{share(given.recall[c])}</td><td class="bar">{share(f1)}{bar}</td></tr>'
        )
    head = [
        (texts["class"], False), (texts["in_training"], True), (texts["evaluated"], True), (texts["precision"], True),
        (texts["recall"], True), ("F1", False),
    ]  # fmt: skip
    return _paragraph(texts["classes_note"]) + _table(head, rows)


def _calibration(found: Findings, texts: Texts) -> str:
    bins = found.calibration
    rows = []
    for i, number in enumerate(bins.counts):
        if number:
            ends = texts.say("range", low=f"{bins.edges[i]:.0%}", high=f"{bins.edges[i + 1]:.0%}")
            rows.append(
                f'<tr><th scope="row">{safe(ends)}</th><td class="n">{int(number)}</td>'
                f'<td class="n">{share(bins.confidence[i])}</td><td class="n">{share(bins.accuracy[i])}</td></tr>'
            )
    head = [(texts["confidence"], False), (texts["pictures"], True), (texts["mean"], True), (texts["accuracy"], True)]
    chart = svg(charts.reliability(bins, texts), "calibration")
    return f'{_paragraph(texts["calibration_note"])}<div class="beside">{chart}{_table(head, rows)}</div>'


def _cards(
    outcome: Outcome, found: Findings, chosen: Sequence[int], pictures: dict[int, Thumbnail], texts: Texts, key: str
) -> str:
    if not chosen:
        return _paragraph(texts["no_mistakes" if key == "mistakes" else "no_uncertain"])
    shown = [_card(outcome, found, number, pictures[number], texts) for number in chosen if number in pictures]
    gone = len(chosen) - len(shown)
    note = _paragraph(texts.say("gone", number=gone), "muted") if gone else ""
    return f'{_paragraph(texts[f"{key}_note"])}{note}<div class="cards">{"".join(shown)}</div>'


def caption(outcome: Outcome, found: Findings, number: int, texts: Texts) -> tuple[str, str, bool]:
    """What a picture is, what the model said, and whether that is right."""
    likely = found.probabilities[number]
    order = likely.argsort(kind="stable")[::-1]
    names, said, right = (
        outcome.classes,
        int(found.predicted[number]),
        bool(found.predicted[number] == outcome.labels[number]),
    )
    text = texts["said_right"] if right else texts.say("said_wrong", said=names[said])
    other = next((int(c) for c in order if c != said), None)
    numbers = f"{names[said]} {likely[said]:.0%}"
    if other is not None and likely[other] >= 0.005:
        numbers = texts.say(
            "or", first=names[said], share=f"{likely[said]:.0%}", second=names[other], other=f"{likely[other]:.0%}"
        )
    return text, numbers, right


def file_name(outcome: Outcome, number: int) -> str:
    """A picture's path inside the folder, or as it was given."""
    path, root = str(outcome.paths[number]), str(outcome.data.get("root") or "")
    inside = path.removeprefix(root).lstrip("/\\") if root and path.startswith(root) else path
    return plain(inside)


def _card(outcome: Outcome, found: Findings, number: int, picture: Thumbnail, texts: Texts) -> str:
    true, file = outcome.classes[int(outcome.labels[number])], file_name(outcome, number)
    said = outcome.classes[int(found.predicted[number])]
    text, numbers, right = caption(outcome, found, number, texts)
    height, width = picture.plain.shape[:2]
    size = f'width="{width}" height="{height}" loading="lazy"'
    alt = safe(texts.say("picture_of", name=file, true=true))
    images = f'<img src="{encoded(picture.plain)}" {size} alt="{alt}">'
    if picture.seen is not None:
        alt = safe(texts.say("map_of", name=file, said=said))
        images += f'<img src="{encoded(picture.seen)}" {size} alt="{alt}">'
    kind = "right" if right else "wrong"
    return (
        f'<figure><div class="pair">{images}</div><figcaption><b>{safe(true)}</b> · <span class="{kind}">{safe(text)}'
        f"</span><small>{safe(numbers)}</small><small>{safe(file)}</small></figcaption></figure>"
    )


def _recipe(outcome: Outcome, texts: Texts) -> str:
    name = str(outcome.recipe)
    kind, _, number = name.partition(":")
    text = texts.say(f"recipe_{kind}" if f"recipe_{kind}" in texts else "recipe_other", recipe=name, number=number)
    parts = [_paragraph(text)]
    if outcome.reasons:
        parts.append(f"<h3>{safe(texts['why'])}</h3>{_items(map(texts.sentence, outcome.reasons), texts)}")
    settings = list(outcome.settings.items())
    half = -(-len(settings) // 2)  # a long list stands in two columns
    tables = [_facts(settings)] if half <= 6 else [_facts(settings[:half]), _facts(settings[half:])]
    blocks = [(texts["settings"], f'<div class="beside">{"".join(tables)}</div>')]
    blocks.append((texts["seeds"], _facts(outcome.seeds.items())))
    if outcome.timing:
        rows = [(texts.get(f"timing_{key}", key), duration(value)) for key, value in outcome.timing.items()]
        blocks.append((texts["timing"], _facts(rows)))
    shown = "".join(f"<div><h3>{safe(title)}</h3>{table}</div>" for title, table in blocks)
    return f'{"".join(parts)}<div class="beside">{shown}</div>'


def _data(outcome: Outcome, texts: Texts) -> str:
    data = outcome.data
    rows = [(texts[key], data[key]) for key in ("root", "layout", "digest") if data.get(key)]
    parts = [_facts(rows)]
    counts: dict[str, dict[str, Any]] = data.get("counts") or {}
    columns = [part for part in ("train", "val", "test") if any(row.get(part) for row in counts.values())]
    if counts and columns:
        body = []
        for name, row in counts.items():
            numbers = [int(row.get(part) or 0) for part in columns]
            cells = "".join(f'<td class="n">{n:,}</td>' for n in [*numbers, sum(numbers)])
            body.append(f'<tr><th scope="row">{safe(name)}</th>{cells}</tr>')
        sums = [sum(int(row.get(part) or 0) for row in counts.values()) for part in columns]
        cells = "".join(f'<td class="n">{n:,}</td>' for n in [*sums, sum(sums)])
        body.append(f'<tr><th scope="row">{safe(texts["total"])}</th>{cells}</tr>')
        head = [(texts["class"], False), *((texts[part], True) for part in columns), (texts["total"], True)]
        parts.append(f"<h3>{safe(texts['pictures'])}</h3>{_table(head, body)}")
    if data.get("warnings"):
        parts.append(f"<h3>{safe(texts['warnings'])}</h3>{_items(map(texts.sentence, data['warnings']), texts)}")
    if data.get("skipped"):
        lines = [f"{s.get('name')}: {s.get('reason')}" for s in data["skipped"]]
        parts.append(f"<h3>{safe(texts['skipped'])} ({len(lines)})</h3>{_items(lines, texts)}")
    if data.get("duplicates"):
        lines = [" = ".join(str(name) for name in group) for group in data["duplicates"]]
        parts.append(f"<h3>{safe(texts['duplicates'])} ({len(lines)})</h3>{_items(lines, texts)}")
    return "".join(parts)


def _model_card(outcome: Outcome, texts: Texts) -> str:
    preprocessing = outcome.preprocessing
    height, width = preprocessing.size
    names = [plain(name) for name in outcome.classes]
    listed = texts.join(names[:_MOST_LISTED])
    if len(names) > _MOST_LISTED:
        listed += (" " if texts.language == "en" else "") + texts.say("more_classes", number=len(names) - _MOST_LISTED)
    weights = outcome.weights
    rows: list[tuple[str, object]] = [
        (texts["architecture"], name_of(outcome)),
        (texts["parameters"], f"{sum(p.numel() for p in outcome.model.parameters()):,}"),
        (texts["input"], texts.say("input_text", width=width, height=height, mode=preprocessing.mode)),
        (texts["number_of_classes"], len(names)),
        (texts["digest"], outcome.data.get("digest")),
    ]
    if weights is None:
        rows.append((texts["weights"], texts["none"]))
    else:
        rows.append((texts["weights"], weights.get("name") or weights.get("file")))
        rows += [(texts[key], weights.get(key) or texts["unknown"]) for key in ("file", "sha256", "origin", "licence")]
    rows.append((texts["versions"], outcome.versions))
    sentences = (("use", texts.say("use_text", names=listed)), ("limits", texts["limits_text"]))
    told = "".join(f"<h3>{safe(texts[key])}</h3>{_paragraph(text)}" for key, text in sentences)
    return f'<div class="scroll">{_facts(rows)}</div>{told}'
