"""Demonstrations for a cold start: written from gold evidence, or chosen among the responses of a model."""
