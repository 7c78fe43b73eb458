"""The faults: what happens when, how the start that it happens to may end, and what happens before the next ones.

After these, the same command is repeated until it ends with 0. Statuses are those of `recipe.longrl.main --help`, and
-9 for the command itself being killed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from faults import actions
from faults.actions import Action
from faults.moments import IN_TIME, Moment, in_training, once_there, while_exporting, while_saving

DONE, STOPPED, REFUSED, GO_ON, TERMINATED, KILLED = 0, 1, 2, 75, 143, -9

Ends = tuple[int, ...]
asked_in_time = in_training(last=IN_TIME)


class Then(NamedTuple):
    """What happens between two starts, and how the second of them may end."""

    action: Action
    ends: Ends = (DONE,)


@dataclass(frozen=True)
class Fault:
    """before: ahead of the first start. when, action: to that start, which may end with one of `ends`. then: ahead of
    the next ones. said: what the terminal must show. without: invariants that do not hold of it, by name. impossible:
    why it cannot be tried on this machine, or None."""

    name: str
    says: str
    ends: Ends
    when: Moment | None = None
    action: Action | None = None
    before: Action | None = None
    then: tuple[Then, ...] = ()
    overrides: tuple[str, ...] = ()
    said: str = ""
    without: frozenset[str] = frozenset()
    impossible: Callable[[], str | None] = lambda: None


def _role(role: str, called: str, ends: Ends = (GO_ON,), since: str | None = None) -> Fault:
    """A process of this kind is killed. since: of which kind one must be there, if not this."""
    return Fault(f"kill_{role}", f"kill -9 of {called}", ends, once_there(since or role), actions.kill(role))


def _damaged(name: str, says: str, damage: Action, said: str = r"global_step_\d+ is not used: ") -> Fault:
    """The command is killed after a checkpoint, and files are damaged before the next start."""
    return Fault(name, says, (KILLED,), in_training(3), actions.kill_driver, then=(Then(damage),), said=said)


def _between(name: str, says: str, *then: Then, said: str = "") -> Fault:
    """The run is stopped, and something is done before the next start."""
    return Fault(name, says, (GO_ON,), asked_in_time, actions.terminate, then=then, said=said)


def _full(name: str, says: str, folder: str, ends: Ends, **more: Any) -> Fault:
    """A folder of the run is on a disk that fills up."""
    before, impossible = actions.small_disk(folder), actions.no_mounts
    return Fault(name, says, ends, in_training(), actions.fill_disk, before, impossible=impossible, **more)


def _judge(name: str, says: str, ends: Ends, action: Action, then: tuple[Then, ...], said: str) -> Fault:
    """Answers are judged, so rewards and weights are others than the reference's, and the judge misbehaves."""
    without = frozenset({"weights"})
    return Fault(name, says, ends, in_training(), action, actions.judged, then, said=said, without=without)


SHARD, OPTIMIZER = "actor/model_world_size_1_rank_0.pt", "actor/optim_world_size_1_rank_0.pt"
HONEST_AGAIN = (Then(actions.judge_says("honest")),)

