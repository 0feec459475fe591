"""The engine of a cluster: actors of Ray write slices, this process keeps the record of them."""

from __future__ import annotations

import contextlib
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

import click
import pandas as pd
import ray
from ray.exceptions import RayActorError, RayTaskError
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv.graph import network as networks
from gradcam_adv.files import artifacts
from gradcam_adv.runs import engines, warden
from gradcam_adv.study import setting
from gradcam_adv.runs.engines import Read, Slice, Sliced, WorkerLost, Write

# So many workers may end in one slice: a fourth would, too.
ATTEMPTS = 3
# For an answer of the cluster's machine.
REACHED_SECONDS = 5
# Until somebody who waits for free processors is told so.
PATIENCE_SECONDS = 120
# Ray keeps what workers get in shared memory: here one small thing at a time.
OBJECT_STORE = 128 * 2**20
# Of this process' environment, what a worker must have as well. Memory of a GPU is not taken as a
# whole, for on one machine this process and a worker share it.
ENVIRONMENT = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
PASSED_ON = (*ENVIRONMENT, "KERAS_BACKEND")

Warned = list[tuple[str, type[Warning]]]


@dataclass(frozen=True)
class Terms:
    """What a worker has in common with the process that it works for.

    Attributes:
        threads: of its networks.
        folder: paths are relative to.
        environment: variables.
        versions: of packages.
    """

    threads: int
    folder: Path
    environment: dict[str, str]
    versions: dict[str, str]


# A worker by its place in the crew, with the slice at hand; none while it begins.
_AtWork = tuple[int, Slice | None]


class Worker:
    """What an actor does: it begins a task, then writes slices of it, one after the other."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._write: Write | None = None
        self._read: Read | None = None

    def begin(self, begin: Callable[[], Write], read: Read | None) -> Warned:
        """Prepare for a task in the place of the one before."""
        self._write, self._read = None, read
        self._comply()
        networks.forget()
        with _warned() as warned:
            self._write = begin()
        return warned

    def write(self, name: str, rows: pd.DataFrame) -> Warned:
        """Write the files of one slice; what it was warned of."""
        assert self._write is not None
        with _warned() as warned:
            self._write(name, rows, *engines.read_for(self._read, rows))
        return warned

    def _comply(self) -> None:
        """Be like the process that it works for; ValueError where this machine can't.

        Here and not when it is made, for an error there counts as the death of the worker.
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
        for name, own in setting.versions().items():
            if own != terms.versions.get(name):
                raise ValueError(
                    f"Expected {name} {terms.versions.get(name)}, as here, on every machine of "
                    f"the cluster. Received: {own} on {host}"
                )
        from gradcam_adv import backends as gradients

        gradients.configure(terms.threads)


@contextlib.contextmanager
def _warned() -> Iterator[Warned]:
    """The warnings inside, as text: they are shown where somebody looks."""
    found: Warned = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", batches.BatchHalved)
        yield found
    found += [(str(warning.message), warning.category) for warning in caught]


