"""A model's stand-in for the data pipeline: it reads the prompts, answers them sensibly, and misbehaves when told to.

It knows the facts of `planted_fact_docs.py`'s documents by their wording. What it answers is a function of the
request alone (its seed included), so an undisturbed run and one that was killed get the same replies. Transport
failures strike the first time a request is seen.
"""

import hashlib
import json
import random
import re

from support.fake_openai_server import Server, failure, reply

EXCERPT = re.compile(r"\[Excerpt (\d+)\]\n(.*?)(?=\n\n\[Excerpt |\n\nQuestion: |\Z)", re.DOTALL)
FACT = re.compile(r"The (\w+) number of (\w+) is (\d+)\.")
ASKED = re.compile(r"What are the (\w+) numbers of (\w+) and of (\w+)\?")


def question(body):
    """Two facts that stand in two excerpts; SKIPPED where there are none."""
    draw = random.Random(body["seed"])
    facts = [(int(number), FACT.search(text)) for number, text in EXCERPT.findall(body["messages"][1]["content"])]
    facts = [(number, found) for number, found in facts if found]
    same = [(a, b) for a in facts for b in facts if a[0] < b[0] and a[1][1] == b[1][1] and a[1][2] != b[1][2]]
    if not same:
        return {"question": "SKIPPED", "answer": "", "evidence": [], "explanation": "no two facts"}
    (i, a), (j, b) = draw.choice(same)
    return {
        "question": f"What are the {a[1]} numbers of {a[2]} and of {b[2]}?",
        "answer": f"{a[3]} and {b[3]}",
        "evidence": [i, j],
        "explanation": f"Excerpt {i} gives {a[3]}, excerpt {j} gives {b[3]}.",
    }


def rating(body):
    """9.5 for evidence that holds both numbers of the answer, 3 otherwise; now and then an 8 for clarity."""
    content = body["messages"][1]["content"]
    excerpts = dict(EXCERPT.findall(content))
    evidence = re.findall(r"\d+", content.rpartition("Evidence: ")[2])
    answer = re.findall(r"\d+", re.search(r"Reference answer: (.*)", content)[1])
    good = all(any(f"is {value}." in excerpts[i] for i in evidence) for value in answer)
    score = (8.0 if random.Random(body["seed"]).random() < 0.25 else 9.5) if good else 3.0
    criteria = dict.fromkeys(("challenge", "correctness", "completeness", "clarity", "necessity"), score)
    return {**criteria, "remark": "fine" if good else "the evidence does not hold the answer", "score": score}


def answer(body):
    """Reads the document; without one it knows the numbers of Adler only, of any topic, and they are 1."""
    content = body["messages"][0]["content"]
    topic, *names = ASKED.search(content).groups()
    facts = {(t, n): value for t, n, value in FACT.findall(content)}
    if not facts:
        return "I was not given a document.\nAnswer: unknown"
    read = random.Random(body["seed"]).random() < 0.6
    return f"Let me see.\nAnswer: it is {' and '.join(facts[topic, name] if read else '0' for name in names)}"


def verdict(body):
    content = body["messages"][1]["content"]
    mark = re.search(r"VERDICT-(\w+): SAME", content)[1]
    reference = re.search(r"Reference answer:\n(.*)", content)[1]
    candidate = re.findall(rf"BEGIN {mark}\n(.*?)\nEND {mark}", content, re.DOTALL)[-1]
    same = re.findall(r"\d+", reference) == re.findall(r"\d+", candidate)
    return f"They are compared.\nVERDICT-{mark}: {'SAME' if same else 'DIFFERENT'}"


def sensible(body):
    """The text of a well-behaved reply to any prompt of the pipeline."""
    system = body["messages"][0]["content"]
    if system.startswith("You write examination questions"):
        return json.dumps(question(body))
    if system.startswith("You check examination questions"):
        return json.dumps(rating(body))
    if system.startswith("You grade answers"):
        return verdict(body)
    return answer(body) if ASKED.search(system) else '{"ok": true}'


def chance(body, salt):
    """A number from 0 to 1 that is a function of the request."""
    data = json.dumps([body, salt], sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big") / 2**32


class Misbehaving:
    """Sensible, but every kind of trouble in `share` of the requests each.

    Transport (once for each request): 429 with Retry-After, 500, a connection that hangs. Content, for JSON replies:
    truncated, fenced, behind reasoning with braces, evidence out of range, skipped.
    """

    def __init__(self, share=0.06, hang_s=30.0):
        self.share, self.hang_s, self.seen = share, hang_s, set()
        self.did = dict.fromkeys(("429", "500", "hang", "truncated", "fenced", "reasoning", "evidence", "skipped"), 0)

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
        text = sensible(body)
        if not text.startswith("{"):
            return text
        match self._pick(body, "content", ("truncated", "fenced", "reasoning", "evidence", "skipped")):
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
        self.did[kinds[place]] += 1
        return kinds[place]


def serve(behave=None) -> Server:
    """A server of this model, sensible or with `behave`; to be closed."""
    server = Server()
    server.honest = sensible
    if behave:
        server.behave = behave
    return server
