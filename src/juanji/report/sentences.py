"""What other parts of the program say in English, in Chinese: reasons for choices, remarks on pictures.

Those parts make whole sentences. Here each is known by its pattern; one that is not stays as it is.
"""

from __future__ import annotations

import functools
import re

#: English pattern, Chinese one. Braces stand for what is filled in, and come back under the same name.
SENTENCES: tuple[tuple[str, str], ...] = (
    # The choice of a network
    (
        "{name}: the best of the small pretrained networks that there is time for",
        "{name}：时间允许的小型预训练网络中最好的",
    ),
    ("with {pictures} pictures and {budget} s, {slow}", "有 {pictures} 张图片、{budget} 秒时：{slow}"),
    ("{name} would need about {seconds} s only to look at them", "{name} 仅处理这些图片就需约 {seconds} 秒"),
    ("the weights of {names} are out of reach", "无法取得 {names} 的权重"),
    # What it sees, and its head
    (
        "{view} pictures: a head is right about {whole} of training pictures it had not learned from if it sees them "
        "whole, {middle} if it sees their middle",
        "图片取法 {view}：对未参与学习的训练图片，看整张（whole）时分类头正确率为 {whole}，"
        "看中部（middle）时为 {middle}",
    ),
    (
        "{method} head: right about {share} in cross-validation, {others}",
        "分类头 {method}：交叉验证正确率为 {share}，{others}",
    ),
    # The recipe
    (
        "head: {pictures} pictures of {classes} classes are {each} for each, and moving all layers pays from "
        "about {least}",
        "head：{pictures} 张图片、{classes} 个类别，平均每类 {each} 张；约 {least} 张起，训练全部层才有好处",
    ),
    (
        "head: a pass over {pictures} pictures through all layers takes about {epoch} s, and of the budget {left} s "
        "are left, too little for {passes} passes",
        "head：{pictures} 张图片经过全部层一遍约需 {epoch} 秒，预算还剩 {left} 秒，不够 {passes} 遍",
    ),
    (
        "full: {each} pictures for each class are enough to move all layers, and {passes} passes of about {epoch} s "
        "fit into the {left} s that are left of the budget",
        "full：平均每类 {each} 张图片，足以训练全部层；剩余的 {left} 秒预算可容纳 {passes} 遍，每遍约 {epoch} 秒",
    ),
    (
        "learning rate {rate}: a tenth of where the loss was least in a test",
        "学习率 {rate}：取试验中损失最低处的十分之一",
    ),
    # Remarks on pictures
    ("{count} files cannot be read and will be left out", "{count} 个文件无法读取，将被略过"),
    ("1 file cannot be read and will be left out", "1 个文件无法读取，将被略过"),
    ("the class {name} has no readable picture and is left out", "类别 {name} 没有可读取的图片，已略过"),
    ("the class {name} is only in {parts}: it cannot be learned", "类别 {name} 只出现在 {parts} 中：无法学习"),
    (
        "the class {name} has only one picture: nothing is left to test it with",
        "类别 {name} 只有一张图片：没有图片可用于测试",
    ),
    (
        "{count} pictures in more than one of {parts}: results there will look better than they are",
        "{count} 张图片同时出现在 {parts} 的多个部分中：那里的结果会显得比实际更好",
    ),
    (
        "1 picture in more than one of {parts}: results there will look better than they are",
        "1 张图片同时出现在 {parts} 的多个部分中：那里的结果会显得比实际更好",
    ),
    ("{count} pictures in more than one class", "{count} 张图片同时属于多个类别"),
    ("1 picture in more than one class", "1 张图片同时属于多个类别"),
    ("{count} pictures more than once in the same class", "{count} 张图片在同一类别中重复出现"),
    ("1 picture more than once in the same class", "1 张图片在同一类别中重复出现"),
    ("beside {parts} there are other folders, left out: {others}", "除 {parts} 外还有其他文件夹，已略过：{others}"),
    ("{folder}: {files} is in no class folder, and left out", "{folder}：{files} 不在任何类别文件夹中，已略过"),
    ("{folder}: {files} are in no class folder, and left out", "{folder}：{files} 不在任何类别文件夹中，已略过"),
    (
        "{count} pictures of {names} are left out of the test: nothing was learned about them",
        "{names} 的 {count} 张图片不参与测试：模型没有学过这些类别",
    ),
    (
        "there are no pictures to test with: what is reported is about those that were learned from",
        "没有可用于测试的图片：报告的是参与学习的图片上的结果",
    ),
)


def in_chinese(sentence: str) -> str:
    """A sentence in Chinese where its pattern is known, else as it is.

    >>> in_chinese("3 pictures in more than one class")
    '3 张图片同时属于多个类别'
    >>> in_chinese("something else")
    'something else'
    """
    for pattern, chinese in _patterns():
        match = pattern.fullmatch(sentence)
        if match:
            values = match.groupdict()
            if "slow" in values:  # sentences in a sentence
                values["slow"] = "；".join(in_chinese(part) for part in values["slow"].split("; "))
            return chinese.format(**values)
    return sentence


@functools.lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    found = []
    for english, chinese in SENTENCES:
        parts = re.split(r"\{(\w+)\}", english)
        text = "".join(re.escape(p) if i % 2 == 0 else f"(?P<{p}>.+?)" for i, p in enumerate(parts))
        found.append((re.compile(text, re.DOTALL), chinese))
    return tuple(found)
