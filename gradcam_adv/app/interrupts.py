"""Ctrl-C and SIGTERM: the process ends within seconds, with one line on how to continue."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# After this time the process is ended. Nothing is lost: files are whole or not there, as after a
# power cut.
GRACE_SECONDS = 1.5


@contextlib.contextmanager
def ending_with(line: str) -> Iterator[None]:
    """End the process on SIGINT and SIGTERM, within seconds, and say ``line`` on stderr.

    Python handles a signal only between two of its steps, and one step may be a batch on a large
    network or the loading of TensorFlow. So a thread also watches for the signal. It ends the
    process if the work has not ended by itself after GRACE_SECONDS.
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
        ending.acquire()  # for good: a second caller waits for the end
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
            sys.stdout.flush()
            sys.stderr.write(f"\n{line}\n")
            sys.stderr.flush()
        # Not sys.exit, which would wait for threads that are in the middle of a batch.
        os._exit(128 + number)  # as in shells

    def watch() -> None:
        number = os.read(reading, 1)
        if number and number[0]:
            cut_off.wait(GRACE_SECONDS)
            end(number[0])

    # A shell starts a background job with Ctrl-C ignored; it stays ignored.
    signals = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]

    def stop(number: int, frame: FrameType | None) -> None:
        for further in signals:  # a second one would cut off the clean-up, or the line
            signal.signal(further, signal.SIG_IGN)
        heard.append(number)
        if _in_tensorflow(frame):
            cut_off.set()
        else:
            raise KeyboardInterrupt

    before = [signal.signal(number, stop) for number in signals]
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True, name="signals")
    watcher.start()
    try:
        yield
    except BaseException:
        # C code may turn that into another error; any error after a signal comes from it.
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
    """Whether TensorFlow is running.

    While it traces a graph its C++ calls Python, and crashes if that raises. Then nothing is
    raised and the process ends at once, which leaves no more behind than a power cut.
    """
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "tensorflow":
            return True
        frame = frame.f_back
    return False
