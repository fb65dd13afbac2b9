"""A report of a fine-tuning to look at: one HTML file, with charts and pictures in it."""

from juanji.report.writing import write

__all__ = ["write"]
