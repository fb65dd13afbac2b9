"""Capturing a whole step as one plan: tracing, guards and replay."""
