"""The faults: what happens when, which statuses the affected start may end with, and what happens before later starts.

After these, the same command is repeated until it ends with 0. Statuses are those of `recipe.longrl.main
--help`, and -9 if the command itself is killed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from faults import actions
from faults.actions import Action
from faults.moments import LAST_TO_STOP, Moment, after_start_of, in_training, while_exporting, while_saving

DONE, STOPPED, REJECTED, RESUMABLE, TERMINATED, KILLED = 0, 1, 2, 75, 143, -9

Statuses = tuple[int, ...]
early_enough_to_stop = in_training(last=LAST_TO_STOP)


class Then(NamedTuple):
    """An action between two starts, and the statuses that the second may end with."""

    action: Action
    statuses: Statuses = (DONE,)


@dataclass(frozen=True)
class Fault:
    """One fault: an action at a moment of the first start, and actions before later starts."""

    name: str
    description: str
    statuses: Statuses
    """Statuses that the first start may end with."""
    when: Moment | None = None
    action: Action | None = None
    before: Action | None = None
    """An action before the first start."""
    then: tuple[Then, ...] = ()
    """Actions before later starts."""
    overrides: tuple[str, ...] = ()
    console: str = ""
    """A regular expression that must match the console's output."""
    skip: frozenset[str] = frozenset()
    """Names of invariants that need not hold."""
    unavailable: Callable[[], str | None] = lambda: None
    """Returns why the fault cannot be tried on this machine, or None."""


def _killed_process(role: str, process: str, statuses: Statuses = (RESUMABLE,), since: str | None = None) -> Fault:
    """A process of this kind is killed. since: the kind that must have started before, if it is another one."""
    return Fault(f"kill_{role}", f"kill -9 of {process}", statuses, after_start_of(since or role), actions.kill(role))


def _damaged_checkpoint(
    name: str, description: str, damage: Action, console: str = r"global_step_\d+ is not used: "
) -> Fault:
    """The command is killed after a checkpoint, and files are damaged before the next start."""
    return Fault(
        name,
        description,
        (KILLED,),
        in_training(3),
        actions.kill_driver,
        then=(Then(damage),),
        console=console,
    )


def _between_starts(name: str, description: str, *then: Then, console: str = "") -> Fault:
    """The run is stopped, and something is done before the next start."""
    return Fault(
        name,
        description,
        (RESUMABLE,),
        early_enough_to_stop,
        actions.terminate,
        then=then,
        console=console,
    )


def _full_disk(name: str, description: str, folder: str, statuses: Statuses, **options: Any) -> Fault:
    """A folder of the run is on a disk that fills up."""
    before, unavailable = actions.mount_small_disk(folder), actions.mount_problem
    return Fault(
        name,
        description,
        statuses,
        in_training(),
        actions.fill_disk,
        before,
        unavailable=unavailable,
        **options,
    )


def _bad_judge(
    name: str,
    description: str,
    statuses: Statuses,
    action: Action,
    then: tuple[Then, ...],
    console: str,
) -> Fault:
    """The judge misbehaves. Since answers are judged, rewards and weights differ from the reference."""
    skip = frozenset({"weights"})
    return Fault(
        name,
        description,
        statuses,
        in_training(),
        action,
        actions.use_judge,
        then,
        console=console,
        skip=skip,
    )


SHARD, OPTIMIZER = "actor/model_world_size_1_rank_0.pt", "actor/optim_world_size_1_rank_0.pt"
HONEST_AGAIN = (Then(actions.set_judge("honest")),)

