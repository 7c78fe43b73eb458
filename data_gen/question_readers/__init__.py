"""Readers of question sets: each layout in which data sets publish questions gives the same kind of question."""
