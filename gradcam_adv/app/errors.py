"""Printing the library's errors and log, one line each, and the exit status of errors."""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from gradcam_adv.app import imports, interrupts, notices
from gradcam_adv.app.terminal import say
from gradcam_adv.files import text


class UserError(click.ClickException):
    """What a user gave is wrong. Other errors are the machine's, with exit status 1."""

    exit_code = 2


class LogLines(logging.Handler):
    """Prints the package's log: information on stdout, warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode():  # bars are taken away and drawn again below the line
            say(record.getMessage(), err=record.levelno >= logging.WARNING)


def _show_log() -> None:
    logger = logging.getLogger("gradcam_adv")
    if not any(isinstance(handler, LogLines) for handler in logger.handlers):
        logger.addHandler(LogLines())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command print signals and the library's log as single lines."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        _show_log()
        lost = "nothing that is done is lost. To continue"
        if kwargs.get("model"):  # a folder of images starts again
            lost = "all files are complete. To start again"
        with interrupts.ending_with(text.shown(f"Stopped; {lost}: {as_typed()}", text.LINE)):
            command(*args, **kwargs)

    return wrapped


class Commands(click.Group):
    """The group of all commands. Whatever goes wrong in one ends in a single line.

    Its option ``--traceback`` prints the full report of the error as well.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _prepare_streams()
        notices.hide()
        imports.quicken_keras()
        return super().main(*args, **kwargs)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        # A broken pipe: a reader such as head has ended. click handles all of these.
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if context.params["traceback"]:
                traceback.print_exception(error)
            raise _shown(error, context.params["traceback"]) from error


def _prepare_streams() -> None:
    """Open the standard streams that are closed (``2>&-``), as empty ones; print all characters.

    Otherwise the next file that is opened takes the number of stderr, to which TensorFlow writes;
    and a terminal or pipe of another encoding than UTF-8, such as cp1252, which has no ε, ends a
    command when all its work is done. What an encoding does not have is escaped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _shown(error: Exception, reported: bool) -> click.ClickException:
    """What click shows of an error; ``reported`` says whether its traceback has been printed."""
    if isinstance(error, (ValueError, FileExistsError, IsADirectoryError, NotADirectoryError)):
        return UserError(_line(_said(error)))
    if isinstance(error, (OSError, ImportError, MemoryError)):  # also of Keras' backend
        return click.ClickException(_line(_said(error)))
    words = ["gradcam-adv", "--traceback", *sys.argv[1:]]
    where = "the report above" if reported else f"what this prints: {shlex.join(words)}"
    said = f"{type(error).__name__}: {error}"[:200]
    return click.ClickException(
        _line(f"Expected no such error. Received: {said}. Please report it, with {where}")
    )


def as_typed() -> str:
    """The command as it was typed."""
    return shlex.join(["gradcam-adv", *sys.argv[1:]])


def _said(error: Exception) -> str:
    """What an error says, in the form "Expected ... Received: ..."."""
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
    return said


def _line(said: str) -> str:
    # Names and damaged files may contain control characters.
    return text.shown(" ".join(said.split()), text.LINE)