FAULTS = (
    Fault("nothing", "nothing: the same run again", (DONE,)),
    # processes
    Fault("kill_driver", "kill -9 of the command", (KILLED,), in_training(), actions.kill_driver),
    Fault("kill_all", "kill -9 of all processes at once", (KILLED,), in_training(), actions.kill_all),
    _killed_process("task_runner", "the task runner, which runs the trainer"),
    _killed_process("trainer_rank", "a trainer rank"),
    _killed_process("vllm_engine", "a vLLM engine"),
    _killed_process("vllm_server", "a vLLM server"),
    _killed_process("agent_loop", "the agent loop worker"),
    _killed_process("reward_worker", "the reward worker, which Ray restarts", (DONE, RESUMABLE)),
    _killed_process("balancer", "the request balancer"),
    _killed_process("queue_controller", "TransferQueue's controller"),
    _killed_process("queue_storage", "TransferQueue's storage unit"),
    # If these die while the command joins Ray, Ray ends the command with status 1 before anything is started.
    _killed_process("raylet", "the raylet", since="task_runner"),
    _killed_process("gcs", "Ray's control store", since="task_runner"),
    _killed_process("ray_agent", "the agent that prepares Ray's workers"),
    _killed_process("zygote", "the process that workers are forked from"),
    _killed_process("scorers", "the process that scorers are forked from", (DONE, RESUMABLE)),
    Fault("kill_saving", "kill -9 of all while a checkpoint is written", (KILLED,), while_saving, actions.kill_all),
    Fault("kill_exporting", "kill -9 of all during the export", (KILLED,), while_exporting, actions.kill_all),
    Fault(
        "hung_engine",
        "a vLLM engine hangs (SIGSTOP), is reported by the watchdog, and killed",
        (RESUMABLE,),
        in_training(),
        actions.hang_then_kill("vllm_engine"),
        overrides=("longrl.watchdog_minutes=0.05",),
        console="no progress for .*waiting for rollouts",
    ),
    # signals
    Fault("term", "SIGTERM", (RESUMABLE,), early_enough_to_stop, actions.terminate),
    Fault("term_twice", "SIGTERM, twice", (TERMINATED, RESUMABLE), early_enough_to_stop, actions.terminate_twice),
    Fault(
        "stop_then_term", "`touch stop`, then SIGTERM", (RESUMABLE,), early_enough_to_stop, actions.stop_then_terminate
    ),
    Fault("term_exporting", "SIGTERM during the export", (RESUMABLE, DONE), while_exporting, actions.terminate),
    # files
    _damaged_checkpoint("bit_in_weights", "a bit of the newest checkpoint's weights flips", actions.flip_bit(SHARD)),
    _damaged_checkpoint("bit_in_optimizer", "a bit of the optimizer's state flips", actions.flip_bit(OPTIMIZER)),
    _damaged_checkpoint("bit_in_data", "a bit of the data loader's state flips", actions.flip_bit("data.pt")),
    _damaged_checkpoint("cut_weights", "the newest checkpoint's weights are cut off", actions.truncate_file(SHARD)),
    _damaged_checkpoint("empty_manifest", "complete.json is []", actions.overwrite_file("complete.json", "[]")),
    _damaged_checkpoint(
        "torn_logs", "torn lines, NUL bytes and bad UTF-8 in three logs", actions.tear_logs, console="damaged"
    ),
    _between_starts(
        "other_data",
        "different rows in a data file of the same path, size and time, for one start",
        Then(actions.change_data, (REJECTED,)),
        Then(actions.restore_files),
        console=r"train\.parquet",
    ),
    _between_starts(
        "other_template",
        "another chat template of the same length in the model's folder, for one start",
        Then(actions.change_template, (REJECTED,)),
        Then(actions.restore_files),
    ),
    _between_starts("moved", "data, model and run are moved to another folder", Then(actions.move_folder)),
    Fault(
        "foreign_checkpoint",
        "another program's checkpoint is in the run's checkpoint folder, for one start",
        (REJECTED,),
        before=actions.plant_checkpoint,
        then=(Then(actions.remove_planted_checkpoint),),
        console=actions.FOREIGN_CHECKPOINT,
    ),
    Fault("second_start", "the same command is started a second time", (DONE,), in_training(), actions.start_again),
    # disks
    _full_disk(
        "full_disk_checkpoints",
        "no disk space for checkpoints, for one start",
        "checkpoints",
        (RESUMABLE,),
        then=(Then(actions.free_disk),),
    ),
    _full_disk(
        "full_disk_rollouts",
        "no disk space for rollouts",
        "rollouts",
        (DONE,),
        console="rollouts",
        skip=frozenset({"rollouts", "order"}),
    ),
    # the judge
    _bad_judge(
        "judge_garbage",
        "the judge answers without a verdict, for one start",
        (STOPPED,),
        actions.set_judge("garbage"),
        HONEST_AGAIN,
        "stopped: ",
    ),
    _bad_judge(
        "judge_echoes_key",
        "the judge rejects requests and quotes the key in its error, for one start",
        (STOPPED,),
        actions.set_judge("echo"),
        HONEST_AGAIN,
        "Incorrect API key provided",
    ),
    _bad_judge(
        "judge_away",
        "the judge is out of service for longer than the run's patience",
        (RESUMABLE,),
        actions.set_judge("away"),
        HONEST_AGAIN,
        "the judge is away",
    ),
    _bad_judge(
        "judge_silent",
        "the judge does not answer, and is back within the run's patience",
        (DONE,),
        actions.silence_judge_for_a_while,
        (),
        "the judge answers again",
    ),
    # numbers
    Fault(
        "nan_weights",
        "a weight of the trainer becomes NaN, in one start",
        (STOPPED,),
        before=actions.inject_nan,
        then=(Then(actions.stop_injecting_nan),),
        console="not finite",
    ),
)
