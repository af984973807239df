"""Batches shared out among processes: the first one (rank 0) keeps what all of them compute.

Batch i is computed by process i mod n, so that every batch holds the rows that it holds where one process computes all
of them, and has the same bits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist

LAST = -1  # the number of the job that means that there is none left

Compute = Callable[[slice], np.ndarray]  # computes a batch: its rows, to (rows, D)


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def lead(job: int, left: Sequence[slice], cuts: Iterable[slice], out: np.ndarray, compute: Compute) -> None:
    """As the first process: fill `out` (n, D) batch by batch with what all processes compute.

    job : its number, by which the others know it. left : the batches. cuts : the same, to be taken one by one.
    """
    announce(job, left)
    for i, rows in enumerate(cuts):
        if owner := i % count():
            received = torch.from_numpy(np.empty_like(out[rows]))
            dist.recv(received, src=owner)
            out[rows] = received.numpy()
        else:
            out[rows] = compute(rows)


def announce(job: int, left: Sequence[slice] = ()) -> None:
    """Tell the others what is to be done; `LAST` lets them go."""
    dist.broadcast(torch.tensor([job, len(left)]), src=0)
    if left:
        dist.broadcast(torch.tensor([[rows.start, rows.stop] for rows in left]), src=0)


def jobs() -> Iterator[tuple[int, list[slice]]]:
    """As another process: the jobs, with this process's batches of each."""
    while True:
        head = torch.empty(2, dtype=torch.int64)
        dist.broadcast(head, src=0)
        job, n = head.tolist()
        if job == LAST:
            return
        batches = torch.empty((n, 2), dtype=torch.int64)
        if n:
            dist.broadcast(batches, src=0)
        yield job, [slice(*batch) for batch in batches[dist.get_rank() :: count()].tolist()]


def follow(batches: Iterable[slice], compute: Compute) -> None:
    """As another process: compute its batches of a job and send each while the next is computed."""
    sent = None
    for rows in batches:
        found = torch.from_numpy(compute(rows))
        if sent is not None:
            sent.wait()
        sent = dist.isend(found, dst=0)
    if sent is not None:
        sent.wait()
