"""Imports the package once, before pytest collects doctests: else it would load modules of its own beside ours."""

import juanji  # noqa: F401
