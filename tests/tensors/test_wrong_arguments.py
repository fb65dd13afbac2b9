"""Wrong arguments, thrown at every public function by its signature: each answers with a result or a whole sentence."""

import inspect
import random
import re
import warnings

import numpy as np
import pytest

import juanji as jj

ALLOWED = (ValueError, TypeError, IndexError, RuntimeError, MemoryError)
#: What Python itself says when it stumbles over a value; a user cannot know which argument it means.
STUMBLES = re.compile(
    r"object (has no|is not (iterable|subscriptable|callable))|unsupported operand type|not supported between instances"
    r"|must be real number|cannot be interpreted as|object of type .* has no len|NoneType takes no|bad operand type"
    r"|cannot unpack|not enough values|too many values|takes no arguments|string indices"
)
#: Not thrown at: what sets the process, reads or writes files, draws pictures, or takes any function.
LEFT_OUT = {
    "set_num_threads", "manual_seed", "compile", "load", "save", "show", "show_filters", "show_feature_maps",
    "plot_arithmetic", "summary", "outside_capture", "set_grad_enabled", "slot", "hyper", "guarded", "guarded_flag",
    "inference_mode", "no_grad", "enable_grad", "seed", "requires_grad_", "apply_", "map_", "share_memory_", "numpy",
    "tolist", "set_default_dtype",
}  # fmt: skip


def public():
    """(name, function, whether it is a method) of everything users call with tensors."""
    found = []
    for space, label in ((jj, "jj"), (jj.nn.functional, "F"), (jj.autograd.functional, "autograd.functional")):
        for name in getattr(space, "__all__", None) or dir(space):
            value = getattr(space, name)
            if inspect.isfunction(value) and name not in LEFT_OUT and not name.startswith("_"):
                found.append((f"{label}.{name}", value))
    for name in dir(jj.Tensor):
        value = inspect.getattr_static(jj.Tensor, name)
        if inspect.isfunction(value) and name not in LEFT_OUT and not name.startswith("_"):
            found.append((f"Tensor.{name}", value))
    return found


def values(chance):
    """One argument, more often wrong than right."""
    numbers = np.random.default_rng(chance.randrange(2**31))
    return chance.choice((
        lambda: jj.tensor(numbers.uniform(-1, 1, chance.choice(((), (3,), (2, 3), (2, 3, 4, 4), (0, 3))))),
        lambda: jj.tensor(numbers.uniform(-1, 1, (2, 3, 4)).astype(np.float32), requires_grad=True),
        lambda: jj.tensor(numbers.integers(-2, 9, chance.choice(((), (2,), (2, 3))))),
        lambda: jj.tensor([True, False, True]),
        lambda: None,
        lambda: chance.choice(("a", "mean", "", "same")),
        lambda: chance.choice(([1.0, 2.0], [], [[1], [2, 3]], [None], (1, 1), (2, -1), (0, 0), (1, "a"))),
        lambda: numbers.uniform(-1, 1, (2, 3)),
        lambda: chance.choice((-1, 0, 1, 2, 7, -100, 2**36, 2**40, 2**70)),
        lambda: chance.choice((1.5, -0.5, float("nan"), float("inf"), 1e300)),
        lambda: chance.choice((True, False)),
        lambda: chance.choice((object(), {"a": 1}, 1j, b"x", jj.float32, int, np.float32, slice(2))),
        lambda: [jj.ones(2, 3), chance.choice((jj.ones(2, 3), jj.ones(3), None, 2))],
    ))()  # fmt: skip


def arguments(function, method, chance):
    """Arguments for `function`: the first more often a tensor, the required ones, some of the others."""
    positional, named = [], {}
    for at, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if at == 0 and (method or chance.random() < 0.6):
            shape = chance.choice(((), (3,), (2, 3), (2, 3, 4), (2, 3, 6, 6), (1, 2, 4, 4, 4)))
            whole = chance.random() < 0.25
            positional.append(jj.ones(shape, dtype=jj.int64 if whole else jj.float32))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(values(chance) for _ in range(chance.randrange(3)))
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty or chance.random() < 0.3:
                named[parameter.name] = values(chance)
        elif parameter.default is parameter.empty or (chance.random() < 0.4 and not named):
            positional.append(values(chance))
        elif chance.random() < 0.3:
            named[parameter.name] = values(chance)
    return positional, named


def told(value):
    """An argument, shortly."""
    return f"Tensor{list(value.shape)}:{value.dtype.name}" if isinstance(value, jj.Tensor) else f"{value!r:.60}"


def faults(name, function, times, stumbles=False):
    """What `function` answers wrongly: {text: arguments}."""
    wrong = {}
    chance = random.Random(name)
    for _ in range(times):
        positional, named = arguments(function, name.startswith("Tensor."), chance)
        given = ", ".join([*map(told, positional), *(f"{k}={told(v)}" for k, v in named.items())])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(*positional, **named)
        except ALLOWED as error:
            text = str(error)
            bad = isinstance(error, (RecursionError, UnicodeError)) or " " not in text
            if bad or (stumbles and STUMBLES.search(text)):
                wrong[f"{type(error).__name__}: {text:.90}"] = given
        except Exception as error:
            wrong[f"{type(error).__name__}: {error!s:.90}"] = given
    return wrong


@pytest.mark.parametrize("space", ["jj", "F", "autograd", "Tensor"])
def test_answers_are_results_or_sentences(space):
    wrong = {}
    for name, function in public():
        if name.split(".")[0] == space:
            found = faults(name, function, 20)
            if found:
                wrong[name] = found
    assert not wrong, "\n".join(f"{n}({g}): {t}" for n, found in wrong.items() for t, g in found.items())
