"""The multi-task pipeline: ten kinds of task about a long document, computed from its text or written (GoLongRL)."""

from __future__ import annotations

from data_gen.grounding.dedup import DedupStage
from data_gen.grounding.ingest import IngestStage
from data_gen.multitask.assign import AssignStage
from data_gen.multitask.compose import ComposeStage
from data_gen.multitask.difficulty import DifficultyStage
from data_gen.multitask.export import MultitaskExportStage
from data_gen.multitask.pool import PoolStage
from data_gen.multitask.verify import VerifyStage
from data_gen.multitask.write import WriteStage
from data_gen.pipeline import Pipeline

MULTITASK = Pipeline(
    "multitask",
    [
        IngestStage,
        DedupStage,
        PoolStage,
        AssignStage,
        ComposeStage,
        WriteStage,
        VerifyStage,
        DifficultyStage,
        MultitaskExportStage,
    ],
    shared_parts="dedup",
    inputs="File, folder, or hf:NAME[:CONFIG[:SPLIT]]",
    title="Many kinds of long-context task",
    about="Answers are computed from the text that the prompt shows, or written by a model and confirmed by another; "
    "each is proven by the row's own reward. `extra_info.payload` holds source, the kind of question, which of the "
    "document's passages are shown, and the evidence of written answers.",
)
