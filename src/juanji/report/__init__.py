"""A report of a fine-tuning to look at, one HTML file with charts and pictures in it; and logs for other programs."""

from juanji.report.logfiles import log
from juanji.report.writing import write

__all__ = ["log", "write"]
