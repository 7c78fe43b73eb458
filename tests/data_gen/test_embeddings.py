"""Unit vectors from each kind of encoder, and never zeros."""

import numpy as np
import pytest
from support.fake_openai_server import failure

from data_gen.embeddings import EncoderError, SentenceTransformerEncoder, ServerEncoder, StaticEncoder, _unit
from data_gen.llm import LLMOptions, ServersGone

TEXTS = ["The ship left the harbour at dawn.", "The schooner sailed from port.", "Add butter to the flour."]


def options(url, **changes):
    return LLMOptions(endpoints=(url,), model="judge", attempts=3, backoff_s=0.01, cooldown_s=0.0, **changes)


def test_static_vectors_know_what_is_alike():
    vectors = StaticEncoder().encode(TEXTS)
    assert vectors.shape == (3, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_a_server_is_asked_in_batches_and_a_failed_batch_again(server):
    asked = []

    def embed(texts):
        asked.append(texts)
        if len(asked) == 2:
            return failure(500)
        return [[float(len(text)), 2.0] for text in texts]

    server.embed = embed
    vectors = ServerEncoder(options(server.url), batch_size=2).encode(TEXTS)
    expected = np.array([[len(text), 2.0] for text in TEXTS])
    assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert sorted(map(len, asked)) in ([1, 1, 2], [1, 2, 2])


def test_a_server_that_keeps_failing_stops_the_run(server):
    server.embed = lambda texts: failure(500)
    with pytest.raises(ServersGone, match="no answer from"):
        ServerEncoder(options(server.url), batch_size=2).encode(TEXTS)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_vectors_without_direction_are_refused(bad):
    with pytest.raises(EncoderError, match="the embedding of text 1 has length"):
        _unit(np.array([[1.0, 1.0], bad]))


@pytest.mark.engine
def test_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    from data_gen.tokenizer import BUILTIN, load_tokenizer

    tokenizer = load_tokenizer(BUILTIN)
    tokenizer.pad_token = tokenizer.decode([0])
    tokenizer.save_pretrained(tmp_path / "bert")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    words = Transformer(str(tmp_path / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[words, Pooling(32)], device="cpu").save(str(tmp_path / "encoder"))

    vectors = SentenceTransformerEncoder(str(tmp_path / "encoder"), batch_size=2).encode(TEXTS)
    assert vectors.shape == (3, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with pytest.raises(EncoderError, match=r"embed.model = .*nowhere: .*embed.backend=static"):
        SentenceTransformerEncoder(str(tmp_path / "nowhere"), batch_size=2)
