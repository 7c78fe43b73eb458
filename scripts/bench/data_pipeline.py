"""Benchmark the data pipeline: speed relative to LangChain's splitter and to an ideal client, and memory on more data.

    python scripts/bench/data_pipeline.py [chunk|cluster|llm|memory]...

chunk: seconds of LangChain's RecursiveCharacterTextSplitter.from_huggingface_tokenizer, relative to our splitter, with
the same separators, limit and documents of 32K tokens, on one core, alternating. The chunks are compared too.
cluster: ms of HDBSCAN on documents of 128 chunks.
llm: a stage's requests per second with a server that answers after 50 ms, at concurrency 64, relative to the ideal
64 / 0.05 s; and the same of a bare client.
memory: peak of the whole pipeline on 800 documents (100 parts), relative to 80 (10 parts), in separate processes.

Writes docs/results/data_gen.json.
"""

import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from stub_server import DELAY_S, stub_server

# All measurements are of one core.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

RESULT = Path("docs/results/data_gen.json")
ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
CRITERIA = ("challenge", "correctness", "completeness", "clarity", "necessity", "score")


def build_documents_32k(count: int = 6) -> list[str]:
    """Documents of 32K tokens: prose from the documentation of installed packages, several files in each."""
    from data_gen.tokenizer import BUILTIN, load_tokenizer

    tokenizer = load_tokenizer(BUILTIN).backend_tokenizer
    files = sorted((Path(sys.prefix) / "lib").rglob("*.md")) + sorted((Path(sys.prefix) / "lib").rglob("*.txt"))
    random.Random(0).shuffle(files)
    documents, text = [], ""
    for file in files:
        content = file.read_text(errors="ignore")
        # Skip tables of numbers.
        if sum(c.isalpha() or c == " " for c in content) > 0.85 * len(content):
            text += content + "\n\n"
        if len(text) > 100_000:
            encoding = tokenizer.encode(text, add_special_tokens=False)
            if len(encoding) >= 32768:
                documents.append(text[: encoding.offsets[32767][1]])
                text = ""
        if len(documents) == count:
            break
    return documents


