"""Every text of the report, in English and in Simplified Chinese."""

from __future__ import annotations

from juanji.report.sentences import in_chinese

#: By key: (English, 简体中文). Names in braces are filled in.
TABLE: dict[str, tuple[str, str]] = {
    # The head of the page
    "report": ("Fine-tuning report", "微调报告"),
    "headline": ("{name} on {data}", "{name}：{data}"),
    "made": ("Made by Juanji {version}", "由 Juanji {version} 生成"),
    "contents": ("Contents", "目录"),
    "accuracy": ("accuracy", "准确率"),
    "interval": ("95% interval {low} to {high}", "95% 置信区间 {low} 至 {high}"),
    "right_note": ("recognised rightly", "识别正确"),
    "balanced": ("balanced accuracy", "平衡准确率"),
    "balanced_note": ("each class counts the same", "每个类别权重相同"),
    "top5": ("top-5 accuracy", "前五准确率"),
    "top5_note": ("the class is among the first five", "正确类别在前五名之内"),
    "macro_f1": ("macro F1", "宏平均 F1"),
    "macro_f1_note": ("mean over the classes", "各类别的平均值"),
    "ece": ("calibration error", "校准误差"),
    "ece_note": ("expected, in {bins} bins", "期望值，{bins} 个区间"),
    "loss": ("loss", "损失"),
    "loss_note": ("cross-entropy", "交叉熵"),
    "time": ("time", "用时"),
    "time_note": ("from the pictures to the report", "从读取图片到得出结果"),
    "memory": ("peak memory", "内存峰值"),
    "memory_note": ("of the whole process", "整个进程"),
    "part_val": ("validation pictures", "验证图片"),
    "part_test": ("test pictures", "测试图片"),
    "part_train": ("training pictures", "训练图片"),
    "measured_val": (
        "Measured on the {count} validation pictures. They chose the best epoch, so on new pictures expect slightly "
        "less.",
        "在 {count} 张验证图片上测得。最佳轮次由它们选出，因此在新图片上的表现可能略低。",
    ),
    "measured_fresh": (
        "Measured on the {count} validation pictures, which played no part in the training.",
        "在 {count} 张验证图片上测得，它们没有参与训练。",
    ),
    "measured_test": (
        "Measured on the {count} test pictures, which played no part in the training.",
        "在 {count} 张测试图片上测得，它们没有参与训练。",
    ),
    "measured_train": (
        "Measured on the {count} pictures that it was trained on: this says little about new ones.",
        "在参与训练的 {count} 张图片上测得：这对新图片几乎没有说明意义。",
    ),
    "few": (
        "With so few pictures the true accuracy may lie anywhere between {low} and {high}.",
        "图片数量很少，真实准确率可能在 {low} 到 {high} 之间。",
    ),
    "most_confused": ("Most often confused: {pairs}.", "最常混淆：{pairs}。"),
    "pair": ("“{true}” taken for “{said}” ({number})", "“{true}”被认作“{said}”（{number} 次）"),
    "weakest": ("Weakest class: “{name}”, F1 {f1}.", "最弱的类别：“{name}”，F1 为 {f1}。"),
    "no_mistakes": ("No mistake was made.", "没有任何错误。"),
    "too_sure": (
        "It is surer than it should be: it says {said} on average and is right in {right}.",
        "模型过于自信：平均置信度为 {said}，而正确率为 {right}。",
    ),
    "too_modest": (
        "It is less sure than it could be: it says {said} on average and is right in {right}.",
        "模型过于保守：平均置信度为 {said}，而正确率为 {right}。",
    ),
    "sure_enough": (
        "It is about as often right as it says: {said} on average, and right in {right}.",
        "置信度与正确率大致相符：平均置信度 {said}，正确率 {right}。",
    ),
    # Curves
    "curves": ("Training", "训练过程"),
    "no_curves": (
        "There are no curves: the last layer was solved for at once, on features computed once.",
        "没有曲线：特征只计算一次，最后一层一次求解得出。",
    ),
    "one_epoch": ("There are no curves of a single epoch.", "只有一轮，没有曲线。"),
    "best_epoch": (
        "The weights of epoch {epoch} were kept (dashed line).",
        "保留了第 {epoch} 轮的权重（虚线处）。",
    ),
    "learning_rate": ("learning rate", "学习率"),
    "lr": ("learning rate", "学习率"),
    "epoch": ("epoch", "轮次"),
    "phase": ("phase", "阶段"),
    "train": ("training", "训练"),
    "val": ("validation", "验证"),
    "train_loss": ("training loss", "训练损失"),
    "val_loss": ("validation loss", "验证损失"),
    "train_accuracy": ("training accuracy", "训练准确率"),
    "val_accuracy": ("validation accuracy", "验证准确率"),
    "curve_description": ("Epochs {first} to {last}. {lines}.", "第 {first} 至 {last} 轮。{lines}。"),
    "history": ("All epochs as a table", "全部轮次（表格）"),
    "seconds": ("seconds", "秒"),
    "waiting": ("waiting for data", "等待数据"),
    # Confusion
    "confusion": ("Confusion matrix", "混淆矩阵"),
    "confusion_note": (
        "A row is what the pictures are, a column what the model says. Blue is right, red is wrong; the stronger, the "
        "larger the share of the row.",
        "行是图片的真实类别，列是模型的判断。蓝色为正确，红色为错误；颜色越深，占该行的比例越大。",
    ),
    "confusion_part": (
        "The {shown} classes with the most mistakes of {count}.",
        "共 {count} 个类别，仅显示错误最多的 {shown} 个。",
    ),
    "confusion_description": (
        "{right} of {count} pictures lie on the diagonal.",
        "{count} 张图片中 {right} 张位于对角线上。",
    ),
    "predicted_axis": ("predicted →", "预测类别 →"),
    "true_axis": ("true class", "真实类别"),
    "cell": ("{true} → {said}: {number}", "{true} → {said}：{number}"),
    "pairs_title": ("Most confused pairs", "最常混淆的类别对"),
    "class": ("class", "类别"),
    "taken_for": ("taken for", "被认作"),
    "times": ("times", "次数"),
    # Classes
    "classes": ("By class", "各类别"),
    "classes_note": (
        "Weakest first. Precision: of what was called so, how much is. Recall: of what is, how much was found. F1 "
        "joins both. A dash: there is nothing to count.",
        "从弱到强排列。精确率：判为该类的图片中有多少确实是。召回率：该类图片中有多少被找到。"
        "F1 综合两者。短横线表示没有可统计的图片。",
    ),
    "precision": ("precision", "精确率"),
    "recall": ("recall", "召回率"),
    "pictures": ("pictures", "图片"),
    "in_training": ("in training", "训练用"),
    "evaluated": ("evaluated", "评估用"),
    # Calibration
    "calibration": ("Calibration", "校准"),
    "calibration_note": (
        "When the model says 80%, is it right in 80% of the cases? The mark on each bar says how often it was; red is "
        "the gap to what it said. Below: how many pictures each bin has.",
        "模型说 80% 时，是否真有 80% 正确？每根柱上的横线是实际正确率，红色是它与置信度的差距。"
        "下方是每个区间的图片数。",
    ),
    "calibration_description": ("Expected calibration error {ece}. {bins}.", "期望校准误差 {ece}。{bins}。"),
    "bin": ("{low} to {high}: {number} pictures, {right} right", "{low} 至 {high}：{number} 张图片，正确率 {right}"),
    "confidence": ("confidence", "置信度"),
    "mean": ("on average", "平均"),
    "range": ("{low} to {high}", "{low} 至 {high}"),
    # Pictures
    "mistakes": ("Most confident mistakes", "最自信的错误"),
    "mistakes_note": (
        "Wrong, and sure of it: labels may be wrong here, or a class needs other pictures. On the right, where the "
        "model looked (Grad-CAM for the class that it chose); where all is grey, no part speaks for it.",
        "判断错误却十分自信：可能是标注有误，或该类别需要更多样的图片。"
        "右图显示模型关注的位置（针对其所选类别的 Grad-CAM）；"
        "若全为灰色，则没有哪一处支持该判断。",
    ),
    "uncertain": ("Least certain pictures", "最不确定的图片"),
    "uncertain_note": (
        "The two best classes are nearly even. More pictures like these teach the model the most.",
        "前两个类别几乎不相上下。多收集这样的图片，对模型帮助最大。",
    ),
    "no_uncertain": ("There are no further pictures.", "没有其他图片。"),
    "said_wrong": ("taken for {said}", "被认作“{said}”"),
    "said_right": ("recognised", "识别正确"),
    "or": ("{first} {share}, {second} {other}", "{first} {share}，{second} {other}"),
    "picture_of": ("Picture {name}, of the class {true}", "图片 {name}，类别 {true}"),
    "map_of": (
        "Where the model looked for {said} in {name}",
        "在 {name} 中，模型判断为 {said} 时关注的位置",
    ),
    "gone": ("{number} pictures could not be opened again and are left out.", "{number} 张图片无法再次打开，未显示。"),
    # How it was made
    "recipe": ("How it was trained", "训练方法"),
    "recipe_head": (
        "head: the backbone stayed as it was; only the last layer was trained, on features computed once.",
        "head：骨干网络保持不变；只在一次性算好的特征上训练最后一层。",
    ),
    "recipe_full": (
        "full: first the last layer, then all layers, the early ones with lower learning rates.",
        "full：先训练最后一层，再训练全部层，靠前的层使用较低的学习率。",
    ),
    "recipe_bn": (
        "bn: the last layer and the batch normalisations were trained, their statistics too; nothing else.",
        "bn：只训练最后一层和各批归一化层（包括其统计量）。",
    ),
    "recipe_last": (
        "{recipe}: the last layer and the last {number} stages were trained.",
        "{recipe}：训练最后一层和最后 {number} 个阶段。",
    ),
    "recipe_scratch": (
        "scratch: all layers were trained from random weights.",
        "scratch：从随机权重开始训练全部层。",
    ),
    "recipe_other": ("{recipe}", "{recipe}"),
    "why": ("Why", "理由"),
    "settings": ("Settings", "设置"),
    "seeds": ("Seeds", "随机种子"),
    "timing": ("Where the time went", "用时分布"),
    "timing_scan": ("looking through the pictures", "扫描图片"),
    "timing_features": ("features", "计算特征"),
    "timing_head": ("last layer", "训练最后一层"),
    "timing_training": ("training", "训练"),
    "timing_evaluation": ("evaluation", "评估"),
    # Data
    "data": ("Pictures", "图片数据"),
    "root": ("folder", "文件夹"),
    "layout": ("layout", "组织方式"),
    "digest": ("hash of all pictures", "全部图片的哈希值"),
    "total": ("all", "合计"),
    "test": ("test", "测试"),
    "skipped": ("Skipped files", "跳过的文件"),
    "and_more": ("and {number} more", "以及另外 {number} 个"),
    "warnings": ("Worth knowing", "注意事项"),
    "duplicates": ("The same picture more than once", "重复的图片"),
    # Model card
    "card": ("Model card", "模型卡片"),
    "architecture": ("architecture", "网络结构"),
    "parameters": ("parameters", "参数量"),
    "input": ("input", "输入"),
    "input_text": ("{width} x {height} pixels, {mode}", "{width} x {height} 像素，{mode}"),
    "weights": ("weights it began with", "初始权重"),
    "none": ("none: random", "无：随机初始化"),
    "licence": ("licence of those weights", "初始权重的许可证"),
    "origin": ("origin of those weights", "初始权重的来源"),
    "file": ("file", "文件"),
    "sha256": ("SHA-256", "SHA-256"),
    "unknown": ("not known", "未知"),
    "number_of_classes": ("classes", "类别数"),
    "use": ("Meant for", "适用范围"),
    "use_text": (
        "Telling apart the classes {names} in pictures like those it was trained on.",
        "在与训练图片相似的图片中区分以下类别：{names}。",
    ),
    "limits": ("Limits", "局限"),
    "limits_text": (
        "It names one of its classes for every picture, also for one that shows none of them. Pictures taken otherwise "
        "than these (camera, light, background) may be recognised less often: evaluate it on your own before you rely "
        "on it.",
        "对任何图片它都会给出一个类别，即使图片不属于其中任何一类。拍摄条件（相机、光线、背景）不同的图片，识别率可能下降："
        "在依赖它之前，请先用自己的图片评估。",
    ),
    "versions": ("Versions", "版本"),
    "more_classes": ("and {number} more", "等 {number} 个"),
}

