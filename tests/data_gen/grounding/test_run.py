"""The whole pipeline from files to parquet, against a real HTTP server that behaves well and badly."""

import itertools
import json
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from support import fake_pipeline_llm, planted_fact_docs
from support.fake_openai_server import Server, failure
from support.pipeline_runs import run_pipeline, run_ranks, start_pipeline, training_files, training_samples
from verl_longrl.data.prompt import parse_chunks
from verl_longrl.data.schema import read_samples
from verl_longrl.data.validate import validate_file
from verl_longrl.rewards import score

from data_gen import report
from data_gen.grounding.__main__ import app
from data_gen.grounding.pipeline import GROUNDING
from data_gen.store import Shard, Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # transformers' tokenizers are imported

STAGES = GROUNDING.stage_names


def whole(documents, output, config, *more):
    """Arguments for a run of all stages."""
    return ["run", "--input", documents, "--output", output, "--config", config, *more]


def run(*arguments, code=0):
    """Run all stages; what they print."""
    return stage(*whole(*arguments), code=code)


def stage(*arguments, code=0):
    """Run a command; what it prints."""
    return run_pipeline(app, arguments, code)


def test_documents_become_training_data(documents, tmp_path, config_file, server):
    output = tmp_path / "run"
    command = whole(documents, output, config_file(server.url))
    by_a_shell = start_pipeline("grounding", command, stdout=subprocess.PIPE, text=True)
    printed, _ = by_a_shell.communicate(timeout=300)
    assert by_a_shell.returncode == 0
    assert "ingest: 15 of 19 documents (too_long 1, too_short 1, unreadable 2)" in printed
    assert "dedup: 13 of 15 documents (duplicate 1, near_duplicate 1)" in printed

    found = training_samples(output)
    assert len(found) >= 6
    for sample in found:
        chunks = parse_chunks(sample.prompt[0]["content"])
        assert len(chunks) == sample.num_chunks
        assert [chunks[i] for i in sample.ref_chunks] == sample.ref_chunks_text
        facts = {
            name: value for text in sample.ref_chunks_text for _, name, value in planted_fact_docs.FACT.findall(text)
        }
        names = fake_pipeline_llm.QUESTION.search(sample.question).groups()[1:]
        assert sample.ground_truth == " and ".join(facts[name] for name in names)  # the evidence holds the answer
        assert sample.payload["score"] == 9.5
        assert 0 <= sample.payload["pass_rate"] <= 0.9
        cited = "".join(f"<CHUNK_{i}>" for i in sample.ref_chunks)
        response = f"r</think><useful_chunks>{cited}</useful_chunks><answer>{sample.ground_truth}</answer>"
        extra = {"ref_chunks": sample.ref_chunks, "num_chunks": sample.num_chunks}
        assert score(sample.data_source, response, sample.ground_truth, extra).value == 2.0
    for split in ("train", "val"):
        assert validate_file(output / f"{split}.parquet", max_prompt_length=4096).ok

    train, val = ({s.payload["document"] for s in read_samples(output / f"{p}.parquet")} for p in ("train", "val"))
    assert train
    assert val
    assert not train & val
    text = (output / "README.md").read_text()
    assert "| export |" in text
    assert (output / "plots.png").stat().st_size > 5000


def adds_up(output):
    """The funnel's numbers agree with one another, and nobody is lost between stages."""
    funnel = {entry["stage"]: entry for entry in json.loads((output / "funnel.json").read_text())}
    assert list(funnel) == list(STAGES)
    for before, after in itertools.pairwise(STAGES):
        assert funnel[after]["documents"] == funnel[before]["kept"]
    counts = {stage: funnel[stage]["counts"] for stage in STAGES}
    asked = sum(n for key, n in counts["generate"].items() if key.startswith("candidates "))
    assert asked == 3 * counts["cluster"]["clusters chosen"]
    rated = counts["judge"]
    assert rated["candidates rated"] + rated.get("candidates unrated", 0) == counts["generate"]["candidates ok"]
    decided = counts["select"]
    assert sum(decided.values()) == rated["candidates rated"]
    assert counts["answer"]["candidates answered"] == sum(decided.values()) - decided.get(
        "candidates below_threshold", 0
    ) - decided.get("candidates not_best_of_cluster", 0)
    rows = counts["export"]["train rows"] + counts["export"].get("val rows", 0)
    assert rows == funnel["export"]["kept"] == funnel["select"]["kept"] == decided["candidates selected"]
    return funnel