FAULTS = (
    Fault("nothing", "nothing: the same run again", (DONE,)),
    # processes
    Fault("kill_driver", "kill -9 of the command", (KILLED,), in_training(), actions.kill_driver),
    Fault("kill_all", "kill -9 of all processes at once", (KILLED,), in_training(), actions.kill_all),
    _role("task_runner", "the task runner, in which the trainer is"),
    _role("trainer_rank", "a trainer rank"),
    _role("vllm_engine", "a vLLM engine"),
    _role("vllm_server", "a vLLM server"),
    _role("agent_loop", "the agent loop worker"),
    _role("reward_worker", "the reward worker, which Ray starts again", (DONE, GO_ON)),
    _role("balancer", "the balancer of requests"),
    _role("queue_controller", "TransferQueue's controller"),
    _role("queue_storage", "TransferQueue's storage unit"),
    # without these Ray itself ends the command that is just joining it, with status 1 and before anything is started
    _role("raylet", "the raylet", since="task_runner"),
    _role("gcs", "Ray's control store", since="task_runner"),
    _role("ray_agent", "the agent that prepares Ray's workers"),
    _role("zygote", "the process that the others are forked from"),
    _role("scorers", "the process that scorers are forked from", (DONE, GO_ON)),
    Fault("kill_saving", "kill -9 of all while a checkpoint is written", (KILLED,), while_saving, actions.kill_all),
    Fault("kill_exporting", "kill -9 of all during the export", (KILLED,), while_exporting, actions.kill_all),
    Fault(
        "hung_engine",
        "a vLLM engine stands still (SIGSTOP), is told of by the watchdog, and killed",
        (GO_ON,),
        in_training(),
        actions.hang_then_kill("vllm_engine"),
        overrides=("longrl.watchdog_minutes=0.05",),
        said="standing still for .*waiting for rollouts",
    ),
    # signals
    Fault("term", "SIGTERM", (GO_ON,), asked_in_time, actions.terminate),
    Fault("term_twice", "SIGTERM, twice", (TERMINATED, GO_ON), asked_in_time, actions.terminate_twice),
    Fault("stop_then_term", "`touch stop`, then SIGTERM", (GO_ON,), asked_in_time, actions.ask_then_terminate),
    Fault("term_exporting", "SIGTERM during the export", (GO_ON, DONE), while_exporting, actions.terminate),
    # files
    _damaged("bit_in_weights", "a bit of the newest checkpoint's weights flips", actions.flip_a_bit(SHARD)),
    _damaged("bit_in_optimizer", "a bit of the optimizer's state flips", actions.flip_a_bit(OPTIMIZER)),
    _damaged("bit_in_data", "a bit of the data loader's state flips", actions.flip_a_bit("data.pt")),
    _damaged("cut_weights", "the newest checkpoint's weights are cut off", actions.cut(SHARD)),
    _damaged("empty_manifest", "complete.json is []", actions.overwrite("complete.json", "[]")),
    _damaged("torn_logs", "torn lines, NUL bytes and bad UTF-8 in two logs", actions.tear_logs, said="damaged"),
    _between(
        "other_data",
        "other rows in a data file of the same path, size and time, for one start",
        Then(actions.change_data, (REFUSED,)),
        Then(actions.restore),
        said=r"train\.parquet",
    ),
    _between(
        "other_template",
        "another chat template of the same length in the model's folder, for one start",
        Then(actions.change_template, (REFUSED,)),
        Then(actions.restore),
    ),
    _between("moved", "data, model and run are moved to another place", Then(actions.move)),
    Fault(
        "foreign_checkpoint",
        "another program's checkpoint lies in the run's folder for them, for one start",
        (REFUSED,),
        before=actions.plant_checkpoint,
        then=(Then(actions.take_checkpoint_away),),
        said=actions.FOREIGN_CHECKPOINT,
    ),
    Fault("second_start", "the same command is started beside it", (DONE,), in_training(), actions.start_a_second),
    # disks
    _full(
        "full_disk_checkpoints",
        "no room for checkpoints, for one start",
        "checkpoints",
        (GO_ON,),
        then=(Then(actions.free_disk),),
    ),
    _full(
        "full_disk_rollouts",
        "no room for rollouts",
        "rollouts",
        (DONE,),
        said="rollouts",
        without=frozenset({"rollouts", "order"}),
    ),
    # the judge
    _judge(
        "judge_garbage",
        "the judge answers without a verdict, for one start",
        (STOPPED,),
        actions.judge_says("garbage"),
        HONEST_AGAIN,
        "stopped: ",
    ),
    _judge(
        "judge_echoes_key",
        "the judge refuses and quotes the key in its error, for one start",
        (STOPPED,),
        actions.judge_says("echo"),
        HONEST_AGAIN,
        "Incorrect API key provided",
    ),
    _judge(
        "judge_away",
        "the judge is out of service for longer than the run's patience",
        (GO_ON,),
        actions.judge_says("away"),
        HONEST_AGAIN,
        "the judge is away",
    ),
    _judge(
        "judge_silent",
        "the judge does not answer, and is back within the run's patience",
        (DONE,),
        actions.judge_silent_for_a_while,
        (),
        "the judge answers again",
    ),
    # numbers
    Fault(
        "nan_weights",
        "a weight of the trainer becomes NaN, in one start",
        (STOPPED,),
        before=actions.poison,
        then=(Then(actions.cure),),
        said="not finite",
    ),
)
