"""Faults that happen to a real run, and what must hold of it afterwards: the parts of `scripts/chaos.py`.

`world` says what is trained, `replay` makes the rollouts of all runs the same, `trial` is one run from its first start
to its end, `processes` and `witness` see what it does meanwhile, `moments`, `actions` and `kinds` say what happens to
it, `invariants` what is looked at in the end, and `campaign` puts them together.
"""