def test_the_funnel_adds_up_whatever_the_server_does(documents, tmp_path, config_file):
    behave, output = fake_pipeline_llm.Misbehaving(share=0.05), tmp_path / "run"
    with closing(Server(fake_pipeline_llm.honest_reply, behave)) as server:
        run(documents, output, config_file(server.url))
    assert all(behave.occurred.values()), behave.occurred  # every kind of trouble occurred
    funnel = adds_up(output)
    dropped = {e["stage"]: e["dropped"] for e in funnel.values()}
    assert dropped["ingest"] == {"unreadable": 2, "too_short": 1, "too_long": 1}
    assert dropped["dedup"] == {"duplicate": 1, "near_duplicate": 1}
    assert dropped["cluster"] == {"few_clusters": 1}
    assert funnel["generate"]["counts"]["candidates skipped"] > 0
    names = Counter(s.payload["document"] for s in training_samples(output))
    assert set(names.values()) == {1}
    assert len(names) == funnel["export"]["kept"]


def test_a_finished_run_asks_nothing_again(documents, tmp_path, config_file, server):
    output, file = tmp_path / "run", config_file(server.url)
    run(documents, output, file)
    before, asked = training_files(output), len(server.bodies)
    run(documents, output, file)
    assert (training_files(output), len(server.bodies)) == (before, asked)
    marker = output / "judge" / "rank-0-of-1.json"
    report = json.loads(marker.read_text())
    marker.unlink()  # as if killed between the last part and the marker
    run(documents, output, file)
    assert json.loads(marker.read_text()).items() >= {k: v for k, v in report.items() if k != "seconds"}.items()
    run(documents, output, file, "--redo", "generate")  # the replies are in the cache
    assert training_files(output) == before
    assert len(server.bodies) - asked <= 2  # but for the question whether the server decodes JSON
    assert "error: " in run(documents, output, file, "cluster.epsilon=0.2", code=1)
    assert "was made with cluster.epsilon = 0.15, now it is 0.2" in run(
        documents, output, file, "cluster.epsilon=0.2", code=1
    )


def test_ranks_make_what_one_process_makes(documents, tmp_path, config_file, server):
    alone, shared, file = tmp_path / "alone", tmp_path / "shared", config_file(server.url)
    run(documents, alone, file)
    run_ranks("grounding", whole(documents, shared, file), 2)
    assert training_files(shared) == training_files(alone)
    numbers = [
        [{**entry, "spent": None} for entry in report.funnel(Store(output, GROUNDING.shared_parts), STAGES)]
        for output in (alone, shared)
    ]
    assert numbers[0] == numbers[1]

    asked = len(server.bodies)  # one process goes on where two were, and pays for nothing again
    run(documents, shared, file, "--redo", "generate")
    assert training_files(shared) == training_files(alone)
    assert len(server.bodies) - asked <= 2  # but for the question whether the server decodes JSON
    spent = [Store(output, GROUNDING.shared_parts).report("answer") for output in (alone, shared)]
    assert all(spent[0][key] == spent[1][key] for key in ("requests", "prompt_tokens", "completion_tokens"))


def test_ranks_hold_to_one_configuration(documents, tmp_path, config_file, server):
    output, file = tmp_path / "run", config_file(server.url)
    ranks = ["--world-size", "2", "--patience", "60"]
    first = start_pipeline("grounding", whole(documents, output, file, *ranks, "--rank", "0"))
    second = ["--rank", "1", "export.max_prompt_tokens=3000"]
    assert "export was made with export.max_prompt_tokens = 4096, now it is 3000" in run(
        documents, output, file, *ranks, *second, code=1
    )
    assert first.wait(300) == 0
    refused = run(documents, output, file, *ranks, "--redo", "select", code=1)
    assert "run the command reset select once" in refused


def test_reset_deletes_nothing_that_is_in_use(documents, tmp_path, config_file, server):
    output = tmp_path / "run"
    reset = ["reset", "chunk", "--output", output]
    run(documents, output, config_file(server.url), "--until", "embed")
    with Store(output, GROUNDING.shared_parts, Shard(1, 2)).locked():
        assert "rank-1 is at work" in stage(*reset, code=1)
        assert (output / "embed").exists()
    stage(*reset)
    assert (output / "dedup").exists()
    assert not (output / "chunk").exists()
    assert not (output / "embed").exists()


def test_what_a_stage_learnt_of_its_server_holds_for_all_its_processes(documents, tmp_path, config_file, server):
    """Not the server's mood, but its first answer, decides how JSON is asked for; and its model stays the same."""
    output, file = tmp_path / "run", config_file(server.url, servers={"default": {"endpoints": [server.url]}})
    probes = [0]

    def behave(body, n):
        if "response_format" in body and body["max_tokens"] == 16:
            probes[0] += 1
            return 0.0 if probes[0] == 1 else failure(400)
        return 0.0 if len(server.bodies) < 60 else failure(401)

    server.behave = behave
    printed = run(documents, output, file, "--until", "generate", code=1)
    assert "generate: servers.default serves judge, JSON by structured decoding" in printed
    server.models = ["another"]
    assert "generate was made with judge, now servers.default serves another" in run(
        documents, output, file, "--until", "generate", code=1
    )
    server.models, server.behave = ["judge"], lambda body, n: 0.0
    asked = len(server.bodies)
    run(documents, output, file, "--until", "generate")
    assert all("response_format" in body and body["max_tokens"] != 16 for body in server.bodies[asked:])


