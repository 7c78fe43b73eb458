"""Keys of rollouts in TransferQueue."""

from typing import NamedTuple, Self


class RolloutKey(NamedTuple):
    """verl's key `{uid}_{session}_{output}` of a row, e.g. `0f6c-91_3_0`.

    uid: the prompt's id. session: the number of the rollout, from 0. output: the number of the agent loop's output
    within the rollout, from 0; most loops have one. Padding rows have keys of this form with a uid of their own.
    """

    uid: str
    session: int
    output: int

    @classmethod
    def parse(cls, key: str) -> Self:
        """Raises ValueError for a key of another form, such as that of a prompt, which is the uid alone."""
        uid, session, output = key.rsplit("_", 2)
        return cls(uid, int(session), int(output))

    @property
    def rollout(self) -> tuple[str, int]:
        """Equal for all outputs of one rollout."""
        return self.uid, self.session
