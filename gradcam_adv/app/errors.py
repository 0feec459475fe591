"""What the library raises for what a user gave, or the machine lacks, as one line and a status."""

from __future__ import annotations

import errno
import functools
import shlex
import sys
from collections.abc import Callable
from typing import IO, Any

import click


class UserError(click.BadParameter):
    """One line on what was expected and what came, and exit status 2; no usage around it."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"Error: {self.message}", file=file, err=True)


class MachineError(click.ClickException):
    """One line on what the machine lacks (room, permission, memory), and exit status 1."""


def in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """What the library raises for what a user gave, or the machine lacks, in one line.

    Signals end the command with one line, too; see :mod:`gradcam_adv.app.interrupts`.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from gradcam_adv.app import interrupts

        lost = "nothing that is done is lost. To go on"
        if kwargs.get("model"):  # the folder of images is gone through as a whole
            lost = "no file is half written. To do it again"
        line = f"Stopped; {lost}: {as_typed()}"
        with interrupts.ending_with(line):
            try:
                command(*args, **kwargs)
            except ValueError as error:
                raise UserError(_one_line(str(error))) from error
            except BrokenPipeError:  # of a reader such as head, which click knows to be no error
                raise
            except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
                raise UserError(_one_line(_lacking(error))) from error
            except OSError as error:
                raise MachineError(_one_line(_lacking(error))) from error
            except ImportError as error:  # such as of the backend that Keras is told to take
                said = str(error)
                if not said.startswith("Expected"):
                    said = f"Expected every package of gradcam-adv to be there. Received: {error}"
                raise MachineError(_one_line(said)) from error
            except MemoryError as error:
                said = str(error) or "Expected enough memory. Received: out of memory"
                raise MachineError(_one_line(said)) from error

    return wrapped


def as_typed() -> str:
    """The command as it was typed."""
    return shlex.join(["gradcam-adv", *sys.argv[1:]])


def _one_line(message: str) -> str:
    """Without control characters as well, which names and damaged files may hold."""
    line = " ".join(message.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _lacking(error: OSError) -> str:
    """What a file system says, as what was expected and what came."""
    where = f" {error.filename}" if error.filename else ""
    if error.errno is None:
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"Expected room on the disk for{where or ' a file'}. Received: {error.strerror}. What "
            "is done is kept; give the same command again once there is room"
        )
    return f"Expected to read or write{where or ' a file'}. Received: {error.strerror}"
