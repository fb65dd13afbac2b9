"""Seeing networks: pictures of tensors, filters, feature maps and the arithmetic of a convolution; the layer table.

The pictures need matplotlib (`pip install "juanji[plot]"`), the layer table nothing.
"""
