"""A data pipeline run on documents whose topics are known, against a server on this machine."""

import json
from pathlib import Path

import pytest
import yaml
from support import fake_pipeline_llm, planted_fact_docs
from support.fake_openai_server import Server

from recipe.longrl.demo import tokenizer as demo_tokenizer


@pytest.fixture
def server():
    server = Server(fake_pipeline_llm.honest_reply)
    yield server
    server.close()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A small word-level tokenizer with a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    demo_tokenizer.build_tokenizer([planted_fact_docs.document(seed)[0] for seed in range(3)]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def documents(tmp_path_factory) -> Path:
    """Twelve good documents as .txt and .jsonl, and one of each kind that must be dropped."""
    folder = tmp_path_factory.mktemp("documents")
    texts = [planted_fact_docs.document(seed)[0] for seed in range(12)]
    for number, text in enumerate(texts[:7]):
        (folder / f"text-{number}.txt").write_text(text)
    lines = [json.dumps({"text": text, "title": f"row {n}"}) for n, text in enumerate(texts[7:])]
    lines.insert(2, '{"text": "broken')
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "copy.txt").write_text(texts[0])
    (folder / "near.txt").write_text(texts[1] + "\n\nOne more line.")
    (folder / "short.txt").write_text("Too short.")
    (folder / "long.txt").write_text("\n\n".join(texts[:4]))
    (folder / "latin.txt").write_bytes("Übermäßig".encode("latin-1"))
    (folder / "flat.txt").write_text(
        "\n\n".join(planted_fact_docs.document(50, topics=2, paragraphs=17)[0].split("\n\n"))
    )
    return folder


@pytest.fixture
def config_file(tmp_path, tokenizer_folder):
    """config_file(server_url, **blocks) -> a YAML file for these documents."""

    def make(url: str = "http://127.0.0.1:9/v1", timeout_s: float = 2.0, **blocks) -> Path:
        values = {
            "tokenizer": str(tokenizer_folder),
            "part_documents": 3,
            "servers": {
                "default": {
                    "endpoints": [url],
                    "model": "judge",
                    "timeout_s": timeout_s,
                    "backoff_s": 0.01,
                    "max_backoff_s": 0.2,
                    "cooldown_s": 0.0,
                    "concurrency": 16,
                }
            },
            "ingest": {"buckets": [500, 1200, 3000]},
            "chunk": {"max_tokens": 110},
            "embed": {"backend": "static"},
            "cluster": {"epsilon": 0.15},
            "answer": {"closed_book": 1, "with_document": 4},
            "export": {"max_prompt_tokens": 4096, "val_fraction": 0.2},
            **blocks,
        }
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    return make
