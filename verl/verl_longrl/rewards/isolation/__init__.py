"""Run scorers in separate processes: a pool of workers, each killed at its deadline."""
