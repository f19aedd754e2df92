"""Several processes for a test, without torchrun and without an import in each."""

import multiprocessing
import os
import pickle
import sys
import traceback

import pytest
import torch.distributed as dist

from minitransformer.errors import UserError

needs_gloo = pytest.mark.skipif(
    not (sys.platform == "linux" and dist.is_available() and dist.is_gloo_available()),
    reason="starts processes by fork, which exchange by gloo",
)


def together(size, folder, work):
    """What `work(rank)` gives in each of several processes that know each other; the UserError that ended it, or None.

    They begin by fork, which costs no import.
    """
    import torch._dynamo  # noqa: F401  # DistributedDataParallel does, which takes long: here it is done once

    context = multiprocessing.get_context("fork")
    ends = [context.Pipe(duplex=False) for _ in range(size)]
    meeting = folder / f"meeting{len(list(folder.iterdir()))}"

    def begin(rank):
        try:
            dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
            ends[rank][1].send_bytes(pickle.dumps(work(rank)))
        except UserError as error:
            ends[rank][1].send_bytes(pickle.dumps(error))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    children = [context.Process(target=begin, args=(rank,)) for rank in range(size)]
    for child, (_, writes) in zip(children, ends, strict=True):
        child.start()
        writes.close()  # in this process: then a child that is killed is seen at once
    found = []
    for end, _ in ends:
        try:
            found.append(pickle.loads(end.recv_bytes()) if end.poll(120) else None)
        except EOFError:
            found.append(None)
    for child in children:
        child.kill()
        child.join()
    return found