def bench_chunk(rounds: int = 3) -> dict:
    """Seconds of both splitters on the same documents, and their ratio."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from data_gen.grounding.splitter import SEPARATORS, Splitter
    from data_gen.tokenizer import BUILTIN, load_tokenizer

    tokenizer = load_tokenizer(BUILTIN)
    theirs = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=512, chunk_overlap=0, separators=list(SEPARATORS)
    )
    ours = Splitter(tokenizer.backend_tokenizer, 512)
    one_pass, ratios, seconds, differ, total = [], [], {"ours": 0.0, "langchain": 0.0}, 0, 0
    for document in build_documents_32k():
        for _ in range(rounds):
            times = [time.perf_counter()]
            chunks = ours.split(document)
            times.append(time.perf_counter())
            expected = [text.strip() for text in theirs.split_text(document) if text.strip()]
            times.append(time.perf_counter())
            tokenizer.backend_tokenizer.encode_batch_fast([document], add_special_tokens=False)
            times.append(time.perf_counter())
            our_s, their_s, single_s = (b - a for a, b in itertools.pairwise(times))
            ratios.append(their_s / our_s)
            one_pass.append(their_s / single_s)
            seconds["ours"] += our_s
            seconds["langchain"] += their_s
        texts = [document[start:end] for start, end, _ in chunks]
        total += len(texts)
        differ += sum(a != b for a, b in itertools.zip_longest(texts, expected))
    return {
        "ratio": statistics.median(ratios),
        "ratio_of_one_pass": statistics.median(one_pass),
        "seconds": seconds,
        "chunks": total,
        "different_chunks": differ,
    }


def bench_cluster() -> dict:
    """Median milliseconds to cluster a document of 128 chunks, by dimension of the embedding."""
    import numpy as np

    from data_gen.grounding.cluster import ClusterOptions, cluster_labels

    result = {}
    for dimensions in (256, 1024):
        draw = np.random.default_rng(0)
        times = []
        for _ in range(30):
            centres = draw.normal(size=(12, dimensions))
            vectors = centres[draw.integers(0, 12, 128)] + 0.6 * draw.normal(size=(128, dimensions))
            vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
            started = time.perf_counter()
            cluster_labels(vectors, ClusterOptions())
            times.append(1e3 * (time.perf_counter() - started))
        result[f"ms_{dimensions}"] = statistics.median(times)
    return result


async def bare_client(url: str, requests: int, size: int) -> float:
    """Requests per second of 64 loops that only post `size` bytes: the limit of the machine."""
    import asyncio

    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def loop() -> None:
            for _ in range(requests // 64):
                async with http.post(f"{url}/chat/completions", data=b"x" * size) as response:
                    json.loads(await response.read())

        started = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(64)))
        return requests / (time.perf_counter() - started)


def bench_llm(documents: int = 800, candidates: int = 12) -> dict:
    """Requests per second of the judge stage on documents with 12 candidates each, relative to the ideal."""
    import asyncio

    from data_gen.grounding.judge import JudgeStage, JudgeStageOptions
    from data_gen.llm import LLMOptions
    from data_gen.store import Store

    text = "A sentence of an excerpt that the judge reads. " * 400
    span = [[i * 2000, (i + 1) * 2000, 450] for i in range(8)]
    rating = json.dumps(dict.fromkeys(CRITERIA, 9.5))
    with stub_server(rating) as url, tempfile.TemporaryDirectory() as folder:
        store = Store(folder, "ingest")
        for part in range(documents // 40):
            names = [f"{part}-{n}" for n in range(40)]
            candidate_rows = [
                {
                    "cluster": 0,
                    "candidate": j,
                    "status": "ok",
                    "question": f"q{j}",
                    "answer": "a",
                    "evidence": [0, 3],
                }
                for j in range(candidates)
            ]
            rows = {
                "ingest": [{"id": name, "text": text} for name in names],
                "chunk": [{"id": name, "spans": span} for name in names],
                "cluster": [{"id": name, "clusters": [list(range(8))]} for name in names],
                "generate": [{"id": name, "candidates": candidate_rows} for name in names],
            }
            for stage, stage_rows in rows.items():
                store.begin(stage, {})
                store.write(stage, f"{part:06d}", stage_rows)
        for stage in rows:
            store.finish(stage, {"documents": documents})
        options = LLMOptions(endpoints=(url,), model="m", concurrency=64, structured="off")
        stage = JudgeStage(JudgeStageOptions(), options, 0)
        bare = asyncio.run(bare_client(url, documents * candidates, 17_000))
        started = time.perf_counter()
        stage.run(store, 0)
        seconds = time.perf_counter() - started
    rate, ideal = documents * candidates / seconds, 64 / DELAY_S
    return {"requests_per_s": rate, "ideal": ideal, "share_of_ideal": rate / ideal, "bare_client": bare / ideal}


def run_pipeline(documents: int, url: str) -> None:
    """Run the whole pipeline in this process and print its peak memory in GiB.

    Documents have 1,000 tokens, and parts have eight documents.
    """
    sys.path.insert(0, str(TESTS))
    from support import planted_fact_docs

    from data_gen.grounding.pipeline import GROUNDING
    from data_gen.store import Store
    from recipe.longrl.demo import tokenizer

    overrides = [
        "part_documents=8",
        "ingest.buckets=[100,65536]",
        "chunk.max_tokens=110",
        "embed.backend=static",
        "cluster.epsilon=0.15",
        f"servers.default.endpoints=[{url}]",
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, model = Path(folder) / "documents.jsonl", Path(folder) / "tokenizer"
        with source.open("w") as file:
            for seed in range(documents):
                file.write(json.dumps({"text": planted_fact_docs.document(seed)[0]}) + "\n")
        tokenizer.build_tokenizer([planted_fact_docs.document(seed)[0] for seed in range(3)]).save_pretrained(model)
        settings = GROUNDING.config.load(None, [*overrides, f"tokenizer={model}"])
        store = Store(Path(folder) / "run", GROUNDING.shared_parts)
        for name in GROUNDING.stage_names:
            settings.stage(name, [str(source)]).run(store, 0)
        report = store.report("export")
    assert report is not None
    assert report["counts"]["train rows"] > documents / 4
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def bench_memory() -> dict:
    """Peak memory of the whole pipeline on 80 and on 800 documents, 10 and 100 parts."""
    code = (
        "import time; from support import fake_pipeline_llm as llm; print(llm.serve().url, flush=True); time.sleep(9e4)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        peaks = []
        for documents in (80, 800):
            command = [sys.executable, __file__, "--pipeline", str(documents), "--url", url]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            peaks.append(float(printed.splitlines()[-1]))
    finally:
        server.kill()
    return {"gib_80": peaks[0], "gib_800": peaks[1], "ratio": peaks[1] / peaks[0]}


BENCHMARKS = {"chunk": bench_chunk, "cluster": bench_cluster, "llm": bench_llm, "memory": bench_memory}


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(BENCHMARKS)} (default: all).")] = None,
    pipeline: Annotated[int, typer.Option(hidden=True)] = 0,
    url: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run benchmarks, print their results and update the JSON."""
    if pipeline:
        run_pipeline(pipeline, url)
        return
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in names or BENCHMARKS:
        result[name] = BENCHMARKS[name]()
        print(name, json.dumps(result[name], indent=1), flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
