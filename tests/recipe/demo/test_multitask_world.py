"""The multi-task world: deterministic, answerable from its texts, each task scored by its own reward."""

import itertools
import random
from dataclasses import replace
from itertools import islice

import pytest
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen.multitask.computed_tasks import data_source
from recipe.longrl.demo.assets import build_assets
from recipe.longrl.demo.multitask import dataset
from recipe.longrl.demo.multitask.build import MultitaskBuild, MultitaskStage, demonstrate
from recipe.longrl.demo.multitask.dataset import QUESTIONS, answer_lines, gold, list_response, path_response, question
from recipe.longrl.demo.multitask.world import MultitaskWorld, documents

pytestmark = pytest.mark.engine

SMALL = MultitaskWorld(chatter=2, paths=2)
ANYTHING = dict.fromkeys(QUESTIONS, 0.5)
TINY = MultitaskBuild(train_samples=3, val_samples=2, world=SMALL, warm_start=(MultitaskStage(2, 1, SMALL, ANYTHING),))
TEXTS = list(islice(documents(MultitaskWorld(), "test"), 20))


def reward(task, response, document):
    return score(data_source(task), response, gold(task, document, document.paths[0])).value


def test_same_seed_same_texts():
    assert list(islice(documents(MultitaskWorld(), "test"), 20)) == TEXTS
    assert next(documents(MultitaskWorld(), "other")) != TEXTS[0]


def test_every_fact_is_said_once_and_every_path_leads_on():
    for document in TEXTS:
        said = document.text.split(" . ")
        facts = answer_lines(document.rooms) + answer_lines(document.days) + answer_lines(document.ranks)
        facts += [f"{place} is {color}" for place, color in document.now.items()]
        facts += [f"{place} was {color}" for place, color in document.before.items()]
        facts += [f"{one} {other}" for path in document.paths for one, other in itertools.pairwise(path)]
        assert [said.count(fact) + said.count(f"{fact} .") for fact in facts] == [1] * len(facts)
        assert document.now.keys() == document.before.keys()
        assert not set(document.now.values()) & set(document.before.values())


@pytest.mark.parametrize("task", QUESTIONS)
def test_a_teacher_that_takes_care_is_right_and_one_that_does_not_is_not(task: str):
    rng = random.Random(0)
    for document in TEXTS:
        assert reward(task, demonstrate(rng, task, document, document.paths[0], 1.0), document) == 1.0
    careless = [reward(task, demonstrate(rng, task, document, document.paths[0], 0.0), document) for document in TEXTS]
    assert sum(careless) / len(careless) < 0.95
    assert all(value < 1.0 for value in careless) or task in ("retrieval", "ordering", "ranking")  # these can be lucky


def test_neighbours_of_the_right_answer_are_worth_what_the_task_says():
    document = next(text for text in TEXTS if len(text.rooms) == 4)
    asked = question("exhaustive", document.paths[0])
    swapped = answer_lines(document.days)
    swapped[0], swapped[1] = swapped[1], swapped[0]
    one_old = answer_lines(document.now | {place: document.before[place] for place in list(document.now)[:1]})
    ranks = answer_lines(document.ranks)
    right, other = document.paths[0], document.paths[1]
    assert reward("retrieval", path_response([*right[:-1], other[-1]]), document) == 0.0
    assert reward("exhaustive", list_response(asked, answer_lines(document.rooms)[:2]), document) == pytest.approx(
        2 / 3
    )
    assert reward("matching", list_response(asked, one_old), document) == pytest.approx(1 - 1 / len(one_old))
    assert reward("ordering", list_response(asked, swapped), document) == pytest.approx(1 - 1 / 15)
    assert 0.7 < reward("ranking", list_response(asked, ranks[::-1]), document) < 0.8  # NDCG hardly minds


def test_lessons_and_prompts_are_in_the_vocabulary_and_fit():
    words = MultitaskBuild().tokenizer()
    stage = MultitaskStage(3, 2, MultitaskWorld(), ANYTHING)
    taught = [lesson for batch in MultitaskBuild(warm_start=(stage,)).lessons() for lesson in batch]
    assert len(taught) == 6
    for lesson in taught:
        for response in lesson.responses:
            ids = words(response + words.eos_token)["input_ids"]
            assert words.unk_token_id not in ids
            assert len(ids) <= 48
        for prompt in lesson.prompts:
            ids = words(words.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False))["input_ids"]
            assert words.unk_token_id not in ids
            assert len(ids) <= 256


def test_a_response_as_the_model_writes_it_is_graded_like_the_text():
    words = MultitaskBuild().tokenizer()
    for sample in dataset.samples(MultitaskWorld(), 4, "val", "test"):
        document = next(islice(documents(MultitaskWorld(), "val-test"), sample.index, None))
        response = demonstrate(
            random.Random(0), sample.task.removeprefix("golongrl_"), document, document.paths[0], 1.0
        )
        decoded = words.decode(words(response + words.eos_token)["input_ids"], skip_special_tokens=True)
        assert score(sample.data_source, decoded, sample.ground_truth).value == 1.0


def test_build_is_deterministic_and_its_rows_are_valid(tmp_path):
    first, again = (build_assets(TINY, tmp_path / name) for name in ("first", "again"))
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    for split, rows in (("train", 15), ("val", 10)):
        report = validate_file(first / f"{split}.parquet")
        assert (report.problems, report.rows) == ([], rows)
    assert replace(TINY, seed=1).hash != TINY.hash
