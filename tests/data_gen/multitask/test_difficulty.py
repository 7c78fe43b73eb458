"""Two models answer by a known rule, so that samples land in every level; a real HTTP server stands for each."""

import json
from collections import Counter
from functools import partial

import pytest
from support.fake_openai_server import Server, failure, reply
from typer.testing import CliRunner
from verl_longrl.data.schema import read_samples

from data_gen.answer_templates import render_response
from data_gen.llm import LLMOptions, ServersGone
from data_gen.multitask import prompts
from data_gen.multitask.__main__ import app
from data_gen.multitask.compose import TaskComposeOptions
from data_gen.multitask.computed_tasks import data_source
from data_gen.multitask.difficulty import DifficultyOptions, DifficultyStage, kept_samples
from data_gen.store import Store
from data_gen.text import derive_seed

PASSAGES = 6
OPTIONS = {"small": "little", "large": "big"}
RIGHT = "I looked.</think>\n[Answer]\nRed\nBlue"
HALF = "I looked.</think>\n[Answer]\nRed\nBlue\nOne\nTwo\nThree\nFour"  # F1 = 1/2
WRONG = "I looked.</think>\n[Answer]\nGreen"
NOTHING = "I looked.</think>\nIt is red."
CUT = lambda: reply("I look at", "length")  # noqa: E731
REFUSED = lambda: failure(400, "too long")  # noqa: E731


def replies(right, of=8):
    return [RIGHT] * right + [WRONG] * (of - right)


# name -> what the small and the large model say, and the level and pass rates that come of it
CASES = {
    "easy": (replies(7), [], "easy", {"little": 0.875}),
    "three_quarters": (replies(6), [], "medium", {"little": 0.75}),
    "a_half": (replies(4), [], "medium", {"little": 0.5}),
    "large_can": (replies(3), replies(7), "medium", {"little": 0.375, "big": 0.875}),
    "large_mostly": (replies(0), replies(6), "hard", {"little": 0.0, "big": 0.75}),
    "large_at_times": (replies(0), replies(2), "hard", {"little": 0.0, "big": 0.25}),
    "nobody": (replies(3), replies(1), "insufficient", {"little": 0.375, "big": 0.125}),
    "graded": ([HALF] * 6 + [RIGHT] * 2, [], "medium", {"little": 0.625}),
    "cut_or_formless": ([CUT, NOTHING] * 2 + [RIGHT] * 4, [], "medium", {"little": 0.5}),
    "half_refused": ([REFUSED] * 4 + [RIGHT] * 4, [], "easy", {"little": 1.0}),
    "refused": ([REFUSED] * 5 + [RIGHT] * 3, [], "unanswered", {"little": None}),
    "large_refuses": (replies(0), [REFUSED] * 8, "unanswered", {"little": 0.0, "big": None}),
    "summary": ([], [], "not_asked", {}),
    "no_gold": (replies(8), [], "unanswered", {"little": None}),
    "hanging": (["So.</think>\\boxed{9^{9^{9^9}}}", "So.</think>\\boxed{2}"], [], "medium", {"little": 0.5}),
}
PARTS = {
    "000000": {"d1": list(CASES)[:6]},
    "000001": {"d2": ["nobody"], "d3": list(CASES)[7:-1]},
}
HANGING = {"000000": {"d4": ["hanging"]}}
DOCUMENTS = {name: cases for part in PARTS.values() for name, cases in part.items()}
ASKED = [case for cases in DOCUMENTS.values() for case in cases]
REFUSALS = 4 + 5 + 8
ANSWERED = sum(len(said) for case in ASKED for said in CASES[case][:2]) - REFUSALS


@pytest.fixture
def store(tmp_path):
    return made_store(tmp_path / "run")


