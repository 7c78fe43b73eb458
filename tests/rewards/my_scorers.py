"""A user's scorers, as the tests of isolation and the registry load them: one that does what the response
says."""

import os
import re
import sys
import time

from verl_longrl.rewards import Score, scorer


class Unreadable:
    """Pickles; unpickling raises."""

    def __reduce__(self):
        return int, ("not a number",)


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
