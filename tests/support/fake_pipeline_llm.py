"""A fake of the LLM that the grounding pipeline talks to: it writes, rates, answers and grades questions.

It stands for a capable model, so that a whole pipeline can run on one machine: it recognises the facts of
`planted_fact_docs.py` by their wording and answers every prompt of the pipeline correctly. A reply is a function of the
request alone (its seed included), so a run that was killed and resumed gets the same replies as an undisturbed one.

`Misbehaving` stands for a real server under load and a real model at a high temperature: the same replies, mixed with
transport failures and malformed JSON.
"""

import hashlib
import json
import random
import re

from support.fake_openai_server import failure, reply
from support.planted_fact_docs import FACT

EXCERPT = re.compile(r"\[Excerpt (\d+)\]\n(.*?)(?=\n\n\[Excerpt |\n\nQuestion: |\Z)", re.DOTALL)
QUESTION = re.compile(r"What are the (\w+) numbers of (\w+) and of (\w+)\?")


def write_question(body):
    """A question about two facts of a topic, from two excerpts; SKIPPED if there are none."""
    draw = random.Random(body["seed"])
    matches = [(int(number), FACT.search(text)) for number, text in EXCERPT.findall(body["messages"][1]["content"])]
    facts = [(number, match) for number, match in matches if match]
    pairs = [(a, b) for a in facts for b in facts if a[0] < b[0] and a[1][1] == b[1][1] and a[1][2] != b[1][2]]
    if not pairs:
        return {"question": "SKIPPED", "answer": "", "evidence": [], "explanation": "no two facts"}
    (i, a), (j, b) = draw.choice(pairs)
    return {
        "question": f"What are the {a[1]} numbers of {a[2]} and of {b[2]}?",
        "answer": f"{a[3]} and {b[3]}",
        "evidence": [i, j],
        "explanation": f"Excerpt {i} gives {a[3]}, excerpt {j} gives {b[3]}.",
    }


def rate_question(body):
    """9.5 (for every fourth seed 8) if the evidence contains both numbers of the answer, else 3."""
    content = body["messages"][1]["content"]
    excerpts = dict(EXCERPT.findall(content))
    evidence = re.findall(r"\d+", content.rpartition("Evidence: ")[2])
    answer = re.findall(r"\d+", re.search(r"Reference answer: (.*)", content)[1])
    good = all(any(f"is {value}." in excerpts[i] for i in evidence) for value in answer)
    score = (8.0 if random.Random(body["seed"]).random() < 0.25 else 9.5) if good else 3.0
    criteria = dict.fromkeys(("challenge", "correctness", "completeness", "clarity", "necessity"), score)
    return {**criteria, "remark": "fine" if good else "the evidence does not contain the answer", "score": score}


def answer_question(body):
    """The right answer for 60 % of the seeds if the document is shown; without a document, an admission."""
    content = body["messages"][0]["content"]
    topic, *names = QUESTION.search(content).groups()
    facts = {(t, n): value for t, n, value in FACT.findall(content)}
    if not facts:
        return "I was not given a document.\nAnswer: unknown"
    right = random.Random(body["seed"]).random() < 0.6
    return f"Let me see.\nAnswer: it is {' and '.join(facts[topic, name] if right else '0' for name in names)}"


def read_grading(body):
    """The fence, reference answer and candidate answer of a judge's prompt."""
    content = body["messages"][1]["content"]
    fence = re.search(r"VERDICT-(\w+): SAME", content)[1]
    candidates = re.findall(rf"BEGIN {fence}\n(.*?)\nEND {fence}", content, re.DOTALL)
    return fence, re.search(r"Reference answer:\n(.*)", content)[1], candidates[-1]


def grade_answer(body):
    """SAME if the candidate has the numbers of the reference, in their order."""
    fence, reference, candidate = read_grading(body)
    same = re.findall(r"\d+", reference) == re.findall(r"\d+", candidate)
    return f"They are compared.\nVERDICT-{fence}: {'SAME' if same else 'DIFFERENT'}"


def honest_reply(body):
    """The text of a well-behaved reply to any prompt of the pipeline."""
    prompt = body["messages"][0]["content"]
    if prompt.startswith("You write exam questions"):
        return json.dumps(write_question(body))
    if prompt.startswith("You review exam questions"):
        return json.dumps(rate_question(body))
    if prompt.startswith("You grade answers"):
        return grade_answer(body)
    return answer_question(body) if QUESTION.search(prompt) else '{"ok": true}'


def chance(body, salt):
    """A number from 0 to 1 that is a function of the request."""
    data = json.dumps([body, salt], sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big") / 2**32


class Misbehaving:
    """A server's `behave` that gives honest replies, but each kind of trouble in `share` of the requests.

    Transport failures (429 with Retry-After, 500, a connection that hangs) occur the first time a request is seen, so a
    retry succeeds. Bad content, of replies in JSON: truncated, fenced, after reasoning with braces in it, with evidence
    out of range, skipped. `occurred` counts each kind.
    """

    KINDS = ("truncated", "fenced", "reasoning", "evidence", "skipped")
    honest_reply = staticmethod(honest_reply)

    def __init__(self, share=0.06, hang_s=30.0):
        self.share, self.hang_s, self.seen = share, hang_s, set()
        self.occurred = dict.fromkeys(("429", "500", "hang", *self.KINDS), 0)

    def __call__(self, body, n):
        key = json.dumps(body, sort_keys=True)
        if key not in self.seen:
            self.seen.add(key)
            match self._pick(body, "transport", ("429", "500", "hang")):
                case "429":
                    return failure(429, "slow down", {"Retry-After": "0.05"})
                case "500":
                    return failure(500)
                case "hang":
                    return self.hang_s
        return self.content(body)

    def content(self, body):
        """The honest reply, or one with bad content."""
        text = self.honest_reply(body)
        if not text.startswith("{"):
            return text
        kind = self._pick(body, "content", self.KINDS)
        return self.bad_content(kind, body, text) if kind else text

    def bad_content(self, kind, body, text):
        """The reply, which is JSON, with this kind of trouble in it."""
        match kind:
            case "truncated":
                return reply(text[: len(text) // 2], "length" if chance(body, "cut") < 0.5 else "stop")
            case "fenced":
                return f"Here it is:\n```json\n{json.dumps(json.loads(text), indent=1)}\n```\nI hope it helps."
            case "reasoning":
                return '<think>Something like {"question": "no", "answer": "no", "evidence": []}? {a}</think>\n' + text
            case "evidence" if '"evidence"' in text:
                return json.dumps(json.loads(text) | {"evidence": [0, 99]})
            case "skipped" if '"evidence"' in text:
                return json.dumps({"question": "SKIPPED", "answer": "", "evidence": [], "explanation": "no"})
        return text

    def _pick(self, body, salt, kinds):
        place = int(chance(body, salt) / self.share)
        if place >= len(kinds):
            return None
        self.occurred[kinds[place]] += 1
        return kinds[place]
