"""The grounding pipeline: questions whose answer needs several chunks of a long document (LongRLVR)."""

from __future__ import annotations

from data_gen.grounding.answer import AnswerStage
from data_gen.grounding.chunk import ChunkStage
from data_gen.grounding.cluster import ClusterStage
from data_gen.grounding.dedup import DedupStage
from data_gen.grounding.embed import EmbedStage
from data_gen.grounding.export import GroundingExportStage
from data_gen.grounding.generate import GenerateStage
from data_gen.grounding.ingest import IngestStage
from data_gen.grounding.judge import JudgeStage
from data_gen.grounding.select import SelectStage
from data_gen.pipeline import Pipeline

GROUNDING = Pipeline(
    "grounding",
    [
        IngestStage,
        DedupStage,
        ChunkStage,
        EmbedStage,
        ClusterStage,
        GenerateStage,
        JudgeStage,
        AnswerStage,
        SelectStage,
        GroundingExportStage,
    ],
    shared_parts="dedup",
    inputs="File, folder, or hf:NAME[:CONFIG[:SPLIT]]",
    title="Grounded long-context questions",
    about="Each row asks one question whose evidence is in several chunks of the document; `extra_info.ref_chunks` "
    "names them, `extra_info.payload` holds source, explanation, score and pass rates.",
)
