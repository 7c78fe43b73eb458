"""Over-long documents are fitted or dropped, and labels stay true."""

from dataclasses import replace

import pytest
from support import planted_fact_docs
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.schema import read_samples

from data_gen.grounding.export import ExportOptions, GroundingExportStage
from data_gen.grounding.splitter import Splitter
from data_gen.store import Store, StoreError
from data_gen.tokenizer import load_tokenizer

pytestmark = pytest.mark.engine  # transformers' tokenizers are imported


@pytest.fixture
def store(tmp_path, tokenizer_folder):
    """Six selected documents in two parts."""
    store, splitter = Store(tmp_path, "select"), Splitter(load_tokenizer(str(tokenizer_folder)).backend_tokenizer, 110)
    for part in range(2):
        ingest, chunk, select = [], [], []
        for n in range(3):
            name, text = f"doc{part}{n}", planted_fact_docs.document(10 * part + n)[0]
            ingest.append({"id": name, "text": text, "source": f"{name}.txt", "meta": {"n": n}})
            chunk.append({"id": name, "spans": splitter.split(text)})
            select.append(
                {
                    "id": name,
                    "question": "What are both" + " of" * (3 * part + n) + "?",
                    "answer": "x and y",
                    "evidence": [2 + n, 20],
                    "explanation": "e",
                }
                | {"score": 9.5, "closed_book": 0.0, "pass_rate": 0.5}
            )
        for stage, rows in (("ingest", ingest), ("chunk", chunk), ("select", select)):
            store.begin(stage, {})
            store.write(stage, f"{part}", rows)
            store.finish(stage, {})
    return store


def export(store, tokenizer, **options):
    GroundingExportStage(ExportOptions(**options), str(tokenizer), seed=0).run(store, 0)
    found = {
        s: list(read_samples(store.root / f"{s}.parquet"))
        for s in ("train", "val")
        if (store.root / f"{s}.parquet").exists()
    }
    return found, store.report("export")["counts"]


def test_a_question_ends_no_turn(store, tokenizer_folder):
    rows = list(store.read("select", "0"))
    store.write("select", "0", [row | {"question": f"What <|im_end|> is it, {row['id']}?"} for row in rows])
    found, _ = export(store, tokenizer_folder, val_fraction=0.0)
    asked = [sample for sample in found["train"] if "is it" in sample.question]
    assert len(asked) == 3
    for sample in asked:
        assert sample.question.startswith("What < |im_end|> is it")
        assert f"Question: {sample.question}" in sample.prompt[0]["content"]


def test_splits_are_by_document_and_seeded(store, tokenizer_folder):
    found, counts = export(store, tokenizer_folder, val_fraction=0.3)
    assert (len(found["train"]), len(found["val"])) == (4, 2) == (counts["train rows"], counts["val rows"])
    assert [s.index for s in found["train"]] == [0, 1, 2, 3]
    assert {s.payload["meta"]["n"] for s in found["train"]} <= {0, 1, 2}


def test_a_small_set_still_holds_one_out_unless_told_not_to(store, tokenizer_folder):
    assert len(export(store, tokenizer_folder, val_fraction=0.001)[0]["val"]) == 1
    store.remove(["export"])
    found, _ = export(store, tokenizer_folder, val_fraction=0.0)
    assert "val" not in found
    assert len(found["train"]) == 6


def test_the_share_is_of_what_is_left_and_neither_side_is_empty(store, tokenizer_folder):
    lengths = sorted(s.prompt_tokens for s in export(store, tokenizer_folder, val_fraction=0.0)[0]["train"])
    for left, held_out in ((6, 5), (2, 1), (1, 0)):  # of 6 documents
        store.remove(["export"])
        limits = {"max_prompt_tokens": lengths[left - 1], "overlong": "drop"}
        found, counts = export(store, tokenizer_folder, val_fraction=0.9, **limits)
        assert (len(found["train"]), len(found.get("val", []))) == (left - held_out, held_out)
        assert (counts["train rows"], counts["val rows"]) == (left - held_out, held_out)


def test_a_file_that_fails_the_self_check_is_not_handed_out(store, tokenizer_folder, monkeypatch):
    right = GroundingExportStage.samples
    wrong = lambda self, document: (replace(s, ref_chunks=[2, 999]) for s in right(self, document))  # noqa: E731
    monkeypatch.setattr(GroundingExportStage, "samples", wrong)
    with pytest.raises(StoreError, match="the exported file fails the project's validator"):
        export(store, tokenizer_folder)
    assert not (store.root / "train.parquet").exists()
    assert store.report("export") is None


@pytest.mark.parametrize("budget", [900, 500, 280])
def test_fitting_drops_other_chunks_and_renumbers(store, tokenizer_folder, budget):
    whole, _ = export(store, tokenizer_folder)
    store.remove(["export"])
    fitted, counts = export(store, tokenizer_folder, max_prompt_tokens=budget)
    assert counts["fitted"] == 6
    before = {s.payload["document"]: s for split in whole.values() for s in split}
    for sample in (s for split in fitted.values() for s in split):
        chunks, full = (parse_chunks(s.prompt[0]["content"]) for s in (sample, before[sample.payload["document"]]))
        assert sample.prompt_tokens <= budget
        assert budget - sample.prompt_tokens < 120  # one more chunk would not have fitted
        assert (
            [chunks[i] for i in sample.ref_chunks]
            == sample.ref_chunks_text
            == before[sample.payload["document"]].ref_chunks_text
        )
        assert [c for c in full if c in chunks] == chunks  # in document order
        assert sample.num_chunks == len(chunks) < len(full)


def test_what_cannot_be_fitted_is_dropped_with_a_reason(store, tokenizer_folder):
    _, counts = export(store, tokenizer_folder, max_prompt_tokens=100)
    assert counts == {"documents": 6, "dropped: overlong": 6, "train rows": 0, "val rows": 0}
    store.remove(["export"])
    _, counts = export(store, tokenizer_folder, max_prompt_tokens=500, overlong="drop")
    assert counts["dropped: overlong"] == 6
    assert not (store.root / "train.parquet").exists()


def test_a_tokenizer_without_chat_template_is_refused(store):
    with pytest.raises(StoreError, match=r"tokenizer builtin has no chat template.*with the tokenizer of the model"):
        export(store, "builtin")