def made_store(folder, parts=PARTS):
    """A run whose documents have been composed, with a sample for each case; nothing was written or verified."""
    store = Store(folder, "ingest")
    for stage in ("ingest", "compose", "verify"):
        store.begin(stage, {})
    counts = {"ingest": Counter(), "compose": Counter()}
    for part, documents in parts.items():
        texts = {name: "\n\n".join(f"{name} {n}: it is so. " * 30 for n in range(PASSAGES)) for name in documents}
        made = {
            "ingest": [{"id": name, "text": text} for name, text in texts.items()],
            "compose": [{"id": name, "samples": list(map(sample, cases))} for name, cases in documents.items()],
        }
        for stage in made:
            counts[stage] += store.write(stage, part, made[stage])
    for stage in counts:
        store.finish(stage, counts[stage])
    store.finish("verify", {}, skipped=1)
    return store


def sample(case):
    task = {"summary": "summary", "hanging": "math"}.get(case, "exhaustive")
    gold = {"no_gold": [], "hanging": "2"}.get(case, ["Red", "Blue"])
    made = {"task": task, "kind": "mention", "question": case, "answer_as": prompts.answer_lines("them"), "gold": gold}
    return {**made, "numbered": True, "window": [1, PASSAGES], "prompt_tokens": 900}


@pytest.fixture
def servers():
    """The small and the large model; each answer is a function of the request's seed."""
    found = {name: Server() for name in OPTIONS.values()}
    for at, (name, server) in enumerate(found.items()):
        known = {
            derive_seed(0, "difficulty", f"{document}/compose-{number}", name, n): text
            for document, cases in {**DOCUMENTS, **HANGING["000000"]}.items()
            for number, case in enumerate(cases)
            for n, text in enumerate(CASES[case][at])
        }

        def behave(body, n, known=known):
            answer = known[body["seed"]]
            return answer if isinstance(answer, str) else answer()

        server.behave = behave
    yield found
    for server in found.values():
        server.close()


def stage(servers, concurrency=8, **options):
    named = {
        name: LLMOptions(name=name, endpoints=(server.url,), model="judge", concurrency=concurrency, backoff_s=0.01)
        for name, server in servers.items()
    }
    return DifficultyStage(DifficultyOptions(**{**OPTIONS, **options}), named, TaskComposeOptions(passage_words=40), 0)


def rows(store):
    return {row["id"]: row for part in store.parts("difficulty") for row in store.read("difficulty", part)}


def test_samples_land_where_the_models_put_them(store, servers):
    stage(servers).run(store, 1.0)
    found = rows(store)
    assert list(found) == ["d1", "d2", "d3"]
    for document, cases in DOCUMENTS.items():
        for number, (case, entry) in enumerate(zip(cases, found[document]["samples"], strict=True)):
            little, big, level, rates = CASES[case]
            assert (entry["id"], entry["level"], entry["rates"]) == (f"{document}/compose-{number}", level, rates), case
            assert entry["kept"] == (level in ("easy", "medium", "hard", "not_asked"))
            assert [r["server"] for r in entry["responses"]] == ["little"] * len(little) + ["big"] * len(big)
    assert found["d2"]["drop"] == "no_sample"
    assert "drop" not in found["d1"] | found["d3"]

    of = {entry["id"]: entry["responses"] for row in found.values() for entry in row["samples"]}
    by_case = {case: of[f"d3/compose-{number}"] for number, case in enumerate(DOCUMENTS["d3"])}
    graded = by_case["graded"][0]
    assert graded["reward"] == graded["parts"]["answer"] == 0.5
    assert (graded["parts"]["recall"], graded["parts"]["precision"]) == (1.0, pytest.approx(1 / 3))
    assert [r["status"] for r in by_case["cut_or_formless"]][:2] == ["truncated", "format_error"]
    assert "no [Answer]" in by_case["cut_or_formless"][1]["reason"]
    assert {(r["status"], r["reward"]) for r in by_case["refused"][:5]} == {("request_failed", None)}
    assert {(r["status"], r["reward"]) for r in by_case["no_gold"]} == {("scorer_error", None)}

    report = store.report("difficulty")
    levels = Counter(CASES[case][2] for case in ASKED)
    assert {level: report["counts"][level] for level in levels} == levels
    assert report["counts"]["not kept: unanswered"] == levels["unanswered"]
    assert (report["counts"]["request_failed"], report["counts"]["scorer_error"]) == (REFUSALS, 8)
    assert report["counts"]["dropped: no_sample"] == 1
    assert report["requests"] == ANSWERED
    (message,) = servers["little"].bodies[0]["messages"]
    assert message["content"].startswith(prompts.OPENING_NUMBERED)
    assert message["content"].count("Passage ") == PASSAGES - 1

    (document,) = store.documents("000001", ("ingest", "compose", "verify", "difficulty"))
    made = {row["question"]: about for row, about in kept_samples(document)}
    assert made == {
        "graded": {"difficulty": "medium", "pass_rate": 0.625},
        "cut_or_formless": {"difficulty": "medium", "pass_rate": 0.5},
        "half_refused": {"difficulty": "easy", "pass_rate": 1.0},
        "summary": {},
    }
    assert [about for _, about in kept_samples({name: document[name] for name in ("ingest", "compose")})] == [{}] * 7


