"""Tokenizer, model, warm start and the whole build, in sizes that take seconds."""

import json
from itertools import islice

import pytest
import torch
import transformers
from torch.overrides import TorchFunctionMode
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.schema import read_samples
from verl_longrl.rewards import score

from recipe.longrl.demo import assets, model
from recipe.longrl.demo.grounded import dataset
from recipe.longrl.demo.grounded.build import GroundedBuild, GroundedStage
from recipe.longrl.demo.grounded.world import GroundedWorld, documents, response
from recipe.longrl.demo.warm_start import Lesson, pack, warm_start

pytestmark = pytest.mark.engine

SMALL = GroundedWorld(lengths=((8, 1.0),), evidence=((1, 1.0), (2, 1.0)), questions_per_document=4)
TINY = GroundedBuild(train_documents=6, val_documents=3, warm_start=(GroundedStage(2, 1, SMALL, 0.5),))


@pytest.fixture(scope="module")
def words():
    return TINY.tokenizer()


def shown(words, doc):
    """The first question's prompt as the model sees it."""
    return words.apply_chat_template(dataset.prompt(doc, doc.questions[0]), add_generation_prompt=True, tokenize=False)


def test_decoded_response_is_parsed_and_graded_like_the_text(words):
    for doc in islice(documents(GroundedWorld(), 0), 30):
        ask = doc.questions[0]
        ids = words(response(ask) + words.eos_token)["input_ids"]
        assert words.unk_token_id not in ids
        text = words.decode(ids, skip_special_tokens=True)
        assert score("longrlvr", text, ask.answer, {"ref_chunks": ask.ref_chunks}).value == pytest.approx(2.0)


def test_prompts_hold_no_unknown_words_open_the_reasoning_and_fit(words):
    for doc in islice(documents(GroundedWorld(), 1), 100):
        ids = words(shown(words, doc))["input_ids"]
        assert words.unk_token_id not in ids
        assert words.convert_ids_to_tokens(ids[-1]) == "<think>"
        assert len(ids) <= 1024


def test_a_packed_question_sees_what_it_would_see_alone(words):
    policy = model.build_model(words, TINY.circuits, 0).eval()
    doc = next(documents(SMALL, 0))
    prompts = tuple(dataset.prompt(doc, ask) for ask in doc.questions)
    packed = pack(words, [Lesson(prompts, tuple(response(ask) for ask in doc.questions))])
    with torch.no_grad():
        together = policy(
            input_ids=packed.ids_BT, position_ids=packed.positions_BT, attention_mask=packed.mask_B1TT
        ).logits[0]
        for block in range(1, 5):
            own = (packed.blocks_BT[0] == 0) | (packed.blocks_BT[0] == block)
            alone = policy(input_ids=packed.ids_BT[:, own]).logits[0]
            torch.testing.assert_close(together[own], alone, atol=1e-4, rtol=1e-4)


def test_model_starts_with_a_previous_token_head(words):
    policy = model.build_model(words, TINY.circuits, 0)
    policy.set_attn_implementation("eager")
    doc = next(documents(SMALL, 0))
    ids = words(shown(words, doc), return_tensors="pt")["input_ids"]
    attention_LL = policy(input_ids=ids, output_attentions=True).attentions[0][0, 0]
    assert attention_LL.diagonal(-1).mean() > 0.9


def test_a_few_warm_start_steps_lower_the_loss(words):
    policy = model.build_model(words, TINY.circuits, 0)
    seen = []
    batches = GroundedBuild(warm_start=(GroundedStage(25, 2, SMALL, 0.5),)).lessons()
    with Products() as products:
        losses = warm_start(policy, words, batches, 25, on_step=lambda step, value: seen.append(step))
    assert seen == list(range(1, 26))
    assert losses[-1] < 0.6 * losses[0]
    assert products.dtypes == {torch.float32}  # Muon's too, whose bfloat16 takes most of a step on many CPUs


class Products(TorchFunctionMode):
    """The types of what `torch.addmm` returned, which Muon calls."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func is torch.addmm:
            self.dtypes.add(found.dtype)
        return found


def test_build_is_complete_resumable_and_deterministic(tmp_path):
    first = assets.build_assets(TINY, tmp_path / "first")
    again = assets.build_assets(TINY, tmp_path / "again")
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    stamp = (first / "build.json").stat().st_mtime_ns
    assets.build_assets(TINY, first)
    assert (first / "build.json").stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob(".*"))

    rows = [*read_samples(first / "train.parquet"), *read_samples(first / "val.parquet")]
    assert len(rows) == 9
    for row in rows:
        chunks = parse_chunks(row.prompt[0]["content"])
        assert [chunks[i] for i in row.ref_chunks] == row.ref_chunks_text
    assert json.loads((first / "build.json").read_text())["rows"] == {"train": 6, "val": 3}

    loaded = transformers.AutoTokenizer.from_pretrained(first / "model")
    ids = loaded.apply_chat_template(rows[0].prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert loaded.unk_token_id not in ids
    policy = transformers.AutoModelForCausalLM.from_pretrained(first / "model")
    assert policy.config.vocab_size == len(loaded)


def test_a_folder_that_is_not_a_build_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"contains thesis\.txt, which no build wrote"):
        assets.build_assets(TINY, tmp_path)
