"""The engine that uses Ray: actors write slices, and this process keeps the record of them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import signal
import socket
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import ray
from ray.exceptions import RayActorError, RayTaskError

from gradcam_adv import backends, machine
from gradcam_adv.batching import BatchHalved
from gradcam_adv.files import write
from gradcam_adv.runs import engines, warden
from gradcam_adv.runs.engines import ReadSlice, Slice, Sliced, WorkerLost, WriteSlice
from gradcam_adv.runs.progress import Advance, Bar, untold

logger = logging.getLogger(__name__)

# After so many deaths of workers in one slice, the work stops with an error.
ATTEMPTS = 3
# How long to wait for an answer of the cluster's machine.
REACHED_SECONDS = 5
# After this time without a free processor there is a warning.
PATIENCE_SECONDS = 120
# Ray keeps in shared memory what workers get. Here that is little.
OBJECT_STORE = 128 * 2**20
# Environment variables that a worker must have as well. Without the first, TensorFlow takes all
# memory of a GPU, which this process and a worker on the same machine share.
ENVIRONMENT = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
PASSED_ON = (*ENVIRONMENT, "KERAS_BACKEND")
# Ray prints errors only.
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

Warned = list[tuple[str, type[Warning]]]


@dataclass(frozen=True)
class Terms:
    """What a worker must share with the process that it works for."""

    threads: int  # of its networks
    folder: Path  # the current one
    environment: dict[str, str]
    versions: dict[str, str]  # of packages


class Worker:
    """An actor: it prepares for a task, then writes slices of it, one after the other."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._write: WriteSlice | None = None
        self._read: ReadSlice | None = None

    def begin(self, begin: Callable[[], WriteSlice], read: ReadSlice | None) -> Warned:
        """Prepare for a task; the task before is done."""
        self._write, self._read = None, read
        self._accept_terms()
        backends.clear_session()
        with _warned() as warned:
            self._write = begin()
        return warned

    def write(self, name: str, rows: pd.DataFrame) -> Warned:
        """Write the files of one slice."""
        assert self._write is not None
        with _warned() as warned:
            self._write(name, rows, *engines.read_for(self._read, rows))
        return warned

    def _accept_terms(self) -> None:
        """Do what the terms say; ValueError if this machine can't.

        Not in ``__init__``, where an error would be the death of the worker to Ray.
        """
        terms, host = self._terms, socket.gethostname()
        os.environ.update(terms.environment)
        try:
            os.chdir(terms.folder)
        except OSError as error:
            raise ValueError(
                f"Expected the folder {terms.folder}, in which the command was given, on every "
                f"machine of the cluster. Received: {error.strerror} on {host}"
            ) from None
        for name, version in machine.versions().items():
            if version != terms.versions.get(name):
                raise ValueError(
                    f"Expected {name} {terms.versions.get(name)}, as here, on every machine of "
                    f"the cluster. Received: {version} on {host}"
                )
        backends.configure(terms.threads)


@contextlib.contextmanager
def _warned() -> Iterator[Warned]:
    """Collect the warnings raised inside, for the process that shows them to the user."""
    found: Warned = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BatchHalved)
        yield found
    found += [(str(warning.message), warning.category) for warning in caught]