def test_a_run_that_was_stopped_goes_on_and_pays_for_nothing_twice(store, servers, tmp_path):
    answered = []
    for server in servers.values():

        def behave(body, n, behave=server.behave, little=server is servers["little"]):
            if little and not stopped and n > 50:
                return failure(401, "no more")
            answer = behave(body, n)
            if isinstance(answer, str) or answer.status == 200:
                answered.append(body["seed"])
            return answer

        server.behave = behave
    stopped = False
    with pytest.raises(ServersGone, match="no more"):
        stage(servers, concurrency=1).run(store, 1.0)
    stopped, before = True, len(answered)
    assert before > 40
    assert not store.is_done("difficulty")
    stage(servers).run(store, 1.0)
    assert len(set(answered)) == ANSWERED
    assert len(answered) <= ANSWERED + 1  # the other model's reply that was on its way
    assert store.report("difficulty")["requests"] == ANSWERED
    alone = made_store(tmp_path / "alone")
    stage(servers).run(alone, 1.0)
    assert rows(alone) == rows(store)


def test_a_response_with_an_endless_power_is_a_wrong_answer(servers, tmp_path):
    store = made_store(tmp_path, HANGING)
    stage(servers, samples=2).run(store, 1.0)
    (entry,) = rows(store)["d4"]["samples"]
    assert [(r["status"], r["reward"]) for r in entry["responses"]] == [("ok", 0.0), ("ok", 1.0)]
    assert (entry["level"], entry["rates"]) == ("medium", {"little": 0.5})


def test_what_is_kept_is_a_choice(store, servers):
    stage(servers, keep=("hard", "unsolved"), large="").run(store, 1.0)
    levels = {entry["id"]: entry for row in rows(store).values() for entry in row["samples"]}
    of = {level: [entry for entry in levels.values() if entry["level"] == level] for level in ("easy", "unsolved")}
    assert len(of["unsolved"]) == 5
    assert all(entry["kept"] for entry in of["unsolved"])
    assert not any(entry["kept"] for entry in of["easy"])
    assert not servers["big"].bodies


def test_a_share_of_the_easy_ones():
    ids = [{"id": f"d{n}/compose-0"} for n in range(400)]
    for share, low, high in ((0.0, 0, 0), (0.25, 75, 125), (1.0, 400, 400)):
        chosen = stage({}, easy_share=share)
        assert low <= sum(chosen._keeps(one, "easy") for one in ids) <= high
        assert all(chosen._keeps(one, "hard") for one in ids)


def test_passes_may_be_counted():
    rewards = [0.5] * 4 + [1.0, None, None, None]
    assert DifficultyOptions().pass_rate(rewards) == 0.6
    assert DifficultyOptions(pass_at=1.0).pass_rate(rewards) == 0.2
    assert DifficultyOptions(pass_at=0.5).pass_rate(rewards) == 1.0


