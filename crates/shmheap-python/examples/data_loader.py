"""Worker processes make batches, a trainer uses them, and nothing is copied in between.

    python data_loader.py

A worker fills an array that lies in the heap, and sends it: what changes hands is the object, not
its bytes. When the trainer has let go of a batch, its memory is free for the next one. In the
middle of it all a worker is killed. It takes along the batch that it had in hand, and no other: the
trainer asks for that one again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.context import SpawnProcess

import numpy as np

import shmheap

WORKERS = 3
BATCHES = 60
SHAPE = (32, 64, 64, 3)
#: Batches that wait for the trainer at the most: what the heap has to hold, and a little more.
AHEAD = 8
#: The batch over which a worker dies.
FATAL = BATCHES // 2
#: How long the trainer waits before it looks whether a batch was lost.
PATIENCE_S = 0.2


def work(heap: shmheap.Heap) -> None:
    """Makes the batches that are asked for, until nobody asks any more."""
    wanted = heap.channel("wanted", BATCHES, item_size=8)
    batches = heap.channel("batches", AHEAD)
    deaths = heap.map("deaths")
    for message in wanted:
        number = int.from_bytes(message, "little")
        batch = batches.array(SHAPE, "f4")
        batch[:] = number  # load, decode, augment
        if number == FATAL and deaths.pop("to come", None) is not None:
            os.kill(os.getpid(), signal.SIGKILL)  # whoever makes this one first
        batches.send(batch)


def train(heap: shmheap.Heap, workers: list[SpawnProcess]) -> tuple[set[int], int]:
    """Uses all batches; returns which, and how many had to be asked for again."""
    wanted = heap.channel("wanted", BATCHES, item_size=8)
    batches = heap.channel("batches", AHEAD)
    used: set[int] = set()
    again = deaths = 0
    while len(used) < BATCHES:
        try:
            batch = batches.recv(timeout=PATIENCE_S)
        except shmheap.TimedOut:
            dead = sum(worker.exitcode is not None for worker in workers)
            if dead > deaths and len(wanted) == 0:  # nobody else is asked for what is missing
                deaths = dead
                for number in set(range(BATCHES)) - used:
                    wanted.send(number.to_bytes(8, "little"))
                    again += 1
            continue
        number = int(batch[0, 0, 0, 0])
        assert batch.mean() == number, "as it was sent"
        used.add(number)  # a step of training
        del batch  # its memory is the next one's
    wanted.close()
    return used, again


def main() -> None:
    bytes_of_batches = (AHEAD + WORKERS + 2) * int(np.prod(SHAPE)) * 4
    with shmheap.create_memfd(2 * bytes_of_batches) as heap:
        wanted = heap.channel("wanted", BATCHES, item_size=8)
        for number in range(BATCHES):
            wanted.send(number.to_bytes(8, "little"))
        heap.map("deaths")["to come"] = b"1"
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=work, args=(heap,)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        used, again = train(heap, workers)
        for worker in workers:
            worker.join()
        killed = sum(worker.exitcode == -signal.SIGKILL for worker in workers)
        print(f"{len(used)} batches used, {again} asked for again, {killed} worker killed")
        heap.sweep()
        print(f"{len(heap.channel('batches'))} left in the channel; sound: {heap.check().is_sound}")


if __name__ == "__main__":
    main()
