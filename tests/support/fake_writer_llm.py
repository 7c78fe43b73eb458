"""A fake of the LLM that the multitask pipeline talks to: it writes questions and summaries, answers and rates them.

It stands for a capable writer and verifier, so that a whole pipeline can run on one machine: it recognises the facts of
`planted_fact_docs.py` by their wording. A reply is a function of the request alone (its seed included). `KNOWN` is the
one name that it gives without having seen the text, so that questions about it are dropped as known.

`MisbehavingWriter` is `fake_pipeline_llm.Misbehaving` with the troubles of written samples.
"""

import json
import random
import re

from support import fake_pipeline_llm
from support.planted_fact_docs import FACT

LARGER = re.compile(r"Who has the larger (\w+) number, (\w+) or (\w+)\?")
LARGEST = re.compile(r"Whose (\w+) number is the largest of these\?")
OPTION = re.compile(r"^\(([A-D])\) (\w+)$", re.MULTILINE)
CLOSING = "\n\n(The text ends here.)\n\n"
KNOWN = "Adler"


def facts_in(text):
    """{topic: {name: (value, sentence)}}, of the last mention each."""
    facts = {}
    for match in FACT.finditer(text):
        facts.setdefault(match[1], {})[match[2]] = int(match[3]), match[0]
    return facts


def write_question(body, text, instruction):
    """A question about which of two people (of four, as options) has the largest number of a topic."""
    draw = random.Random(body["seed"])
    count = 4 if "multiple-choice" in instruction else 2
    topics = {topic: people for topic, people in facts_in(text).items() if len(people) >= count}
    topic = draw.choice(sorted(topics))
    people = topics[topic]
    names = draw.sample(sorted(people), count)
    best = max(names, key=lambda name: people[name][0])
    others = [name for name in names if name != best]
    common = {"answer": best, "evidence": [people[name][1] for name in names], "explanation": "They are compared."}
    if count == 4:
        return {"question": f"Whose {topic} number is the largest of these?", "distractors": others, **common}
    question = f"Who has the larger {topic} number, {names[0]} or {names[1]}?"
    return {"question": question, "aliases": [f"Mr. {best}"], "wrong": others[0], **common}


def write_summaries(body, text, instruction):
    """As many as the instruction says, made of sentences of the text and about as long as it says."""
    number, length = map(int, re.search(r"Write (\d+) summar.*about (\d+) words", instruction, re.DOTALL).groups())
    draw, sentences = random.Random(body["seed"]), [match[0] for match in FACT.finditer(text)]
    summaries = []
    for _ in range(number):
        words = " ".join(draw.choices(sentences, k=length)).split()
        summaries.append(" ".join(words[:length]))
    return {**({"focus": "the numbers"} if '"focus"' in instruction else {}), "summaries": summaries}


def rate_summary(text, instruction):
    """High if the summary states facts of the text only, low if it states others or none."""
    facts = FACT.findall(instruction)
    good = bool(facts) and all(name in facts_in(text)[topic] for topic, name, _ in facts)
    return {"remark": "fine", "coverage": 8 if good else 2, "faithfulness": 9 if good else 1}


def answer_question(content):
    """The right answer if the text is shown; without it, KNOWN where that is a choice."""
    text, closing, question = content.rpartition(CLOSING)
    options = dict(OPTION.findall(question))
    topic, *names = (LARGER.search(question) or LARGEST.search(question)).groups()
    names = names or list(options.values())
    if closing:
        best = max(names, key=lambda name: facts_in(text)[topic][name][0])
    else:
        best = KNOWN if KNOWN in names else "nobody"
    if not options:
        return f"I compare them.</think>\n[Answer]\n{best}"
    letters = [letter for letter, name in options.items() if name == best]
    return f"I compare them.</think>\nThe correct answer is ({letters[0] if letters else 'E'})"


def grade_answer(body):
    """SAME if the candidate contains one of the accepted answers."""
    fence, reference, candidate = fake_pipeline_llm.read_grading(body)
    same = any(name in candidate for name in reference.split(" | "))
    return f"VERDICT-{fence}: {'SAME' if same else 'DIFFERENT'}"


def honest_reply(body):
    """The text of a well-behaved reply to any prompt of the pipeline."""
    prompt = body["messages"][0]["content"]
    if prompt.startswith("You grade answers"):
        return grade_answer(body)
    text, _, instruction = prompt.rpartition(CLOSING)
    if "You write exam questions" in instruction:
        return json.dumps(write_question(body, text, instruction))
    if "You write reference summaries" in instruction:
        return json.dumps(write_summaries(body, text, instruction))
    if "Below is a summary" in instruction:
        return json.dumps(rate_summary(text, instruction))
    asked = LARGER.search(instruction) or LARGEST.search(instruction)
    return answer_question(prompt) if asked else '{"ok": true}'


class MisbehavingWriter(fake_pipeline_llm.Misbehaving):
    """Also with quotes that are not in the text, and with questions that mention excerpts."""

    KINDS = ("truncated", "fenced", "reasoning", "quotes", "excerpts", "skipped")
    honest_reply = staticmethod(honest_reply)

    def bad_content(self, kind, body, text):
        value = json.loads(text)
        match kind:
            case "quotes" if "evidence" in value:
                return json.dumps(value | {"evidence": [*value["evidence"], "Nobody has ever said this sentence."]})
            case "excerpts" if "question" in value:
                return json.dumps(value | {"question": f"In the excerpt, {value['question']}"})
            case "skipped" if "question" in value:
                return json.dumps(value | {"question": "SKIPPED"})
            case "truncated" | "fenced" | "reasoning":
                return super().bad_content(kind, body, text)
        return text
