"""Faults in a real run, and what must hold of the run afterwards: the parts of `scripts/chaos.py`.

`small_run` configures the training, `rollout_replay` makes the rollouts of all runs the same, and `trial` is one run
from its first start to its end. `processes` and `leak_monitor` observe its processes. `moments`, `actions` and
`catalog` define the faults, `invariants` checks the result, and `campaign` runs everything.
"""
