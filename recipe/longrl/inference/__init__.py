"""Fixed weights answer rows of a dataset on vLLM replicas: used by hard mining."""
