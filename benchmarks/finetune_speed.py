"""How fast is an epoch of `juanji finetune --recipe full`, loading of the pictures included, beside PyTorch?

MobileNetV2 and EfficientNet-Lite0 at 224 x 224, batches of 16, every layer trained with AdamW, JPEG photographs of 500
x 375 made for it (random parts, mirrored). Each side opens its own files in every epoch, with one worker (a thread of
Juanji's, a process of PyTorch's) beside each thread that computes. PyTorch in both memory formats, each also with glibc
told to keep freed memory, a variant that falls far behind not being asked for another epoch; its normalisations use
their running statistics, as this recipe has it. The ratio is that of the wall time, to the fastest of these; beside it
the ratio of the processor time, loading included, to the least of these. Memory is the most that the process ever held,
PyTorch's the least of all variants and without the process that loads.

    python benchmarks/finetune_speed.py [--quick] [--pictures 48] [--rounds 3] [--threads 1] [--model NAME ...] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import race
from first_step import peak_memory

TITLES = {"mobilenet_v2": "MobileNetV2", "efficientnet_lite0": "EfficientNet-Lite0"}
BATCH, SIZE, CLASSES = 16, 224, 4
RATE = 3e-4
#: PyTorch's variants: whether the channels come last, whether freed memory is kept.
VARIANTS = {
    "PyTorch NCHW": (False, False),
    "PyTorch channels last": (True, False),
    "PyTorch NCHW, memory kept": (False, True),
    "PyTorch channels last, memory kept": (True, True),
}
#: A variant that takes so many times as long as the fastest one is not asked for another epoch.
FAR = 1.5
#: Wall and processor time at the beginning of the running epoch.
begun = [0.0, 0.0]


def photographs(folder: Path, count: int) -> None:
    """Smooth random colours with noise, as JPEG files in a folder for each class."""
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(count):
        small = random.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.asarray(image).astype(np.int32) + random.integers(-12, 12, (375, 500, 3))
        place = folder / f"class{i % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(place / f"{i:04d}.jpg", quality=90)


def processor_time() -> float:
    """Seconds of processors that this process and those that load for it have used."""
    used = time.process_time()
    for child in multiprocessing.active_children():
        status = Path(f"/proc/{child.pid}/stat")
        if status.exists():  # the program's name stands in parentheses and may have spaces
            fields = status.read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def epoch_done() -> None:
    """Answers the last request, and waits for the next one: the clock is the same for both sides."""
    seconds, processor = time.perf_counter() - begun[0], processor_time() - begun[1]
    print(json.dumps({"seconds": seconds, "processor": processor, "memory": peak_memory()}), flush=True)
    if not sys.stdin.readline():
        sys.exit()
    begun[:] = time.perf_counter(), processor_time()


def juanji_side(request: dict[str, Any]) -> None:
    """A worker: epochs by what `juanji finetune` is made of."""
    import juanji as jj
    from juanji import optim, zoo
    from juanji.data import scan
    from juanji.train.listener import Listener, Progress
    from juanji.train.loop import fit
    from juanji.tune import recipes
    from juanji.tune.folding import folded
    from juanji.tune.loading import Photos, augmentation, loader
    from juanji.tune.plan import views
    from juanji.tune.settings import Settings

    jj.set_num_threads(request["threads"])
    found = scan(request["folder"])
    view = views(Settings(), request["model"])["whole"]
    model: Any = zoo.create(request["model"], num_classes=CLASSES)
    # Every picture is opened in every epoch, as where they are too many to keep.
    photos = Photos(found.samples, view, augmentation("light", view), kept=0)
    batches = loader(photos, BATCH, shuffle=True, seed=0, workers=request["workers"])
    optimizer = optim.AdamW(recipes.groups("full", model, RATE, 0.6), lr=RATE)

    class Answers(Listener):
        def epoch(self, progress: Progress) -> None:
            epoch_done()

    with folded(model, jj.zeros(1, 3, SIZE, SIZE)):
        fit(model, batches, optimizer, epochs=10**6, listener=Answers())


def torch_side(request: dict[str, Any]) -> None:
    """A worker: the same in PyTorch."""
    import torch
    from PIL import Image

    torch.set_num_threads(request["threads"])
    spec = importlib.util.spec_from_file_location("plain_torch", race.ROOT / "tests" / "zoo" / "plain_torch.py")
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    net = plain.NETWORKS[request["model"]]()
    if isinstance(net.classifier, torch.nn.Sequential):
        net.classifier[-1] = torch.nn.Linear(1280, CLASSES)
    else:
        net.classifier = torch.nn.Linear(1280, CLASSES)
    memory = torch.channels_last if request["channels_last"] else torch.contiguous_format
    net = net.to(memory_format=memory)
    files = sorted(Path(request["folder"]).rglob("*.jpg"))
    labels = [int(p.parent.name[-1]) for p in files]
    random = np.random.default_rng(0)

    class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> Any:
            image = Image.open(files[index]).convert("RGB")
            area = random.uniform(0.6, 1.0) ** 0.5
            w, h = int(image.width * area), int(image.height * area)
            left, top = int(random.integers(image.width - w + 1)), int(random.integers(image.height - h + 1))
            image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + w, top + h))
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
            return values.div_(255).sub_(0.45).div_(0.225), labels[index]

    batches = torch.utils.data.DataLoader(
        Files(), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=request["workers"],
        persistent_workers=request["workers"] > 0,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, fused=True)
    for module in net.modules():
        module.train()
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()

    while True:
        for inputs, wanted in batches:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(inputs.to(memory_format=memory)), wanted).backward()
            optimizer.step()
        epoch_done()


# -- the race ---------------------------------------------------------------------------------------------------------
def measure(
    quick: bool = False,
    models: list[str] | None = None,
    pictures: int = 48,
    rounds: int = 3,
    threads: int = 1,
) -> dict[str, Any]:
    """Images a second, processor time and memory of every network for each contestant, and ours against the best.

    Args:
        quick: one batch an epoch, one round.
        models: names of the zoo; all of `TITLES` if None.
        pictures: of an epoch, a multiple of the batch.
        rounds: epochs that count.
        threads: of those that compute.
    """
    if pictures < BATCH or pictures % BATCH:
        raise ValueError(f"pictures must be a multiple of {BATCH}, the batch, got {pictures}")
    if quick:
        pictures, rounds = BATCH, 1
    result: dict[str, Any] = {"threads": threads, "pictures": pictures, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), pictures)
        for model in models or list(TITLES):
            result["rows"].append(_race(model, folder, pictures, rounds, threads))
            race.note(str(result["rows"][-1]))
    return result


def _race(model: str, folder: str, pictures: int, rounds: int, threads: int) -> dict[str, Any]:
    """Epochs of all in turns; each one's first, with its compiles, does not count."""
    request = {"model": model, "folder": folder, "threads": threads, "workers": threads}
    env = race.threads_of(threads)
    team = {"Juanji": race.Worker(__file__, "juanji", [json.dumps(request)], env)}
    if race.installed("torch"):
        for name, (last, kept) in VARIANTS.items():
            asked = json.dumps({**request, "channels_last": last})
            team[name] = race.Worker(__file__, "torch", [asked], {**env, **(race.KEPT_MEMORY if kept else {})})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in team}
    names = list(team)
    for turn in range(rounds):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            time.sleep(race.REST)
            found[name].append(team[name].ask(run=1))
        times = {name: min(answer["seconds"] for answer in found[name]) for name in names}
        near = FAR * min((times[name] for name in names if name != "Juanji"), default=0.0)
        names = [name for name in names if name == "Juanji" or times[name] < near]
    for worker in team.values():
        worker.close()

    def values(name: str, key: str) -> list[float]:
        return [answer[key] for answer in found[name]]

    row: dict[str, Any] = {"model": model, "ways": {}}
    for name in team:
        seconds, processor = (statistics.median(values(name, key)) for key in ("seconds", "processor"))
        row["ways"][name] = {
            "images/s": pictures / seconds,
            "processor ms": processor / pictures * 1e3,
            "memory": max(values(name, "memory")),
        }
    peers = names[1:]
    if peers:
        best, least = (
            min(peers, key=lambda name: statistics.median(values(name, key))) for key in ("seconds", "processor")
        )
        row["best"], row["least processor"] = best, least
        row["ratio"] = race.speedup(values("Juanji", "seconds"), values(best, "seconds"))
        row["processor ratio"] = race.speedup(values("Juanji", "processor"), values(least, "processor"))
        memory = min(found["memory"] for name, found in row["ways"].items() if name != "Juanji")
        row["memory ratio"] = row["ways"]["Juanji"]["memory"] / memory
    return row


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch is faster, or needs less."""
    lost = []
    for row in result["rows"]:
        what = f"Fine-tuning of {TITLES.get(row['model'], row['model'])}"
        if row.get("ratio", 1) < 1:
            lost.append(f"{what}: {row['ratio']:.2f}x of {row['best']}.")
        if row.get("processor ratio", 1) < 1:
            lost.append(f"{what}, processor time: {row['processor ratio']:.2f}x of {row['least processor']}.")
        if row.get("memory ratio", 1) > 1:
            lost.append(f"{what}, memory: {row['memory ratio']:.2f} times PyTorch's least.")
    return lost


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    head = [
        "",
        "images/s",
        "processor, ms an image",
        "peak MB",
        "ratio",
        "of processor time",
        "peak of PyTorch's least",
    ]
    lines = []
    for row in result["rows"]:
        for way, found in row["ways"].items():
            line = [f"{TITLES.get(row['model'], row['model'])}: {way}"]
            line += [f"{found['images/s']:.1f}", f"{found['processor ms']:.0f}", f"{found['memory']:.0f}"]
            ratios = [f"{row[key]:.2f}x" for key in ("ratio", "processor ratio", "memory ratio") if key in row]
            lines.append([*line, *(ratios if way == "Juanji" and ratios else ["", "", ""])])
    on = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    text = " ".join((__doc__ or "").split("    python")[0].split())
    text += f" Epochs of {result['pictures']} pictures."
    return f"## Speed of fine-tuning, {on}\n\n{text}\n\n{race.table(head, lines)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one batch, one round")
    parser.add_argument("--pictures", type=int, default=48, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", action="append", choices=list(TITLES), help="only this one (may be repeated)")
    parser.add_argument("--json", action="store_true", help="all numbers instead of the table")
    parser.add_argument("--worker", choices=("juanji", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("request", nargs="?", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        {"juanji": juanji_side, "torch": torch_side}[given.worker](json.loads(given.request))
    else:
        measured = measure(given.quick, given.model, given.pictures, given.rounds, given.threads)
        if given.json:
            print(json.dumps({"machine": race.machine(), **measured}, indent=1))
        else:
            print(markdown(measured))
            print(os.linesep.join(losses(measured)))
