"""Samples, on disk and on their way to the trainer: schema, prompt contract, validation, prompt lengths, data set."""