LANGUAGES = ("en", "zh")


class Texts:
    """The texts of one language.

    Args:
        language: "en" or "zh".

    Raises:
        ValueError: another language.

    >>> Texts("en")["accuracy"], Texts("zh").say("best_epoch", epoch=3)
    ('accuracy', '保留了第 3 轮的权重（虚线处）。')
    """

    def __init__(self, language: str = "en") -> None:
        if language not in LANGUAGES:
            raise ValueError(f"language={language!r} must be one of {', '.join(LANGUAGES)}")
        self.language = language
        self._column = LANGUAGES.index(language)

    def __getitem__(self, key: str) -> str:
        return TABLE[key][self._column]

    def __contains__(self, key: str) -> bool:
        return key in TABLE

    def get(self, key: str, default: str) -> str:
        """The text of a key that may not be in the table."""
        return self[key] if key in TABLE else default

    def say(self, key: str, **values: object) -> str:
        """A text with its names filled in."""
        return self[key].format(**values)

    def sentence(self, english: str) -> str:
        """What another part of the program says, in this language where that is known."""
        return in_chinese(english) if self.language == "zh" else english

    def join(self, parts: list[str]) -> str:
        """Parts of a list, one after the other."""
        return ("、" if self.language == "zh" else ", ").join(parts)
