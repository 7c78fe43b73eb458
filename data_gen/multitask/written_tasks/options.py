"""What a user may set about written tasks."""

from __future__ import annotations

from dataclasses import dataclass

from verl_longrl.rewards.options import Options, number

from data_gen.llm import check_sampling

WRITTEN = ("qa", "choice", "summary")


@dataclass(frozen=True)
class WriteOptions(Options):
    """server: which of `servers` writes; "" for nobody. overlong_server: which one where more than long_tokens are
    shown ("": the same). tasks: those that are written; qa is then not computed. attempts: replies asked for until one
    keeps the rules. min_evidence: passages that a question must need. max_answer_words: of an answer of task qa.
    references: summaries of one text. focused_share: of the summaries, those of one thing that the text tells of. The
    others: sampling."""

    server: str = ""
    overlong_server: str = ""
    long_tokens: int = 65536
    tasks: tuple[str, ...] = WRITTEN
    attempts: int = 3
    min_evidence: int = 2
    max_answer_words: int = 12
    references: int = 2
    focused_share: float = 0.5
    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        for name in ("long_tokens", "attempts", "min_evidence", "max_answer_words", "references"):
            number(f"write.{name}", getattr(self, name), 1, whole=True)
        number("write.focused_share", self.focused_share, 0, 1)
        check_sampling("write", self)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(WRITTEN):
            raise ValueError(f"write.tasks = {list(self.tasks)}; expected some of {', '.join(WRITTEN)}, each once")
        if self.overlong_server and not self.server:
            raise ValueError(f"write.overlong_server = {self.overlong_server} without write.server; set that one too")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The tasks that a model writes; none where no server is named."""
        return self.tasks if self.server else ()

    @property
    def servers(self) -> dict[str, str]:
        """The keys that name servers, and the names."""
        named = {"write.server": self.server, "write.overlong_server": self.overlong_server}
        return {key: name for key, name in named.items() if name}