class Ray:
    """Workers of Ray, on this machine or on a cluster's.

    They start with the first slice that there is to do. Each has one slice at a time, so whatever
    the number of slices is, this process holds few; it alone says what is begun and what is whole.
    """

    def __init__(self, threads: int, address: str | None = None) -> None:
        """
        Args:
            threads: of each worker, which gets as many processors.
            address: of a cluster, as ray.init() takes it; without one Ray starts here.
        """
        os.environ |= {key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()}
        passed_on = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        self._terms = Terms(threads, Path.cwd(), passed_on, setting.versions())
        self._address = address
        self._crew: _Crew | None = None
        self._begun = contextlib.ExitStack()

    def run(self, sliced: Sliced) -> list[Path]:
        """As of :class:`gradcam_adv.runs.engines.Engine`.

        Raises:
            Exception: whatever a worker raised, as it raised it.
            ChildProcessError: one slice ended worker after worker.
            ConnectionError: no cluster at the address.
        """
        files: list[Path] = []
        with setting.bar(sliced.what, sliced.rows) as bar:
            to_do = engines.missing(sliced, files, bar)
            first = next(to_do, None)
            if first is not None:
                self._crew = self._crew or self._start()
                _Run(self._crew, sliced, itertools.chain([first], to_do), bar).go()
        return files

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        if self._crew is not None:
            self._crew.end()
            self._crew = None
        self._begun.close()

    def _start(self) -> _Crew:
        """Start or join Ray, and hire as many workers as there is room for."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it tells its makers
        before = signal.getsignal(signal.SIGTERM)
        if self._address is None:
            self._begun.enter_context(warden.ending_all())
            count = max(self._terms.threads, batches.cores())
            own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
            _init("local", num_cpus=count, **own)
        else:
            _join(self._address)
        self._begun.callback(ray.shutdown)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has put its own there
        crew = _Crew(self._terms)
        where = self._address or "this machine"
        workers = f"workers {len(crew.members)}, threads of each {self._terms.threads}"
        click.echo(f"Ray on {where}: {workers}")
        return crew


class _Crew:
    """As many workers as the processors of a cluster, or where there are some its GPUs, allow.

    Attributes:
        members: the workers; whoever dies is replaced in its place.
    """

    def __init__(self, terms: Terms) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
        # A machine of fewer processors does as well, more slowly.
        cpus = min(terms.threads, max(int(node.get("CPU", 0)) for node in nodes))
        if cpus == 0:
            raise ValueError(
                "Expected machines with processors in the Ray cluster. Received: none; add some"
            )
        room = [int(node.get("CPU", 0)) // cpus for node in nodes]
        if gpus:
            room = [min(n, int(node.get("GPU", 0))) for n, node in zip(room, nodes, strict=True)]
        self._terms = ray.put(terms)
        self._actor = ray.remote(Worker).options(num_cpus=cpus, num_gpus=int(gpus))
        self.members = [self._hired() for _ in range(max(1, sum(room)))]

    def _hired(self) -> Any:
        return self._actor.remote(self._terms)

    def replace(self, place: int) -> None:
        """A new worker; the old one, if it only could not be reached, must not write any more."""
        ray.kill(self.members[place])
        self.members[place] = self._hired()

    def end(self) -> None:
        for member in self.members:  # or one would go on with its slice for a moment
            ray.kill(member)


def _init(address: str, **options: Any) -> None:
    """ray.init(), which is to say nothing but errors."""
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)


def _join(address: str) -> None:
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address != "auto":
        # Ray itself would go on trying, deaf to Ctrl-C.
        place = urlsplit(address if "//" in address else f"//{address}")
        try:
            socket.create_connection((place.hostname, place.port), REACHED_SECONDS).close()
        except (OSError, TypeError, ValueError) as error:
            raise _no_cluster(address, error) from None
    try:
        _init(address)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        "Expected a Ray cluster at --address, such as auto, 192.0.2.1:6379 or "
        f"ray://192.0.2.1:10001. Received: {address}: {error}"
    )


class _Run:
    """One piece of sliced work at the hands of a crew."""

    def __init__(
        self,
        crew: _Crew,
        sliced: Sliced,
        missing: Iterator[Slice],
        bar: tqdm[Any],
    ) -> None:
        self._crew = crew
        self._what = sliced.what
        self._begin = ray.put(sliced.begin), ray.put(sliced.read)
        self._missing = missing
        self._bar = bar
        # Nobody's: as many as there are workers to begin with, then those that lost theirs.
        self._waiting = deque(itertools.islice(missing, len(crew.members)))
        self._at_work: dict[Any, _AtWork] = {}
        self._deaths: Counter[str] = Counter()

    def go(self) -> None:
        for place in range(len(self._waiting)):
            self._let_begin(place)
        patient = True
        while self._waiting or any(own for _, own in self._at_work.values()):
            ready, _ = ray.wait(list(self._at_work), timeout=PATIENCE_SECONDS if patient else None)
            if not ready:
                patient = False
                if not any(own for _, own in self._at_work.values()):
                    click.echo("no worker has begun yet: is every processor taken?", err=True)
                continue
            place, own = self._at_work.pop(ready[0])
            try:
                warned = ray.get(ready[0])
            except RayActorError:
                self._replace(place, own)
                continue
            except RayTaskError as error:
                raise error.cause from error
            self._give(place)
            # Only now, for meanwhile the worker is at the next one.
            for message, category in warned:
                warnings.warn(message, category, stacklevel=2)
            if own is not None:
                for path in own.files:
                    artifacts.end(path)
                self._bar.update(len(own.rows))

    def _let_begin(self, place: int) -> None:
        self._at_work[self._crew.members[place].begin.remote(*self._begin)] = place, None

    def _give(self, place: int) -> None:
        """The next slice, where there is one, to a worker that is free."""
        own = self._waiting.popleft() if self._waiting else next(self._missing, None)
        if own is None:
            return
        for path in own.files:
            artifacts.begin(path)
        self._at_work[self._crew.members[place].write.remote(own.name, own.rows)] = place, own

    def _replace(self, place: int, own: Slice | None) -> None:
        """Hire a worker for one that has died, whose slice somebody does again.

        Raises:
            ChildProcessError: it was one too many.
        """
        doing = f"slice {own.name}" if own else "the beginning"
        key = own.name if own else f"worker {place}"
        self._deaths[key] += 1
        if self._deaths[key] == ATTEMPTS:
            raise ChildProcessError(
                f"Expected workers to live through {doing} of {self._what!r}. Received: "
                f"{ATTEMPTS} of them died in it, for want of memory, perhaps"
            )
        warnings.warn(
            f"a worker died in {doing} of {self._what!r}, which is done again by a new one",
            WorkerLost,
            stacklevel=2,
        )
        if own is not None:
            self._waiting.appendleft(own)
        self._crew.replace(place)
        self._let_begin(place)
