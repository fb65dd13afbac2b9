"""Layers without state, as functions: `import juanji.nn.functional as F`. Signatures are PyTorch's.

One file a subject, each with its `__all__`; no file has the name of a function.
"""

from juanji.nn.functional import (
    activations,
    convolution,
    dense,
    dropping,
    losses,
    margins,
    normalisation,
    padding,
    pooling,
    resampling,
    sampling,
)
from juanji.nn.functional.activations import *  # noqa: F403
from juanji.nn.functional.convolution import *  # noqa: F403
from juanji.nn.functional.dense import *  # noqa: F403
from juanji.nn.functional.dropping import *  # noqa: F403
from juanji.nn.functional.losses import *  # noqa: F403
from juanji.nn.functional.margins import *  # noqa: F403
from juanji.nn.functional.normalisation import *  # noqa: F403
from juanji.nn.functional.padding import *  # noqa: F403
from juanji.nn.functional.pooling import *  # noqa: F403
from juanji.nn.functional.resampling import *  # noqa: F403
from juanji.nn.functional.sampling import *  # noqa: F403

__all__: list[str] = []
__all__ += activations.__all__
__all__ += convolution.__all__
__all__ += dense.__all__
__all__ += dropping.__all__
__all__ += losses.__all__
__all__ += margins.__all__
__all__ += normalisation.__all__
__all__ += padding.__all__
__all__ += pooling.__all__
__all__ += resampling.__all__
__all__ += sampling.__all__
