"""Options of written tasks."""

from __future__ import annotations

from dataclasses import dataclass

from verl_longrl.rewards.options import Options, number

from data_gen.llm import check_sampling

WRITTEN = ("qa", "choice", "summary")


@dataclass(frozen=True)
class WriteOptions(Options):
    """Options of stage write."""

    server: str = ""
    """The one of `servers` that writes; "" to write nothing."""
    overlong_server: str = ""
    """The one of `servers` that writes if more than long_tokens are shown; "" for the same one."""
    long_tokens: int = 65536
    """Tokens of the text above which overlong_server writes."""
    tasks: tuple[str, ...] = WRITTEN
    """The tasks that are written. With a server, qa is written instead of computed."""
    attempts: int = 3
    """Replies requested until one follows the rules."""
    min_evidence: int = 2
    """Passages that the answer to a question must need, at least."""
    max_answer_words: int = 12
    """Longest answer of task qa, in words."""
    references: int = 2
    """Reference summaries of one text."""
    focused_share: float = 0.5
    """Share of the summaries that are about one subject of the text."""
    temperature: float = 0.8
    """Sampling temperature."""
    top_p: float = 0.95
    """Nucleus sampling threshold."""
    max_tokens: int = 16384
    """Longest reply, in tokens."""

    def __post_init__(self) -> None:
        for name in ("long_tokens", "attempts", "min_evidence", "max_answer_words", "references"):
            number(f"write.{name}", getattr(self, name), 1, whole=True)
        number("write.focused_share", self.focused_share, 0, 1)
        check_sampling("write", self)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(WRITTEN):
            raise ValueError(f"write.tasks = {list(self.tasks)}: expected some of {', '.join(WRITTEN)}, each once")
        if self.overlong_server and not self.server:
            raise ValueError(
                f"write.overlong_server = {self.overlong_server}: write.overlong_server needs write.server. Fix: set both"
            )

    @property
    def enabled_tasks(self) -> tuple[str, ...]:
        """The tasks that a model writes: none if write.server is not set."""
        return self.tasks if self.server else ()

    @property
    def server_names(self) -> dict[str, str]:
        """The configuration keys that name servers, with the names."""
        return {"write.server": self.server, "write.overlong_server": self.overlong_server}
