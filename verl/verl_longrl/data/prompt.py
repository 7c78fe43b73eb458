"""Build grounded prompts, which show a document as numbered chunks, and parse the chunks back.

The format: chunks as `<CHUNK_i>text</CHUNK_i>`, i = 0..N-1 in document order, one after another on new
lines, a blank line, `Question: ...`, a blank line, the instructions. `parse_chunks` inverts `grounded_prompt`
exactly, because text that would be read as part of the document is refused when the prompt is built: a chunk tag in a
chunk or in the question (the model would see one more chunk, and citations would be graded against another one), and a
closing chunk tag in the instructions, which may name chunks to show how to cite. A chunk may not hold a tag of the
response format either. Pure Python.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

TAG = re.compile(r"<(/?)CHUNK_(\d+)>")
RESPONSE_TAG = re.compile(r"<\s{0,4}/?\s{0,4}(?:think|useful_chunks|answer)\s{0,4}>")
"""The tags of the response format, with the white space that its reader tolerates."""
_ANY_TAG = re.compile(f"{TAG.pattern}|{RESPONSE_TAG.pattern}")

INSTRUCTIONS = (
    "Answer the question using the document above, which is divided into numbered chunks.\n"
    "First reason step by step about which chunks contain the evidence, and end your reasoning with "
    "</think>.\n"
    "Then name every chunk that the answer is based on, and no others, in exactly one block written like this: "
    "<useful_chunks><CHUNK_2><CHUNK_5></useful_chunks>.\n"
    "Then give the answer, as short as possible, in exactly one block written like this: "
    "<answer>your answer</answer>."
)
"""Default instructions, which describe the response format: reasoning, one citation block, one answer block."""


class ChunkTagError(ValueError):
    """The chunk tags of a prompt do not form `<CHUNK_0>...</CHUNK_0>`, `<CHUNK_1>...` and so on, in order."""


def grounded_prompt(chunks: Sequence[str], question: str, instructions: str = INSTRUCTIONS) -> list[dict[str, str]]:
    """Chat messages (one user message) that show `chunks` and ask `question`.

    Empty `instructions` are left out. Documents and questions that may contain chunk tags must pass through
    `neutralise_tags` first, documents before they are split into chunks.

    Raises:
        ChunkTagError: there is no chunk, a chunk's text or the question contains a chunk tag, a chunk's text contains a
            tag of the response format, or the instructions contain a closing chunk tag.
    """
    if not chunks:
        raise ChunkTagError("no chunks: a grounded prompt needs at least one")
    for i, chunk in enumerate(chunks):
        if tag := _ANY_TAG.search(chunk):
            raise ChunkTagError(
                f"the text of chunk {i} contains {tag[0]} at character {tag.start()}. Fix: "
                "pass the document through neutralise_tags before splitting it into chunks"
            )
    if tag := TAG.search(question):
        raise ChunkTagError(
            f"the question contains {tag[0]} at character {tag.start()}. Fix: pass it through neutralise_tags"
        )
    if tag := next((tag for tag in TAG.finditer(instructions) if tag[1]), None):
        raise ChunkTagError(
            f"the instructions contain {tag[0]} at character {tag.start()}, which would be read as the end of the "
            "document. Fix: name chunks by their opening tag alone, as in <CHUNK_2>"
        )
    document = "\n".join(f"<CHUNK_{i}>{chunk}</CHUNK_{i}>" for i, chunk in enumerate(chunks))
    content = f"{document}\n\nQuestion: {question}" + (f"\n\n{instructions}" if instructions else "")
    return [{"role": "user", "content": content}]


def neutralise_tags(text: str) -> str:
    """`text` with harmless tags of documents and responses: `<CHUNK_3>` becomes `(CHUNK_3)`, `</think>` `(/think)`.

    The length stays the same, so offsets hold.
    """
    return _ANY_TAG.sub(lambda tag: f"({tag[0][1:-1]})", text)


def parse_chunks(content: str) -> list[str]:
    """Texts of the chunks in a prompt's content, in order; one linear pass.

    Instructions and question may be on either side of the document and mention tags, as in the default
    instructions and the released prompts. Instructions before it may also show a pair without a word in it, such as
    `<CHUNK_0>...</CHUNK_0>`. The document is the run of paired tags from the last paired `<CHUNK_0>` to the last
    closing tag. A second document, which a question could forge, is refused.

    Raises:
        ChunkTagError: no chunks, the first is not 0, a number is skipped or repeated, a tag is not closed or
            is inside another chunk, there is text between two chunks, or there are two documents.
    """
    tags = list(TAG.finditer(content))
    pairs = [i for i, (a, b) in enumerate(itertools.pairwise(tags)) if not a[1] and b[1] and a[2] == b[2]]
    if not pairs:
        raise ChunkTagError("no <CHUNK_i>...</CHUNK_i> in the prompt")
    firsts = [i for i in pairs if tags[i][2] == "0"]
    if not firsts:
        raise ChunkTagError(f"the first chunk is {tags[pairs[0]][0]}; expected <CHUNK_0>...</CHUNK_0>")
    start = firsts[-1]
    if start and tags[start - 1][1] and not content[tags[start - 1].end() : tags[start].start()].strip():
        raise ChunkTagError("<CHUNK_0> appears twice in the document")
    for i in pairs[: pairs.index(start)]:
        if re.search(r"\w", content[tags[i].end() : tags[i + 1].start()]):
            raise ChunkTagError(
                f"there are two documents: {tags[i][0]} at character {tags[i].start()} has text, and <CHUNK_0> follows "
                f"at character {tags[start].start()}"
            )

    end = max(i for i, tag in enumerate(tags) if tag[1]) + 1
    chunks: list[str] = []
    closed_at = tags[start].start()
    for i in range(start, end, 2):
        opening, closing = tags[i], tags[i + 1] if i + 1 < end else None
        expected = f"<CHUNK_{len(chunks)}>"
        if opening[0] != expected:
            raise ChunkTagError(f"{opening[0]} follows {len(chunks)} chunks; expected {expected}")
        if closing is None or closing[0] != f"</CHUNK_{len(chunks)}>":
            following = closing[0] if closing else "the end"
            raise ChunkTagError(f"{opening[0]} is not closed before {following}")
        if content[closed_at : opening.start()].strip():
            raise ChunkTagError(f"there is text between two chunks, before {opening[0]}")
        chunks.append(content[opening.end() : closing.start()])
        closed_at = closing.end()
    if end < len(tags) and not content[closed_at : tags[end].start()].strip():
        raise ChunkTagError(f"{tags[end][0]} is not closed")
    return chunks
