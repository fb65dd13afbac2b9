"""A roofline picture: each kernel's rate over its arithmetic for each byte, under what the machine allows."""

from __future__ import annotations

import os
from typing import Any

from juanji.visual.figures import finish, pyplot
from juanji.visual.profile import Profile


def roofline(profile: Profile, path: str | os.PathLike[str] | None = None, title: str = "") -> Any:
    """Draws a profile's contractions (Williams, Waterman, Patterson, "Roofline", 2009).

    The area of a dot is the kernel's share of the time; a kernel on the line takes no longer than its arithmetic, or
    its traffic with memory, must take on one core. Data that comes from a cache may lift a kernel over the slope.

    Args:
        profile: what `jj.profile` returned.
        path: where to save the picture; None: it is not saved.
        title: above it.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is not installed. ValueError: no kernel of the profile has arithmetic.
    """
    plt = pyplot()
    kernels = [k for k in profile.kernels if k.flops and k.bytes and k.seconds]
    if not kernels:
        raise ValueError("roofline: the profile has no convolution or matrix product to draw")
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    ways: dict[str, list[Any]] = {}
    for kernel in kernels:
        ways.setdefault(kernel.algorithm or kernel.kind, []).append(kernel)
    for way, group in ways.items():
        axes.scatter(
            [k.flops / k.bytes for k in group],
            [k.flops / k.seconds / 1e9 for k in group],
            [10 + 1000 * k.seconds / profile.seconds for k in group],
            alpha=0.6,
            label=way,
        )
    ridge = profile.peak_flops / profile.peak_bytes
    intensities = [k.flops / k.bytes for k in kernels]
    low, high = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    peak = profile.peak_flops / 1e9
    axes.plot([low, ridge, high], [low * profile.peak_bytes / 1e9, peak, peak], color="black")
    axes.annotate(f"{peak:.0f} GFLOP/s", (high, peak), ha="right", va="bottom")
    axes.annotate(f"{profile.peak_bytes / 1e9:.0f} GB/s", (low, low * profile.peak_bytes / 1e9), va="bottom")
    axes.set(xscale="log", yscale="log", xlabel="floating point operations for each byte", ylabel="GFLOP/s")
    axes.set_title(title)
    axes.legend()
    if path is not None:
        figure.savefig(path)
    return finish(figure)
