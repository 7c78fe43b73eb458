"""Settings of the tasks that a model writes (`write.*`)."""

from __future__ import annotations

from dataclasses import dataclass

from verl_longrl.rewards.options import Options, number

from data_gen.llm import check_sampling

WRITTEN = ("qa", "choice", "summary")


@dataclass(frozen=True)
class WriteOptions(Options):
    """Which model writes which tasks, and how it is sampled."""

    server: str = ""
    """The writer, by its name in `servers`; "": no task is written."""
    overlong_server: str = ""
    """The writer for texts of more than `long_tokens` tokens; "": the same one."""
    long_tokens: int = 65536
    tasks: tuple[str, ...] = WRITTEN
    """The tasks that are written. With qa among them, qa is not computed."""
    attempts: int = 3
    """Replies requested for a sample until one keeps the rules."""
    min_evidence: int = 2
    """Passages that a question must need."""
    max_answer_words: int = 12
    """Words of an answer of task qa, at most."""
    references: int = 2
    """Reference summaries of one text."""
    focused_share: float = 0.5
    """Share of the summaries that are about one subject of the text."""
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
        """The tasks that a model writes; none without a server."""
        return self.tasks if self.server else ()

    @property
    def servers(self) -> dict[str, str]:
        """Key -> the server it names."""
        named = {"write.server": self.server, "write.overlong_server": self.overlong_server}
        return {key: name for key, name in named.items() if name}
