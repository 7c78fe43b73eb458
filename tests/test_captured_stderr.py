"""Closing all log handlers, as importing vLLM does, leaves pytest's capture alone: see conftest.py."""

import sys

from absl import logging


def test_absl_closes_no_captured_stream(capsys):
    handler = logging.get_absl_handler().python_handler
    assert handler.stream is sys.__stderr__ is not sys.stderr
    handler.close()
    assert not sys.__stderr__.closed
