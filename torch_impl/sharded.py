"""The stage features by several processes: `torchrun --nproc-per-node N -m torch_impl.sharded RUN`.

RUN needs its stages index and images, in one folder that all processes see. What is written is what one process writes
with the same engine and as many threads as each of these has, bit for bit and with the same key.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn, cast

import torch
import torch.distributed as dist

from experiment.artifacts import RunFolder, sha256_json
from experiment.errors import UserError, run_command
from experiment.pipeline import Stage, check_spec, code_hashes, machine
from experiment.pipeline import main as run_stages
from experiment.stage_writer import StageWriter
from torch_impl import features, shards
from torch_impl.__main__ import MODULES, set_threads, versions


def main() -> NoReturn:
    """The command line of every process, which ends here where all went well."""
    parser = argparse.ArgumentParser(prog="torchrun -m torch_impl.sharded", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--engine", default="auto", help="as of python -m torch_impl")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each process")
    arguments = parser.parse_args()
    set_threads(arguments)
    if not dist.is_torchelastic_launched():
        raise UserError("torch_impl.sharded is for torchrun: `torchrun --nproc-per-node 2 -m torch_impl.sharded RUN`")
    dist.init_process_group("gloo")
    run = RunFolder(arguments.run)
    check_spec(run)
    engine = features.engine(arguments.engine, "")
    require_alike({"spec": run.spec["sha256"], "engine": engine, "versions": versions()})
    if dist.get_rank():
        features.serve(Stage("features", run, run, None, cast(StageWriter, None), engine=engine["engine"]))  # no output
    else:
        # torchrun gives each process one thread where it is not told otherwise: the manifest has how many there are.
        options = ["--only", "features", "--engine", engine["engine"], "--threads", str(torch.get_num_threads())]
        run_stages("torch", MODULES, versions, [str(run.path), *options], before=set_threads)
        shards.announce(shards.LAST)
    dist.barrier()
    # All is on the disk, and no process needs another any more. On the way out gloo has ended a process with SIGABRT
    # ("terminate called without an active exception"): in 2 of 20 runs without the barrier, and once with it. So the
    # system takes its threads down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def require_alike(parts: dict[str, object]) -> None:
    """Stop where the processes have not all the same program, versions, engine, processor and specification."""
    parts = {
        **parts,
        "code": code_hashes("features", MODULES),
        "threads": torch.get_num_threads(),
        "machine": machine(),
    }
    digest = torch.frombuffer(bytearray.fromhex(sha256_json(parts)), dtype=torch.uint8)
    found = [torch.empty_like(digest) for _ in range(shards.count())]
    dist.all_gather(found, digest)
    if any(not torch.equal(one, found[0]) for one in found):
        raise UserError(
            "the processes differ in program, versions, engine, threads, processor or run: give them all the same"
        )


if __name__ == "__main__":
    run_command(main)
