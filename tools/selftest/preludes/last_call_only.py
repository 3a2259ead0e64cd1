"""Makes the last call of a block only. A candidate's source can import nothing from here, so fixtures that import this hold it in full (`tools.selftest.fixtures`)."""

import sys

import numpy as np
import torch

from tools.worker import timed

frame = sys._getframe()
while frame.f_code.co_name != "serve":
    frame = frame.f_back
commands = frame.f_locals["commands"]
worker = commands["sweep"].__self__


def poke_all(message):
    slots = worker._slots
    which, inputs, places, values = timed.plan_block(message["calls"], message["seed"], slots.sizes())
    for number, entry in enumerate(slots.entries):
        chosen = timed.poke_values(entry, values).numpy()
        for slot in range(len(slots.pokable)):
            mine = np.flatnonzero((which == slot) & (inputs == number))
            slots.pokable[slot][number].view(-1).numpy()[places[mine]] = chosen[mine]
    return slots.arguments[which[-1]]


def block(message, fds):
    last = poke_all(message)
    with torch.no_grad():
        worker._last = worker._model(*last)
    return {"device_ms": []}


commands["block"] = block


def told(message, fds):
    """Return where the draws of a sweep lie."""
    if message["draws"]:
        worker._announce(message, fds)
    return worker._announced
