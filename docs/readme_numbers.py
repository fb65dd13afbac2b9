"""Puts the main results of `benchmarks/results.json` into both READMEs, between their two comments about numbers.

python docs/readme_numbers.py
"""

import json
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- numbers: python docs/readme_numbers.py -->", "<!-- end of numbers -->"
#: For each README its words, in the order of the table.
WORDS = {
    "README.md": (
        "One thread, {cpu}, {target}, {date}; PyTorch is the better of its default and a tuned setting.",
        "LeNet training step, batch 4: steps a second",
        "the same without `jj.compile`, operation by operation",
        "LeNet training step, batch 64: steps a second",
        "a new process to its first training step: seconds",
        "LeNet on {digits} MNIST digits, test accuracy, mean of {seeds} seeds",
        "the same, start to saved model: seconds",
        "installed with everything needed: MB",
        "On {cases} cases of layers of real networks (forward and both gradients), Juanji's convolutions inside a "
        "network run at {low:.2f} to {high:.2f} times the speed of the better PyTorch layout, {middle:.2f} times in "
        "the median. All results, also those where Juanji loses, and the scripts that measured them: "
        "[docs/performance.md](docs/performance.md). `python benchmarks/run_all.py` repeats them.",
    ),
    "README.zh-CN.md": (
        "单线程，{cpu}，{target}，{date}；PyTorch 一列取默认设置和调优设置中较好的一个。",
        "LeNet 训练步，批大小 4：每秒步数",
        "同上，不用 `jj.compile`，逐个运算执行",
        "LeNet 训练步，批大小 64：每秒步数",
        "新进程到第一个训练步完成：秒",
        "用 {digits} 个 MNIST 数字训练 LeNet，{seeds} 个种子的平均测试准确率",
        "同上，从启动到保存模型：秒",
        "连同全部依赖的安装大小：MB",
        "在真实网络各层的 {cases} 种情形（前向和两种梯度）中，Juanji 在网络内部的卷积速度是 PyTorch 较好布局的 "
        "{low:.2f} 到 {high:.2f} 倍，中位数 {middle:.2f} 倍。全部结果（包括 Juanji 较慢的那些）和测量脚本见 "
        "[docs/performance.md](docs/performance.md)，用 `python benchmarks/run_all.py` 可以重新测量。",
    ),
}


def section(results, words):
    """The text between the comments."""
    step = results["lenet_step"]["result"]
    peers = {"PyTorch": ("PyTorch eager", "PyTorch eager, memory kept, fused SGD", "PyTorch compiled")}
    names = {"Juanji": ("Juanji compiled",), **peers, "JAX": ("JAX jit",), "TensorFlow": ("TensorFlow function",)}

    def row(title, *cells):
        return f"| {title} | " + " | ".join(cells) + " |"

    def best(values, pick, text):
        found = [[values[n] for n in group if n in values] for group in names.values()]
        return [text.format(pick(f)) if f else "" for f in found]

    small = step["batches"]["4"]["rates"]
    eager = f"{max(small[n] for n in peers['PyTorch'][:2]):,.0f}"
    machine = results["lenet_step"]["machine"]
    digits = results["accuracy"]["result"]["sets"]["MNIST"]
    pairs = [[run[name] for run in digits if name in run] for name in ("Juanji", "PyTorch")]
    sizes = results["start_up"]["result"]["sizes"]
    ratios = [r["inside"]["ratio"] for r in results["conv_layers"]["result"]["rows"]]
    lines = [
        words[0].format(**machine),
        "",
        row("", *names),
        "| --- |" + " ---: |" * len(names),
        row(words[1], *best(small, max, "{:,.0f}")),
        row(words[2], f"{small['Juanji eager']:,.0f}", eager, "", ""),
        row(words[3], *best(step["batches"]["64"]["rates"], max, "{:,.0f}")),
        row(words[4], *best(step["cold"], min, "{:.1f}")),
        row(
            words[5].format(digits="4,000", seeds=len(digits)),
            *(f"{statistics.mean(r['accuracy'] for r in runs):.1%}" for runs in pairs),
            "",
            "",
        ),
        row(words[6], *(f"{statistics.mean(r['elapsed'] for r in runs):.1f}" for runs in pairs), "", ""),
        row(words[7], *(f"{sum(s.values()):.0f}" for s in sizes.values()), "", ""),
        "",
        words[8].format(cases=len(ratios), low=min(ratios), high=max(ratios), middle=statistics.median(ratios)),
    ]
    return "\n".join(lines)


def filled(text, results, words):
    """A README with its numbers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{section(results, words)}\n\n{END}{after}"


def main():
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    for name, words in WORDS.items():
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8"), results, words), encoding="utf-8")


if __name__ == "__main__":
    main()
