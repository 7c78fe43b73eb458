"""Options of written tasks."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from verl_longrl.options import OptionError, Share

from data_gen.sampling import NucleusSamplingOptions

WRITTEN = ("qa", "choice", "summary")


@dataclass(frozen=True)
class WriteOptions(NucleusSamplingOptions):
    """Options of stage write."""

    server: str = ""
    """The one of `servers` that writes; "" to write nothing."""
    overlong_server: str = ""
    """The one of `servers` that writes if more than long_tokens are shown; "" for the same one."""
    long_tokens: PositiveInt = 65536
    """Tokens of the text above which overlong_server writes."""
    tasks: tuple[str, ...] = WRITTEN
    """The tasks that are written. With a server, qa is written instead of computed."""
    attempts: PositiveInt = 3
    """Replies requested until one follows the rules."""
    min_evidence: PositiveInt = 2
    """Passages that the answer to a question must need, at least."""
    max_answer_words: PositiveInt = 12
    """Longest answer of task qa, in words."""
    references: PositiveInt = 2
    """Reference summaries of one text."""
    focused_share: Share = 0.5
    """Share of the summaries that are about one subject of the text."""
    temperature: NonNegativeFloat = 0.8

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or not set(self.tasks) <= set(WRITTEN):
            raise OptionError(
                "tasks", self.tasks, f"expected some of {', '.join(WRITTEN)}, each once", "correct the names"
            )
        if self.overlong_server and not self.server:
            problem = "write.overlong_server needs write.server"
            raise OptionError("overlong_server", self.overlong_server, problem, "set write.server too")

    @property
    def enabled_tasks(self) -> tuple[str, ...]:
        """The tasks that a model writes: none if write.server is not set."""
        return self.tasks if self.server else ()

    @property
    def server_names(self) -> dict[str, str]:
        """The configuration keys that name servers, with the names."""
        return {"write.server": self.server, "write.overlong_server": self.overlong_server}
