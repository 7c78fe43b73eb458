"""Diagnose what a model can and cannot do: pass rates, failure modes, and task weights for the next round."""
