"""The grounded_qa pipeline: questions whose evidence a data set names become LongRLVR's rows, without any model."""

from __future__ import annotations

from data_gen.grounded_qa.export import GroundedQAExportStage
from data_gen.grounded_qa.fill import GroundedFillStage
from data_gen.grounded_qa.haystack import ChunkHaystackStage
from data_gen.grounded_qa.questions import GroundedQuestionsStage
from data_gen.pipeline import Pipeline

GROUNDED_QA = Pipeline(
    "grounded_qa",
    [GroundedQuestionsStage, ChunkHaystackStage, GroundedFillStage, GroundedQAExportStage],
    shared_parts="questions",
    inputs="File of questions with evidence",
    title="Questions with known evidence in long contexts",
    about="Rows of longrlvr: chunks of the questions' own passages among those of others; the evidence is what the "
    "questions' data set names. `extra_info.payload` holds the source and the evidence's own words.",
)
