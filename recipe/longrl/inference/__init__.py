"""Answer rows of a dataset with fixed weights on vLLM replicas; used by hard mining."""