def test_without_a_small_model_nothing_is_asked(store, servers):
    idle = stage({}, small="", large="")
    assert not idle.is_enabled()
    idle.run(store, 1.0)
    assert store.parts("difficulty") == []
    assert json.loads((store.root / "difficulty" / "rank-0-of-1.json").read_text())["skipped"] == 1


@pytest.mark.engine
def test_rows_say_how_hard_they_are(texts, tokenizer, servers, tmp_path):
    """All stages: what is kept is exported with its level and pass rate, and a later choice asks nothing again."""
    (tmp_path / "documents").mkdir()
    for number, text in enumerate(texts[:4]):
        (tmp_path / "documents" / f"{number}.txt").write_text(text)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    output, asked = tmp_path / "run", []

    def run(*arguments):
        command = ["run", "--input", tmp_path / "documents", "--output", output, f"tokenizer={tmp_path / 'tokenizer'}"]
        command += ["ingest.buckets=[500,60000]", "compose.max_prompt_tokens=2500", "compose.passage_words=40"]
        command += [f"servers.{name}.endpoints=[{server.url}]" for name, server in servers.items()]
        command += ["difficulty.small=little", "difficulty.large=big", "difficulty.samples=4", "export.val_fraction=0"]
        done = CliRunner().invoke(app, [*map(str, command), *arguments])
        assert done.exit_code == 0, done.output

    def behave(body, n, skill):
        """Right in a share of the cases that the question decides: never, half the time or always."""
        asked.append(body["seed"])
        question = body["messages"][0]["content"].partition(prompts.CLOSING)[2]
        made = next(sample for sample in composed if question.startswith(sample["question"]))
        skill += (0.0, 0.5, 1.0)[derive_seed(made["question"]) % 3]
        return (
            render_response(data_source(made["task"]), made["gold"])
            if body["seed"] % 8 < 8 * skill
            else "So.</think>\n[Answer]\nno"
        )

    for skill, server in zip((0.0, 0.5), servers.values(), strict=True):
        server.behave = partial(behave, skill=skill)
    run("--until", "compose")
    composed = samples_in(output / "compose")
    run()
    graded = {sample["id"]: sample for sample in samples_in(output / "difficulty")}
    rows = {sample.payload["sample"]: sample for sample in read_samples(output / "train.parquet")}
    assert len(graded) == len(composed) > 12
    assert {sample["level"] for sample in graded.values()} >= {"easy", "hard"}
    assert set(rows) == {name for name, sample in graded.items() if sample["kept"]}
    for name, row in rows.items():
        said = (row.payload["difficulty"], row.payload["pass_rate"])
        assert said == (graded[name]["level"], graded[name]["rates"]["little"])
    before = len(asked)
    run("--redo", "difficulty", "difficulty.keep=[hard]")
    assert {row.payload["difficulty"] for row in read_samples(output / "train.parquet")} == {"hard"}
    assert len(asked) == before


def samples_in(folder):
    texts = [path.read_text() for path in folder.glob("*.jsonl")]
    return [sample for text in texts for line in text.splitlines() for sample in json.loads(line)["samples"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"small": ""},
            r"difficulty.large = 'big': difficulty.large needs difficulty.small. Fix: set difficulty.small too",
        ),
        ({"large": "little"}, r"difficulty.large = 'little': is the small model too"),
        ({"keep": ("easy", "insufficient")}, r"difficulty.keep\[1\] = 'insufficient': expected one of easy, medium"),
        ({"small_medium": 0.8}, r"difficulty.small_medium = 0.8: expected at most small_easy, 0.75"),
        ({"pass_at": 0}, r"difficulty.pass_at = 0: expected a number above 0"),
        ({"samples": 0}, r"difficulty.samples = 0: expected a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DifficultyOptions.from_dict({**OPTIONS, **options}, "difficulty.")
