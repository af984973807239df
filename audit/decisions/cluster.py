"""Runs by Dask: each is a task, on a local cluster or on one that the user has.

A worker that is killed is started again by its nanny, and its run with it, which goes on where it was. A run is given
up, and stops no other, once the scheduler has lost as many workers by it as it allows
(distributed.scheduler.allowed-failures, 3 by default), or once it has failed more than `RETRIES` times.
"""

import contextlib
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dask.distributed import Client, Future, LocalCluster, as_completed

from audit.decisions.variants import FOLDER, PROGRAM, Variant, bring_up_to_date
from experiment.errors import UserError
from experiment.plan import time_text

RETRIES = 2
SECONDS_TO_CONNECT = 30


def run_all(tasks: Mapping[Variant, Sequence[Variant]], scheduler: str = "", workers: int = 0) -> dict[Variant, str]:
    """Bring prepared runs up to date, each after those that it takes stages over from; "" or why it could not be run.

    tasks : run to the runs that must come before it; of these, those that are tasks as well stand earlier.
    scheduler : the address of the user's cluster; without one, `workers` processes (0: one a core) do it here.

    Raises `UserError` where the cluster does not answer, has no worker, or does not see the runs' folder.
    """
    if not tasks:
        return {}
    with connected(scheduler, workers) as client:
        require_sight(client, next(iter(tasks)).root, scheduler)
        futures: dict[Variant, Future] = {}
        for variant, before in tasks.items():
            needed = [futures[other] for other in before if other in futures]
            key = f"{FOLDER}-{variant.name}-{variant.seed}-{uuid.uuid4().hex}"  # never what a cluster remembers
            futures[variant] = client.submit(bring_up_to_date, variant, *needed, key=key, retries=RETRIES)
        return outcomes(futures)


def outcomes(futures: Mapping[Variant, Future]) -> dict[Variant, str]:
    """Wait for all, and say of each as it comes what became of it."""
    variants = {future.key: variant for variant, future in futures.items()}
    found: dict[Variant, str] = {}
    started = time.monotonic()
    for future in as_completed(futures.values()):
        variant = variants[future.key]
        failed = future.status != "finished"
        found[variant] = f"{type(future.exception()).__name__}: {future.exception()}" if failed else future.result()
        spent = time.monotonic() - started
        left = spent / len(found) * (len(futures) - len(found))
        told = f"cannot be run: {found[variant]}" if found[variant] else "done"
        say(f"{FOLDER}: {variant.name}, seed {variant.seed}: {told} ({len(found)} of {len(futures)}; "
            f"{time_text(spent)} so far, about {time_text(left)} left)")  # fmt: skip
    return found


@contextlib.contextmanager
def connected(scheduler: str, workers: int) -> Iterator[Client]:
    """A client of the user's cluster, or of one in processes of this machine, one thread each."""
    if scheduler:
        try:
            client = Client(scheduler, timeout=SECONDS_TO_CONNECT)
        except (OSError, ValueError) as error:
            raise UserError(f"--scheduler {scheduler} does not answer ({error}): name a running one") from None
        with client:
            yield client
        return
    # The dashboard, which is there where bokeh is installed, has any free port of this machine alone. No limit of
    # memory: the port keeps below 4 GiB, and a nanny that kills a run for what it needs would kill it again.
    cluster = LocalCluster(
        n_workers=workers or os.cpu_count(),
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        memory_limit=None,
        silence_logs=logging.CRITICAL,
    )
    with cluster, Client(cluster) as client:
        yield client


def require_sight(client: Client, root: Path, scheduler: str) -> None:
    """Stop where a cluster has no worker, its workers lack this program, or do not see the runs' folder."""
    where = f"--scheduler {scheduler}" if scheduler else "the local cluster"
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
        seen = client.run(sees, str(root / "torch" / "spec.json"))
        programs = client.run(program)
    except TimeoutError:
        raise UserError(f"{where} has no worker: start one") from None
    except ImportError as error:
        raise UserError(f"{where}: a worker lacks this program ({error}): start it with PYTHONPATH on it") from None
    if blind := [address for address, sight in seen.items() if not sight]:
        raise UserError(f"{where}: worker {blind[0]} does not see {root}: its machine must share this file system")
    if other := [address for address, sha256 in programs.items() if sha256 != PROGRAM]:
        raise UserError(f"{where}: worker {other[0]} began with another version of this program: start it again")
    # A process does one run at a time (variants.ONE_AT_A_TIME): its other threads would only wait.
    if wide := [address for address, threads in client.nthreads().items() if threads > 1]:
        raise UserError(f"{where}: worker {wide[0]} has several threads: start it with --nthreads 1")


def sees(path: str) -> bool:
    """Whether a file is there, asked on a worker."""
    return Path(path).is_file()


def program() -> str:
    """The program that a worker began with."""
    return PROGRAM


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)
