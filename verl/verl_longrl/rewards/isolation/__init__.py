"""Scorers in processes of their own: a pool of workers, each killed at its deadline."""
