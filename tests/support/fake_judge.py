"""Judges for `fake_openai_server.Server`: they read the prompt that they are sent and reply in its form."""

import re


def read_question(body):
    """(mark, reference, candidate) of a request in the fenced prompt."""
    system, user = (message["content"] for message in body["messages"])
    mark = re.search(r"BEGIN TASK (\w+)", system)[1]
    reference = re.search(rf"Reference answer:\n(.*?)\nEND TASK {mark}", user, re.DOTALL)[1]
    candidate = re.search(rf"quoted:\nBEGIN {mark}\n(.*?)\nEND {mark}", user, re.DOTALL)[1]
    return mark, reference, candidate


def lenient(body):
    """SAME for a candidate that contains the reference."""
    mark, reference, candidate = read_question(body)
    return f"I compare.\nVERDICT-{mark}: {'SAME' if reference in candidate else 'DIFFERENT'}"


def strict(body):
    """DIFFERENT for every candidate."""
    return f"VERDICT-{read_question(body)[0]}: DIFFERENT"
