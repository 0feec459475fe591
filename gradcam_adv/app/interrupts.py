"""Ctrl-C and SIGTERM: an end within seconds, wherever the work is, and one line on how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# For the work to end by itself. Nothing is lost when it is cut off then: files are whole or not
# there, as after a power cut.
GRACE_SECONDS = 1.5


class Stopped(KeyboardInterrupt):
    """A signal asked for the end."""


@contextlib.contextmanager
def ending_with(line: str) -> Iterator[None]:
    """End the process on SIGINT and SIGTERM, within seconds, and say ``line`` on stderr.

    Python itself gets to a signal only between two of its steps, and one step may be a batch on a
    large network or the loading of TensorFlow. So a thread watches for the signal, too, and ends
    the process where the work has not ended by itself after GRACE_SECONDS, or can't.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ending = threading.Lock()
    cut_off = threading.Event()
    heard: list[int] = []

    def end(number: int) -> None:
        ending.acquire()  # for good: whoever comes second waits for the end
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
            sys.stdout.flush()
            sys.stderr.write(f"\n{line}\n")
            sys.stderr.flush()
        # Not sys.exit: threads of others, which it would wait for, may be in the middle of a batch.
        os._exit(128 + number)  # as shells have it

    def watch() -> None:
        number = os.read(reading, 1)
        if number and number[0]:
            cut_off.wait(GRACE_SECONDS)
            end(number[0])

    # A shell starts a job in the background with Ctrl-C ignored: it is meant for the one in front.
    signals = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]

    def stop(number: int, frame: FrameType | None) -> None:
        for further in signals:  # which would cut off the tidying up, or the line itself
            signal.signal(further, signal.SIG_IGN)
        heard.append(number)
        if _in_tensorflow(frame):
            cut_off.set()
        else:
            raise Stopped

    before = [signal.signal(number, stop) for number in signals]
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True, name="signals")
    watcher.start()
    try:
        yield
    except BaseException:
        # Code in C may make another error of Stopped; what comes after a signal comes of it.
        if not heard:
            raise
        end(heard[0])
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
        os.write(writing, b"\0")
        watcher.join()
        os.close(reading)
        os.close(writing)


def _in_tensorflow(frame: FrameType | None) -> bool:
    """Whether TensorFlow is at work, whose C++ crashes when Python that it calls raises.

    It calls Python while it traces a graph. Then there is nothing to wait for: what could be
    tidied up around it is what a power cut leaves, too.
    """
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "tensorflow":
            return True
        frame = frame.f_back
    return False
