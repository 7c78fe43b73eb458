"""The KeyChain pipeline: multi-hop questions hidden behind chains of keys in prompts of any length (LoongRL)."""

from __future__ import annotations

from data_gen.keychain.export import KeychainExportStage
from data_gen.keychain.fill import FillStage
from data_gen.keychain.filter import FilterStage
from data_gen.keychain.haystack import HaystackStage
from data_gen.keychain.questions import QuestionsStage
from data_gen.keychain.retrieval import RetrievalStage
from data_gen.pipeline import Pipeline

KEYCHAIN = Pipeline(
    "keychain",
    [QuestionsStage, HaystackStage, FilterStage, FillStage, RetrievalStage, KeychainExportStage],
    shared_parts="questions",
    inputs="File of questions",
    title="KeyChain questions in long contexts",
    about="Rows of loongrl_keychain hide the question behind chains of keys, rows of loongrl_qa ask it openly, "
    "rows of loongrl_retrieval ask for sentences hidden in the text; "
    "`extra_info.payload` holds source, the true chain's keys, and the positions of the gold passages.",
)
