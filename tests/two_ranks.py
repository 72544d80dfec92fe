"""A function in two processes that talk by gloo."""

import multiprocessing
import os
import socket
from contextlib import closing

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fna_lightning.modules", "fna_lightning.detectors", "fna_lightning.data"])


def in_two(function, *arguments):
    """[function(rank, *arguments) as rank 0 gives it, as rank 1 gives it]; what either raises is raised."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = CONTEXT.Queue()
    processes = [CONTEXT.Process(target=_rank, args=(rank, port, queue, function, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    found = {}
    try:
        for _ in processes:
            rank, result = queue.get(timeout=120)
            if isinstance(result, BaseException):
                raise result  # the other rank may wait for this one
            found[rank] = result
    finally:
        for process in processes:
            process.join(30 if len(found) == len(processes) else 0)
            process.kill()
    return [found[rank] for rank in range(2)]


def _rank(rank, port, queue, function, arguments):
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        result = function(rank, *arguments)
    except Exception as error:
        result = error
    queue.put((rank, result))