@pytest.mark.parametrize(("ranks", "kills"), [(1, 8), (2, 4)])
def test_killed_at_random_moments_the_result_is_the_same(documents, tmp_path, config_file, ranks, kills):
    """Processes are killed while they work and the server misbehaves; what they began, one process ends."""
    behave = fake_pipeline_llm.Misbehaving(share=0.03, hang_s=1.5)
    server = Server(fake_pipeline_llm.honest_reply, behave)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    file = config_file(server.url, timeout_s=0.7)
    draw, codes = random.Random(0), []
    try:
        run(documents, undisturbed, file)
        while codes.count(-signal.SIGKILL) < kills:
            behave.seen.clear()  # every life meets all the trouble
            before = set(killed.rglob("*"))
            arguments = whole(documents, killed, file, "--world-size", ranks, "--rank")
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            world = [start_pipeline("grounding", [*arguments, rank], **silent) for rank in range(ranks)]
            while set(killed.rglob("*")) <= before and world[0].poll() is None:  # it is still being imported
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 2.5))
            for process in world:
                process.kill()  # nothing, if it has come to its end
            codes += [process.wait() for process in world]
            if codes[-ranks:] == [0] * ranks:  # all have come to their end: go back to some stage, and on from there
                Store(killed, GROUNDING.shared_parts).remove(STAGES[draw.randrange(6) :])
        run(documents, killed, file)
    finally:
        server.close()
    assert set(codes) <= {0, -signal.SIGKILL}  # none of them failed
    assert behave.occurred["hang"]
    assert training_files(killed) == training_files(undisturbed)
    assert not list(killed.rglob("*.tmp"))
    adds_up(killed)


def test_a_dead_server_keeps_what_is_done(documents, tmp_path, config_file, server):
    def dies(body, n):
        return 0.0 if n < 60 else failure(500)

    output, file = tmp_path / "run", config_file(server.url)
    server.behave = dies
    printed = run(documents, output, file, "servers.default.attempts=2", code=1)
    assert "error: no answer from http://127.0.0.1" in printed
    assert "run the same command" in printed
    server.behave = lambda body, n: 0.0
    asked = len(server.bodies)
    run(documents, output, file)
    keys = [json.dumps(body, sort_keys=True) for body in server.bodies[:59]]
    assert not set(keys[1:]) & {json.dumps(body, sort_keys=True) for body in server.bodies[asked + 1 :]}


def test_each_stage_alone_and_status(documents, tmp_path, config_file, server):
    output, file = tmp_path / "run", config_file(server.url)
    common = ("--output", str(output), "--config", str(file))
    assert "stage dedup needs the output of stage ingest" in stage("dedup", *common, code=1)
    assert "stage ingest needs --input" in stage("ingest", *common, code=1)
    stage("ingest", "--input", str(documents), *common)
    for name in STAGES[1:5]:
        stage(name, *common)
    assert "cluster" in stage("status", "--output", str(output))
    assert "stage embed needs" not in stage("embed", *common)
    assert Path(output / "cluster").exists()
    stage("chunk", *common, "--redo")
    assert not Path(output / "cluster").exists()


def test_help_and_wrong_commands(tmp_path):
    text = stage("--help")
    assert all(name in text for name in ("run", "status", "config", *STAGES))
    assert "unknown stage" in stage("run", "--output", str(tmp_path), "--until", "nothing", code=1)
    text = stage("run", "--output", str(tmp_path), "--input", "/nowhere/at/all", code=1)
    assert "error: --input /nowhere/at/all: no such file or folder" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "{file}"], r"cannot be written"),
        (["--output", "o", "benchmarks=[nothere.jsonl]"], "benchmarks: nothere.jsonl: no such file"),
        (["--output", "o", "tokenizer=builtin"], "tokenizer builtin has no chat template"),
        (
            ["--output", "o", "generate.server=big"],
            "generate.server = big: this server is not defined (the nearest name is default)",
        ),
        (
            ["--output", "o", "benchmarks=x.jsonl"],
            "benchmarks = 'x.jsonl': expected a list of strings. Fix: write benchmarks=['x.jsonl']",
        ),
        (["--output", "o", "ingest.buckets=[10,20]"], "ingest: no document is left (too_long"),
        (["--output", "o", "--redo", "nothing"], "nothing: unknown stage"),
        (["--output", "o", "--rank", "5"], "--rank 5 --world-size 1: expected a rank from 0"),
        (["--output", "o", "servers=foo"], "servers = 'foo': expected keys and values"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_paid_for(
    documents, tmp_path, config_file, monkeypatch, arguments, message
):
    (tmp_path / "file").write_text("x")
    given = [a.format(file=tmp_path / "file") for a in arguments]
    monkeypatch.chdir(tmp_path)
    printed = stage("run", "--input", documents, "--config", config_file(), *given, code=1)
    assert message in printed
