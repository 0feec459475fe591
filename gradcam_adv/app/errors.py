"""Printing the library's errors and log, one line each, and the exit status of errors."""

from __future__ import annotations

import errno
import functools
import logging
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click

from gradcam_adv.app import interrupts
from gradcam_adv.app.terminal import say
from gradcam_adv.files import text


class UserError(click.ClickException):
    """What a user gave is wrong. Other errors are the machine's, with exit status 1."""

    exit_code = 2


class LogLines(logging.Handler):
    """Prints the package's log: information on stdout, warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), err=record.levelno >= logging.WARNING)


def _show_log() -> None:
    logger = logging.getLogger("gradcam_adv")
    if not any(isinstance(handler, LogLines) for handler in logger.handlers):
        logger.addHandler(LogLines())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command print errors, signals and the library's log as single lines."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        _show_log()
        lost = "nothing that is done is lost. To continue"
        if kwargs.get("model"):  # a folder of images starts again
            lost = "all files are complete. To start again"
        with interrupts.ending_with(text.shown(f"Stopped; {lost}: {as_typed()}", text.LINE)):
            try:
                command(*args, **kwargs)
            except BrokenPipeError:  # a reader such as head has ended; click handles it
                raise
            except (ValueError, FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                raise UserError(_line(error)) from error
            except (OSError, ImportError, MemoryError) as error:  # also of Keras' backend
                raise click.ClickException(_line(error)) from error

    return wrapped


def as_typed() -> str:
    """The command as it was typed."""
    return shlex.join(["gradcam-adv", *sys.argv[1:]])


def _line(error: Exception) -> str:
    """An error in one line, in the form "Expected ... Received: ..."."""
    said = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        file = error.filename or "a file"
        said = f"Expected to read or write {file}. Received: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = (
                f"Expected space on the disk for {file}. Received: {error.strerror}. What is done "
                "is kept; free some space and give the same command again"
            )
    elif isinstance(error, ImportError) and not said.startswith("Expected"):
        said = f"Expected every package of gradcam-adv to be installed. Received: {said}"
    elif isinstance(error, MemoryError) and not said:
        said = "Expected enough memory. Received: out of memory"
    # Names and damaged files may contain control characters.
    return text.shown(" ".join(said.split()), text.LINE)
