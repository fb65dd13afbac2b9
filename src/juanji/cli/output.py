"""What every command does alike: exit codes, one line for an error, one JSON object where asked for."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer

P = ParamSpec("P")

#: The exit codes: a failure, wrong usage, stopped by Ctrl-C (128 + SIGINT, as shells count).
FAILURE, USAGE, INTERRUPTED = 1, 2, 130

#: The option that every command has. Commands name it `as_json`: `command` looks for it under that name.
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")
]


class UsageError(Exception):
    """The command line is wrong in a way that its parser can't see: exit code 2."""


class Failed(Exception):
    """The command has reported its failure itself: exit code 1."""


def say(text: str) -> None:
    """A line for the person who watches: on standard error, so that standard output holds only results."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """A line of the result, on standard output."""
    print(text, flush=True)


def emit(result: dict[str, Any]) -> None:
    """The one JSON object of a command, on standard output."""
    print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)


def one_line(error: BaseException) -> str:
    """An exception as one sentence.

    Example:
        >>> one_line(ValueError("lr is -1;\\n  it is a number above 0"))
        'lr is -1; it is a number above 0'
    """
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "there is not enough memory"
    if isinstance(error, OSError) and error.strerror and not isinstance(error.filename, int):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text or type(error).__name__


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Makes a command's exceptions into exit codes and one line on standard error, never a traceback.

    `JUANJI_DEBUG=1` shows the traceback too. With `--json`, standard output gets `{"error": ...}`.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except Failed:
            raise typer.Exit(FAILURE) from None
        except KeyboardInterrupt as stop:  # an Interrupted knows its exit code and how to go on
            _fail(str(stop) or "stopped", getattr(stop, "code", INTERRUPTED), False)
        except BrokenPipeError:
            # Whoever read the output has gone (`juanji ... | head`). Python must not try to flush it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILURE) from None
        except UsageError as error:
            _fail(f"{one_line(error)} (see --help)", USAGE, bool(kwargs.get("as_json")))
        except Exception as error:
            if os.environ.get("JUANJI_DEBUG", "0") not in ("", "0"):
                traceback.print_exc()
            _fail(_explained(error), FAILURE, bool(kwargs.get("as_json")))

    return run


def _explained(error: Exception) -> str:
    """The sentence of an expected error; for any other, its kind too, and how to see more."""
    from juanji.errors import AutogradError, CaptureError, DataError, MissingExtraError, ShapeError
    from juanji.train.loop import TrainingError

    expected = (
        *(AutogradError, CaptureError, DataError, MissingExtraError, ShapeError, TrainingError),
        *(OSError, MemoryError),
    )
    if isinstance(error, expected):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)} (JUANJI_DEBUG=1 shows where)"


def _fail(message: str, code: int, as_json: bool) -> None:
    say(f"juanji: {message}")
    if as_json:
        emit({"error": message})
    raise typer.Exit(code)