class Ray:
    """Workers of Ray, on this machine or on a cluster.

    They start when there is a first slice to do, as many as the processors of the cluster allow,
    or its GPUs if it has any. Each has one slice at a time, so this process holds few slices. It
    alone records which files are begun and which are whole.
    """

    def __init__(self, threads: int, address: str | None = None) -> None:
        """Each worker gets as many processors as ``threads``.

        ``address`` is a cluster's, as ray.init() takes it; None starts Ray on this machine.
        """
        os.environ |= {key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()}
        passed_on = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        passed_on |= machine.numeric_environment()
        self._terms = Terms(threads, Path.cwd(), passed_on, machine.versions())
        self._address = address
        self.advance: Advance = untold
        self.workers: list[Any] = []  # if one dies, another takes its position
        self.new_worker: Callable[[], Any]
        self._begun = contextlib.ExitStack()

    def run(self, sliced: Sliced) -> list[Path]:
        """As :meth:`gradcam_adv.runs.engines.Engine.run`; errors of workers are raised here.

        ChildProcessError if several workers died in the same slice, ConnectionError without a
        cluster at the address.
        """
        files: list[Path] = []
        with Bar(sliced.what, sliced.rows, self.advance) as bar:
            to_do = engines.missing(sliced, files, bar)
            first = next(to_do, None)
            if first is not None:
                if not self.workers:
                    self._start()
                _Run(self, sliced, itertools.chain([first], to_do), bar).go()
        return files

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        for worker in self.workers:  # otherwise one would continue its slice for a while
            ray.kill(worker)
        self.workers = []
        self._begun.close()

    def _start(self) -> None:
        """Start or join Ray, and start workers."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray reports its use
        threads, address = self._terms.threads, self._address
        before = signal.getsignal(signal.SIGTERM)
        if address is None:
            self._begun.enter_context(warden.ending_all())
            ray.init(
                "local",
                num_cpus=max(threads, machine.cores()),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                **QUIET,
            )
        else:
            _join(address)
        self._begun.callback(ray.shutdown)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has replaced the handler
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
        # A worker also runs on a machine with fewer processors, only more slowly.
        cpus = min(threads, max(int(node.get("CPU", 0)) for node in nodes))
        if cpus == 0:
            raise ValueError(
                "Expected machines with processors in the Ray cluster. Received: none; add some"
            )
        room = [int(node.get("CPU", 0)) // cpus for node in nodes]
        if gpus:
            room = [min(n, int(node.get("GPU", 0))) for n, node in zip(room, nodes, strict=True)]
        actor = ray.remote(Worker).options(num_cpus=cpus, num_gpus=int(gpus))
        self.new_worker = functools.partial(actor.remote, ray.put(self._terms))
        self.workers = [self.new_worker() for _ in range(max(1, sum(room)))]
        where = address or "this machine"
        logger.info("Ray on %s: workers %d, threads of each %d", where, len(self.workers), threads)


def _join(address: str) -> None:
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    try:
        if address != "auto":  # Ray itself would keep trying and ignore Ctrl-C
            place = urlsplit(address if "//" in address else f"//{address}")
            socket.create_connection((place.hostname, place.port), REACHED_SECONDS).close()
        ray.init(address, **QUIET)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise ConnectionError(
            "Expected a Ray cluster at --address, such as auto, 192.0.2.1:6379 or "
            f"ray://192.0.2.1:10001. Received: {address}: {error}"
        ) from error


class _Run:
    """One piece of sliced work, done by the workers of an engine."""

    def __init__(self, engine: Ray, sliced: Sliced, missing: Iterator[Slice], bar: Bar) -> None:
        self._engine = engine
        self._what = sliced.what
        self._begin = ray.put(sliced.begin), ray.put(sliced.read)
        self._missing = missing
        self._bar = bar
        # Slices without a worker: first one per worker, later those whose worker died.
        self._waiting = deque(itertools.islice(missing, len(engine.workers)))
        # By Ray's reference: a worker's position, and the slice that it writes. None: it begins.
        self._at_work: dict[Any, tuple[int, Slice | None]] = {}
        self._deaths: Counter[str] = Counter()

    def go(self) -> None:
        for place in range(len(self._waiting)):
            self._let_begin(place)
        patient = True
        while self._waiting or self._is_writing():
            ready, _ = ray.wait(list(self._at_work), timeout=PATIENCE_SECONDS if patient else None)
            if not ready:
                patient = False
                if not self._is_writing():
                    logger.warning("no worker has begun yet: is every processor taken?")
                continue
            place, part = self._at_work.pop(ready[0])
            try:
                warned = ray.get(ready[0])
            except RayActorError:
                self._replace(place, part)
                continue
            except RayTaskError as error:
                raise error.cause from error
            self._give(place)
            # After that, so that the worker does not wait for this process.
            for message, category in warned:
                warnings.warn(message, category, stacklevel=2)
            if part is not None:
                for path in part.files:
                    write.observer().end(path)
                self._bar.update(len(part.rows))

    def _is_writing(self) -> bool:
        return any(part is not None for _, part in self._at_work.values())

    def _let_begin(self, place: int) -> None:
        self._at_work[self._engine.workers[place].begin.remote(*self._begin)] = place, None

    def _give(self, place: int) -> None:
        """Give a free worker the next slice, if there is one."""
        part = self._waiting.popleft() if self._waiting else next(self._missing, None)
        if part is None:
            return
        for path in part.files:
            write.observer().begin(path)
        writing = self._engine.workers[place].write.remote(part.name, part.rows)
        self._at_work[writing] = place, part

    def _replace(self, place: int, part: Slice | None) -> None:
        """Start a worker for one that has died; its slice is done again.

        ChildProcessError if too many died in the same work.
        """
        doing = f"slice {part.name}" if part else "the beginning"
        key = part.name if part else f"worker {place}"
        self._deaths[key] += 1
        if self._deaths[key] == ATTEMPTS:
            raise ChildProcessError(
                f"Expected workers to live through {doing} of {self._what!r}. Received: "
                f"{ATTEMPTS} of them died in it, perhaps for lack of memory"
            )
        warnings.warn(
            f"a worker died in {doing} of {self._what!r}, which is done again by a new one",
            WorkerLost,
            stacklevel=2,
        )
        if part is not None:
            self._waiting.appendleft(part)
        workers = self._engine.workers
        ray.kill(workers[place])  # it may only be out of reach, and must not write any more
        workers[place] = self._engine.new_worker()
        self._let_begin(place)
