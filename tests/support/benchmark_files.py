"""Files with one row each, in the exact fields of the benchmarks whose data only the hub has."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from verl_longrl.data.schema import Sample

CONVERSATION = [
    {"role": "user", "content": "write a poem about foxes"},
    {"role": "assistant", "content": "Foxes run."},
    {"role": "user", "content": "Prepend a1b2c3d4e5 to the 1st (1 indexed) poem about foxes."},
]
_OWN = "<CHUNK_0>Ann has 3.</CHUNK_0>\n<CHUNK_1>Bob has 4.</CHUNK_1>\n\nQuestion: How many has Bob?\n\nAnswer."
OWN = Sample(
    data_source="longrlvr",
    prompt=[{"role": "user", "content": _OWN}],
    ground_truth="4",
    index=0,
    question="How many has Bob?",
    ref_chunks=[1],
    ref_chunks_text=["Bob has 4."],
    num_chunks=2,
)
"""A grounded row of one's own parquet file."""
FILES = {
    "longbench_v2": (
        "data.json",
        {
            **{"_id": "66f3", "domain": "Code", "sub_domain": "Repository", "difficulty": "easy", "length": "short"},
            **{"question": " Which one, $DOC$ or {x}? ", "answer": "B", "context": " The text with $Q$ and {braces}. "},
            **{"choice_A": "north", "choice_B": "south", "choice_C": "east", "choice_D": "west"},
        },
        "The correct answer is (B)",
    ),
    "longbench_v1_qa": (
        "data/qasper.jsonl",
        {
            **{"input": "Which model?", "context": "An article.", "answers": ["BERT", "a BERT model"], "length": 2},
            **{"dataset": "qasper", "language": "en", "all_classes": None, "_id": "q1"},
        },
        "BERT",
    ),
    "longreason": (
        "data/32k-00000-of-00001.parquet",
        {
            **{"question": "Long question", "background": "Background", "final_inquiry": "How many?"},
            **{"example_idx": "17", "answer": "C", "analysis": "..."},
            "prompt": "Background.\n\nHow many?\nA. one\nB. two\nC. three\nD. four\n",
        },
        "<answer>C</answer>",
    ),
    "mrcr": (
        "2needle/2needle_0.parquet",
        {
            "prompt": json.dumps(CONVERSATION),
            **{"answer": "a1b2c3d4e5Foxes run.", "random_string_to_prepend": "a1b2c3d4e5", "n_needles": 2},
            **{"desired_msg_index": 1, "total_messages": 4, "n_chars": 80},
        },
        "a1b2c3d4e5Foxes run.",
    ),
    "frames": (
        "test.jsonl",
        {
            **{"Prompt": "Who was older?", "Answer": "Jane Ballou"},
            "wiki_items": [
                {"title": "Jane", "link": "l", "frames_prompt_id": [0], "original_link": "o", "text": "Born 1801."},
                {"title": "Ann", "link": "l", "frames_prompt_id": [0], "original_link": "o", "text": "Born 1802."},
            ],
        },
        "Therefore, the answer is Jane Ballou",
    ),
    "docmath": (
        "complong_testmini.json",
        {
            **{"question_id": "complong-testmini-0", "source": "finqa", "original_question_id": "f1"},
            **{"question": "What is the change, in million?", "paragraphs": ["Rent 3.", "|a|31|", "Other."]},
            **{"table_evidence": [1], "paragraph_evidence": [0], "python_solution": "...", "ground_truth": -31.0},
        },
        "Therefore, the answer is -31.",
    ),
    "corpusqa": (
        "128k_4domains.jsonl",
        {
            "id": "financial_en_12",
            "prompt": [{"role": "user", "content": "Documents ... How many?"}],
            **{"question": "How many?", "answer": "42"},
        },
        "The answer is: 42",
    ),
    "longbench_pro": (
        "longbench_pro.json",
        {
            **{"id": "b1", "context": "A text.", "language": "English", "token_length": "8k"},
            **{"primary_task": "T3. Evidence-Grounded QA", "secondary_task": "T3.2 Single-Hop Fact QA"},
            **{"contextual_requirement": "Partial", "question_nonthinking": "Q now", "question_thinking": "Q, think"},
            **{"answer": ["B"], "difficulty": "Easy"},
        },
        "[Answer]\nB",
    ),
}
FILES["docmath_grounded"] = (
    *FILES["docmath"][:2],
    "It fell.</think><useful_chunks><CHUNK_0><CHUNK_1></useful_chunks><answer>-31</answer>",
)


def write_rows(folder, name, rows):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(json.dumps(rows))
    return file


def options_of(benchmark):
    """Options for the one file made, and few tokens for MRCR's smallest bin."""
    return {
        "longbench_v1_qa": {"tasks": ["qasper"]},
        "longreason": {"tasks": ["32k"]},
        "mrcr": {"tasks": ["2needle"], "count_tokens": lambda text: 1500},
        "docmath": {"tasks": ["complong"]},
        "docmath_grounded": {"tasks": ["complong"]},
        "corpusqa": {"tasks": ["128k"]},
    }.get(benchmark, {})
