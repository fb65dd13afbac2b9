"""Imports the package once, before pytest collects doctests: else it would load modules of its own beside ours."""

import os

# Tests compile what they test, and leave the user's cache alone; those of the cache itself turn it on.
os.environ["JUANJI_CACHE"] = "0"

import juanji  # noqa: F401
