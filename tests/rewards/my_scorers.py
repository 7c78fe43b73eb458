"""A user's scorers, as the tests of isolation and the registry load them: one that does what the response
says."""

import ast
import contextlib
import ctypes
import json
import os
import pickle
import re
import socket
import struct
import sys
import time
from pathlib import Path

from verl_longrl.rewards import Score, scorer


class Unreadable:
    """Pickles; unpickling raises."""

    def __reduce__(self):
        return int, ("not a number",)


class Forged:
    """Unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def send(message):
    """Send to every connection of this process, as multiprocessing would."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, struct.pack("!i", len(message)) + message)


@scorer("probe", patterns=("probe_*",))
def probe(response, ground_truth, extra_info, options):
    if response == "regex":
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif response == "power":
        9**9**9**9
    elif response == "sympy":
        import sympy

        sympy.sympify("9**9**9**9")
    elif response == "loop":
        while True:
            pass
    elif response == "exit":
        os._exit(int(ground_truth))
    elif response == "sys.exit":
        sys.exit(1)
    elif response == "raise":
        raise KeyError("a bug in the scorer")
    elif response == "memory":
        bytearray(2**45)
    elif response == "nothing":
        return None
    elif response == "lambda":
        return Score(1.0, candidate=lambda: 0)
    elif response == "unreadable":
        return Score(1.0, candidate=Unreadable())
    elif response == "forged":  # what another process would run, were it to unpickle what it is sent
        send(pickle.dumps(Forged(ground_truth)))
    elif response == "sends":
        send(ground_truth)
    elif response == "too much":
        return Score(1.0, candidate="x" * (65 << 20))
    elif response == "connect":
        socket.create_connection(ast.literal_eval(ground_truth), timeout=5)
    elif response == "connect by the kernel alone":
        address = ast.literal_eval(ground_truth)
        packed = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(address[1]), socket.inet_aton(address[0]))
        libc = ctypes.CDLL(None)
        return Score(float(libc.connect(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0), packed, 16)))
    elif response == "environment":
        return Score(1.0, candidate=json.dumps(dict(os.environ)))
    elif response == "privileges":
        return Score(float("NoNewPrivs:\t1\n" in Path("/proc/self/status").read_text()), {"user": os.getuid()})
    elif response == "own parts":
        return Score(1.0, {"answer": 1.0, "hops": 2, "depth": 0.5})
    elif response == "pid":
        return Score(float(os.getpid()))
    elif response == "sleep":
        time.sleep(float(ground_truth))
    elif response == "imported":
        return Score(float(ground_truth in sys.modules))
    elif response == "modules":
        heavy = [name for name in ("torch", "ray", "verl", "openai", "numpy", "pandas") if name in sys.modules]
        return Score(float(len(heavy)), {}, "ok", " ".join(heavy))
    return Score(1.0, {"answer": 1.0})
