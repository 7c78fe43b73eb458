"""A model's stand-in for written tasks: it knows the facts of `planted_fact_docs.py`'s documents by their wording,
writes questions and summaries about them, answers and rates them, and misbehaves when told to.

What it says is a function of the request alone (its seed included). Transport failures strike the first time a request
is seen.
"""

import json
import random
import re

from support import fake_pipeline_llm
from support.fake_openai_server import Server, reply

FACT = re.compile(r"The (\w+) number of (\w+) is (\d+)\.")
LARGER = re.compile(r"Who has the larger (\w+) number, (\w+) or (\w+)\?")
LARGEST = re.compile(r"Whose (\w+) number is the largest of these\?")
OPTION = re.compile(r"^\(([A-D])\) (\w+)$", re.MULTILINE)
CLOSING = "\n\n(The text ends here.)\n\n"
KNOWN = "Adler"
"""Whom it knows without any text."""


def facts(text):
    """{topic: {name: (value, sentence)}}, of the last mention each."""
    found = {}
    for fact in FACT.finditer(text):
        found.setdefault(fact[1], {})[fact[2]] = int(fact[3]), fact[0]
    return found


def question(body, text, instruction):
    """Who of two, or of four, has the largest number of a topic."""
    draw = random.Random(body["seed"])
    wanted = 4 if "three wrong ones" in instruction else 2
    topics = {topic: people for topic, people in facts(text).items() if len(people) >= wanted}
    topic = draw.choice(sorted(topics))
    people = topics[topic]
    named = draw.sample(sorted(people), wanted)
    best = max(named, key=lambda name: people[name][0])
    others = [name for name in named if name != best]
    made = {"answer": best, "evidence": [people[name][1] for name in named], "explanation": "They are compared."}
    if wanted == 4:
        return {"question": f"Whose {topic} number is the largest of these?", "distractors": others, **made}
    asked = f"Who has the larger {topic} number, {named[0]} or {named[1]}?"
    return {"question": asked, "aliases": [f"Mr. {best}"], "wrong": others[0], **made}


def summaries(body, text, instruction):
    """As many as asked for, of sentences of the text, each of about the length asked for."""
    number, words = map(int, re.search(r"Write (\d+) of.*about (\d+) words", instruction, re.DOTALL).groups())
    draw, sentences = random.Random(body["seed"]), [fact[0] for fact in FACT.finditer(text)]
    made = []
    for _ in range(number):
        said = " ".join(draw.choices(sentences, k=words)).split()
        made.append(" ".join(said[:words]))
    return {**({"focus": "the numbers"} if '"focus"' in instruction else {}), "summaries": made}


def answer(content):
    """Reads the text; without one it guesses, and knows one name."""
    text, shown, asked = content.rpartition(CLOSING)
    options = dict(OPTION.findall(asked))
    topic, *named = (LARGER.search(asked) or LARGEST.search(asked)).groups()
    named = named or list(options.values())
    if not shown:
        best = KNOWN if KNOWN in named else "nobody"
    else:
        best = max(named, key=lambda name: facts(text)[topic][name][0])
    if not options:
        return f"I compare them.</think>\n[Answer]\n{best}"
    letters = [letter for letter, name in options.items() if name == best]
    return f"I compare them.</think>\nThe correct answer is ({letters[0] if letters else 'E'})"


def verdict(body):
    content = body["messages"][1]["content"]
    mark = re.search(r"VERDICT-(\w+): SAME", content)[1]
    references = re.search(r"Reference answer:\n(.*)", content)[1].split(" | ")
    candidate = re.findall(rf"BEGIN {mark}\n(.*?)\nEND {mark}", content, re.DOTALL)[-1]
    return f"VERDICT-{mark}: {'SAME' if any(name in candidate for name in references) else 'DIFFERENT'}"


def sensible(body):
    """The text of a well-behaved reply to any prompt of the pipeline."""
    first = body["messages"][0]["content"]
    if first.startswith("You grade answers"):
        return verdict(body)
    text, _, asked = first.rpartition(CLOSING)
    if "You write examination questions" in asked:
        return json.dumps(question(body, text, asked))
    if "You write reference summaries" in asked:
        return json.dumps(summaries(body, text, asked))
    if "Below is a summary" in asked:
        said = FACT.findall(asked)
        good = bool(said) and all(name in facts(text)[topic] for topic, name, _ in said)
        return json.dumps({"remark": "fine", "coverage": 8 if good else 2, "faithfulness": 9 if good else 1})
    return answer(first) if LARGER.search(asked) or LARGEST.search(asked) else '{"ok": true}'


class Misbehaving(fake_pipeline_llm.Misbehaving):
    """Every kind of trouble in `share` of the requests each: 429 with Retry-After, 500, a connection that hangs (once
    for each request); JSON that is truncated, fenced or behind reasoning, quotes that are not in the text, talk of
    excerpts, no question."""

    KINDS = ("truncated", "fenced", "reasoning", "quotes", "excerpts", "skipped")

    def __init__(self, share=0.06, hang_s=30.0):
        super().__init__(share, hang_s)
        self.did = dict.fromkeys(("429", "500", "hang", *self.KINDS), 0)

    def content(self, body):
        text = sensible(body)
        if not text.startswith("{"):
            return text
        found = json.loads(text)
        match self._pick(body, "content", self.KINDS):
            case "truncated":
                return reply(
                    text[: len(text) // 2], "length" if fake_pipeline_llm.chance(body, "cut") < 0.5 else "stop"
                )
            case "fenced":
                return f"Here it is:\n```json\n{json.dumps(found, indent=1)}\n```\nI hope it helps."
            case "reasoning":
                return '<think>Something like {"question": "no", "evidence": []}? {a}</think>\n' + text
            case "quotes" if "evidence" in found:
                return json.dumps(found | {"evidence": [*found["evidence"], "Nobody has ever said this sentence."]})
            case "excerpts" if "question" in found:
                return json.dumps(found | {"question": f"In the excerpt, {found['question']}"})
            case "skipped" if "question" in found:
                return json.dumps(found | {"question": "SKIPPED"})
        return text


def serve(behave=None) -> Server:
    """A server of this model, sensible or with `behave`; to be closed."""
    server = Server()
    server.honest = sensible
    if behave:
        server.behave = behave
    return server
