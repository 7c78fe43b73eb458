"""verl's PPOTrainerSync plus per-component rewards, task-aware advantages, atomic checkpoints and clean stops.

verl's loop is unchanged; the classes here override its hooks. `LongRLTrainer` has what a step computes and logs,
`ResumableTrainer` (`resumable.py`) its checkpoints, `EarlyStopTrainer` (`early_stop.py`) how it ends. Rows that verl
adds to pad a batch to the data-parallel ranks are left out of all metrics and logs.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from omegaconf import OmegaConf
from tensordict import TensorDict
from torchdata.stateful_dataloader import StatefulDataLoader
from transfer_queue import KVBatchMeta
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1 import trainer_base
from verl.workers.rollout.llm_server import LLMServerClient

from verl_longrl.config import LongRLConfig
from verl_longrl.data.sampler import TaskSampler
from verl_longrl.folder_lock import Claim
from verl_longrl.patching import patched_attribute
from verl_longrl.rewards.failure_guard import FailureGuard
from verl_longrl.rollout import ROUTER_CONFIG
from verl_longrl.rollout.client import PromptAffinityClient
from verl_longrl.trainer import trackers, write_access
from verl_longrl.trainer.actor_health import ActorWatch, RestartedRewardLoopManager
from verl_longrl.trainer.advantage import Advantages
from verl_longrl.trainer.console_lines import metrics_line, print_line, step_line, tasks_line, top_failure_reasons
from verl_longrl.trainer.group_balancing import keep_groups_together
from verl_longrl.trainer.group_filtering import FilteringReplayBuffer
from verl_longrl.trainer.health import Health
from verl_longrl.trainer.interruption import (
    STOP_FILE,
    Interrupted,
    Interruptions,
    NoSignal,
    Stopped,
    TooManyFailures,
    ValidationAbandoned,
)
from verl_longrl.trainer.items_in_flight import ItemsInFlight
from verl_longrl.trainer.metrics import cluster_host_memory, reward_metrics, step_metrics
from verl_longrl.trainer.metrics_log import MetricsLog
from verl_longrl.trainer.prompt_store import prompt_storage_fraction
from verl_longrl.trainer.resumable import ResumableTrainer
from verl_longrl.trainer.rollout_key import RolloutKey
from verl_longrl.trainer.rollout_log import LoggedRollouts, RolloutLog, Split
from verl_longrl.trainer.rollout_progress import RolloutProgress
from verl_longrl.trainer.step_state import Scores, StepState, flatten_groups
from verl_longrl.trainer.transfer_queue_rows import fetch_rollouts, fetch_scores, metric_data, put_advantages
from verl_longrl.trainer.watchdog import Watchdog

MOST_FILTERED = 32
"""Groups of a step that are logged after the group filter replaced them. There is no limit to how many it replaces."""
HOST_MEMORY_EVERY = 10
"""Steps between two readings of every process's memory, which take a while where hundreds of GB are mapped."""


class LongRLTrainer(ResumableTrainer):
    """`config` is the whole resolved run configuration.

    One step, in order:

    | hook                   | added to verl's                                              | module                   |
    |------------------------|--------------------------------------------------------------|--------------------------|
    | `on_step_begin`        | new `StepState`; stop if a stop is pending or asked for      | step_state, interruption |
    | `prepare_step`         | ask for fewer prompts if groups wait from the last step      | group_filtering          |
    | `_fetch_one_gen_batch` | note each prompt's item of the data set                      | items_in_flight          |
    | `_on_poll`             | (often) count rollouts; stop if an actor died                | rollout_progress         |
    | `_on_filtered`         | (often) count replaced groups; stop if there are too many    | group_filtering          |
    | `_on_untrained`        | (often) log rollouts of replaced groups and of validations   | rollout_log              |
    | `on_sample_end`        | read how much of the prompts was prefilled                   | rollout/affinity         |
    | `_balance_batch`       | read scores, stop if too many failed; keep groups together   | group_balancing          |
    | `_compute_advantage`   | replace verl's advantages with task-aware ones               | advantage, tmn           |
    | `_update_actor`        | from here on, the state before the step is gone              | early_stop               |
    | `_save_checkpoint`     | write the checkpoint, which does not count yet               | resumable, checkpoints   |
    | `on_step_end`          | weights go to the replicas; if one died, stop at next begin  | early_stop               |
    | `_validate`            | write and print validation metrics, write its rollouts       | metrics_log, rollout_log |
    | `_compute_metrics`     | write and print metrics; stop if they say the run is broken  | metrics, health          |
    | `_log_rollout_data`    | in a thread: write rollouts, then seal the checkpoint        | rollout_log, checkpoints |
    """

    def __init__(self, config: Any) -> None:
        block: Any = OmegaConf.to_container(config.longrl, resolve=True)
        self.longrl = LongRLConfig.from_dict(block)
        rollout = config.actor_rollout_ref.rollout
        self._routed = self.longrl.prompt_affinity and not rollout.router_config_path and not rollout.full_determinism
        if self._routed:
            # Set here, because the path is one of this machine.
            rollout.router_config_path = str(ROUTER_CONFIG)
        super().__init__(config)
        self.output_dir = Path(self.longrl.output_dir)
        if not self.longrl.trust_folder:
            write_access.allow_only_owner_to_write()
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.claims = (Claim(self.output_dir), Claim(self._checkpoint_root))
        self.metrics_log = MetricsLog(self.output_dir / "metrics.jsonl")
        self.rollout_log = None
        if self.longrl.log_rollouts:
            self.rollout_log = RolloutLog(self.output_dir / "rollouts", config.data.max_response_length)
        self.groups = FilteringReplayBuffer.take_over(
            self.replay_buffer, self._on_filtered, self._on_poll, self.longrl.carry_steps, self._on_untrained
        )
        self.advantages = Advantages(self.longrl.advantage)
        self.guard = FailureGuard(self.longrl.reward.max_failure_share)
        self.health = Health(self.longrl.watch, rollout.n > 1 and self.longrl.advantage.estimator != "task")
        self.items = ItemsInFlight()
        self.progress = RolloutProgress()
        self.step_state = StepState()

    # ---- start and end of a run -------------------------------------------------------------------------------

    def _setup(self) -> None:
        print_line("starting trainer ranks and vLLM replicas (the slowest part of a start)")
        with patched_attribute(trainer_base, "RewardLoopManager", RestartedRewardLoopManager):
            super()._setup()
        print_line("ready")

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if self.longrl.mix.wanted:
            rows, loader = self.train_dataset, self.train_dataloader
            self.train_dataloader = StatefulDataLoader(
                dataset=rows,
                batch_size=loader.batch_size,
                num_workers=loader.num_workers,
                drop_last=True,
                collate_fn=loader.collate_fn,
                sampler=TaskSampler(rows.tasks(), rows.prompt_lengths, self.longrl.mix, self.config.data.seed or 0),
            )

    def get_llm_client(self) -> LLMServerClient:
        return self.llm_server_manager.get_client(client_cls=PromptAffinityClient)

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        trackers.resume_at(self.global_steps, self.output_dir, self.config.trainer.logger)
        self.interruptions = Interruptions(self.output_dir / STOP_FILE, ActorWatch(), print_line)
        watchdog = Watchdog(self.longrl.watchdog_minutes, self._progress_key, self._describe_pending, print_line)
        try:
            with watchdog, patched_attribute(trainer_base, "Tracking", trackers.LossyTracking):
                super().fit(agent_loop_manager)
        finally:
            # Waits until the last rollouts are written.
            self._dump_executor.shutdown()

    def _progress_key(self) -> object:
        return self.global_steps, self.progress.counts

    def _describe_pending(self) -> str:
        return self.progress.describe_pending(self.llm_server_manager.global_load_balancer if self._routed else None)

    # ---- rollouts ---------------------------------------------------------------------------------------------

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self.items.keep_only(self.groups.waiting)
        self.progress.submitted.clear()
        self.step_state = StepState(self._resume_point())
        self._record(RolloutLog.discard, "filtered")
        if self._routed:
            # A validation may have prefilled since the last step.
            self.step_state.prefill = self._read_prefill()
        if self._pending_stop is not None:
            self._stop(*self._pending_stop)
        if reason := self.interruptions.reason(at_once=True):
            self._stop(Interrupted, reason)

    def prepare_step(self) -> dict:
        batch_size = self.config.data.train_batch_size
        # With a batch of 128 prompts and 5 groups that wait, 123 prompts are asked for.
        missing = batch_size - len(self.groups.waiting)
        if missing == batch_size:
            return super().prepare_step()
        if missing > 0:
            self._add_prompts_to_generate(missing)
        return {}

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = super()._fetch_one_gen_batch()
        self.items.take_from(batch)
        return batch

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        self.progress.add(batch["uid"], batch["index"])
        return super()._submit_batch_to_rollout(batch)

    def _on_poll(self, partition_id: str, failed: int) -> None:
        """The replay buffer has just polled the rollouts. failed: groups with failed rollouts."""
        self.progress.update(self.groups, partition_id)
        if reason := self.interruptions.reason(failed):
            if partition_id == "train":
                self._stop(Interrupted, reason)
            raise ValidationAbandoned(reason)

    def _on_filtered(self, groups: list[Scores]) -> None:
        """verl is about to replace these groups, because their rewards are equal. Checks once per batch of them."""
        batch_size, limit = self.config.data.train_batch_size, self.longrl.max_filtered_batches
        filtered = self.step_state.filtered
        # With a batch of 128, the checks below run once for every 128 groups.
        batches_before = len(filtered) // batch_size
        filtered += groups
        if len(filtered) // batch_size == batches_before:
            return
        print_line(f"step {self.global_steps}: {len(filtered)} groups with equal rewards replaced so far")
        self._stop_if_scores_failed(flatten_groups(filtered))
        if limit is not None and len(filtered) >= limit * batch_size:
            mean = np.mean([score["score"] for score in flatten_groups(filtered)])
            self._stop(
                NoSignal,
                f"{len(filtered)} groups ({limit} batches) with equal rewards within each (mean {mean:.3f}) were "
                "filtered out: the questions are too easy or too hard for this model, or the reward sees no "
                "difference. Look at the rewards with algorithm.filter_groups.enable=false, choose other data, or "
                "raise longrl.max_filtered_batches",
            )

    def on_sample_end(self) -> None:
        super().on_sample_end()
        if self._routed:
            before, self.step_state.prefill = self.step_state.prefill, self._read_prefill()
            prefilled, tokens = (now - then for now, then in zip(self.step_state.prefill, before, strict=True))
            self.step_state.routing = {"rollout/prefill_fraction": prefilled / tokens} if tokens else {}

    def _read_prefill(self) -> tuple[int, int]:
        """Since the start: prompt tokens that replicas had to prefill, and prompt tokens of all requests."""
        status = ray.get(self.llm_server_manager.global_load_balancer.get_status.remote())
        return status["prefill_tokens"], status["prompt_tokens"]

    # ---- scores and advantages --------------------------------------------------------------------------------

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> KVBatchMeta:
        step = self.step_state
        # verl appends its padding rows below.
        step.keys = list(batch.keys)
        step.scores = fetch_scores(batch.partition_id, step.keys)
        # Before the update, so that a step with too many failed scores is never trained on.
        self._stop_if_scores_failed(step.sampled)
        metrics["rollout/prompt_storage_fraction"] = prompt_storage_fraction(batch.tags)
        batch = super()._balance_batch(batch, metrics, *args, **kwargs)
        if self.longrl.engine == "shared_prompt":
            # The data-parallel rank of each worker; workers that share rows have the same one.
            ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
            roles = self.config.actor_rollout_ref
            # verl's option counts prompts.
            rows = roles.actor.ppo_mini_batch_size * roles.rollout.n
            metrics.update(keep_groups_together(batch, ranks, mini_batch_rows=rows))
        return batch

    def _stop_if_scores_failed(self, scores: Scores) -> None:
        if (failure := self._too_many_failures(scores)) is not None:
            self._stop(*failure)

    def _too_many_failures(self, scores: Scores) -> tuple[type[RuntimeError], str] | None:
        """The error to end with, and the problem, if too many of these scores failed."""
        statuses = [score["status"] for score in scores]
        if (problem := self.guard.check(statuses)) is None:
            return None
        error = Interrupted if self.guard.judge_away(statuses) else TooManyFailures
        return error, f"{problem}. {top_failure_reasons(scores)}"

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        if self.longrl.advantage.estimator == "upstream":
            return batch
        rewards = "token_level_rewards" if self.config.algorithm.use_kl_in_reward else "rm_scores"
        tasks = [score["task"] for score in self.step_state.scores]
        return put_advantages(batch, self.advantages, dict(zip(self.step_state.keys, tasks, strict=True)), rewards)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        if (sharing := metrics.get("actor/prompt_sharing")) is not None:
            # verl counts a prompt's tokens once per rollout.
            metrics["perf/mfu/actor"] /= sharing
        return batch

    # ---- validation -------------------------------------------------------------------------------------------

    def _validate(self) -> dict[str, float]:
        # The replicas have old weights, or none.
        if self._pending_stop is not None:
            return {}
        started, label = time.time(), f"validation at step {self.global_steps}"
        self._record(RolloutLog.discard, "val")
        try:
            metrics = super()._validate()
        except (Interrupted, Stopped):
            raise
        except Exception as error:
            why = str(error) if isinstance(error, ValidationAbandoned) else self._death(error)
            if why is None:
                raise
            # verl does not begin without these metrics.
            if self.global_steps == 0:
                raise Interrupted(f"{label}: {why}. Rerun the command to start over") from error
            self._stop_before_next_step(Interrupted, f"{label}: {why}")
            return {}
        print_line(metrics_line(label, "val", metrics, time.time() - started))
        if line := tasks_line(metrics):
            print_line(line)
        self._write_metrics("val", self.global_steps, metrics)
        self._record(RolloutLog.write, "val", self.global_steps)
        return metrics

    def _val_metrics_update(
        self, data_sources: list, sample_uids: list, reward_extra_infos_dict: dict[str, list], *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        metrics = super()._val_metrics_update(data_sources, sample_uids, reward_extra_infos_dict, *args, **kwargs)
        columns = reward_extra_infos_dict
        # verl has a list for each key; here each rollout gets its dictionary.
        scores = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        metrics.update(reward_metrics([score["task"] for score in scores], scores, prefix="val"))
        if (failure := self._too_many_failures(scores)) is not None:
            error, problem = failure
            self._stop_before_next_step(error, f"validation at step {self.global_steps}: {problem}")
        return metrics

    # ---- metrics and rollouts on disk -------------------------------------------------------------------------

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        with patched_attribute(trainer_base, "get_metric_data_with_optional_routed_experts", metric_data(batch)):
            super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        metrics.update(step_metrics(self.step_state))
        metrics.update(self.step_state.routing)
        # Steps 1, 11, 21 and so on.
        if global_steps % HOST_MEMORY_EVERY == 1:
            metrics.update(cluster_host_memory())
        self._write_metrics("train", global_steps, metrics)
        alarms = self.health.alarms(metrics)
        print_line(step_line(global_steps, self.total_training_steps, metrics, alarms))
        warnings, broken = self.health.check(global_steps, metrics)
        for line in warnings:
            print_line(line)
        if broken is not None:
            raise self._broken(broken)
        if self.health.in_doubt and (unsealed := self._pop_unsealed()) is not None:
            print_line(f"{unsealed[0]} does not count as a checkpoint: {self.health.in_doubt}")
        if self.rollout_log is None:
            self._seal(self._pop_unsealed())

    def _write_metrics(self, split: str, step: int, metrics: dict[str, Any]) -> None:
        self._require_folders()
        self.metrics_log.write(split, step, metrics)

    def _on_untrained(self, split: Split, tags: dict[str, dict[str, Any]]) -> None:
        """Log rollouts that will not be trained on. Their rows are about to be deleted, so they are fetched here."""
        if split == "filtered":
            uids = dict.fromkeys(RolloutKey.parse(key).uid for key in tags)
            logged = [*uids][: max(MOST_FILTERED - len(self.step_state.filtered), 0)]
            tags = {key: tag for key, tag in tags.items() if RolloutKey.parse(key).uid in logged}
        if tags:
            self._add_rollouts(split, "val" if split == "val" else "train", tags)

    def _log_rollout_data(self, batch: KVBatchMeta, timing_raw: dict, rollout_data_dir: str) -> None:
        step, unsealed = self.global_steps, self._pop_unsealed()
        tags = dict(zip(batch.keys, batch.tags, strict=True))
        # Without the rows that verl adds as padding.
        own_tags = {key: tags[key] for key in self.step_state.keys}
        rollouts = self._add_rollouts("train", batch.partition_id, own_tags, self.step_state.scores)
        if rollouts is not None and self.longrl.samples_per_step:
            # Here and not in the log's thread: W&B refuses steps that come late.
            tracking: Any = self.logger
            tracking.log_rollouts(step, rollouts, self.longrl.samples_per_step, self.tokenizer.decode)
        self._record(RolloutLog.write, "filtered", step)
        self._record(RolloutLog.write, "train", step)

        def seal() -> None:
            self._require_folders()
            self._seal(unsealed)

        self._submit(seal)

    def _add_rollouts(
        self, split: Split, partition_id: str, tags: dict[str, dict[str, Any]], scores: Scores | None = None
    ) -> LoggedRollouts | None:
        """Fetch rollouts and hand them to the log's thread. scores: one for each of `tags`; None: they are fetched.

        Returns None where nothing could be fetched.
        """
        if self.rollout_log is None:
            return None
        try:
            rollouts = fetch_rollouts(
                partition_id, tags, scores or fetch_scores(partition_id, list(tags)), trained=split == "train"
            )
        except Exception as error:  # noqa: BLE001  a log is not worth ending the run; a death shows in the next step
            self._report_unlogged(split, self.global_steps, error)
            self._record(RolloutLog.give_up, split)
            return None
        self._record(RolloutLog.add, split, rollouts, self.tokenizer.decode)
        return rollouts

    def _record(self, method: Callable[..., None], split: Split, *args: Any) -> None:
        """Call a method of the log in its thread, after those before it. An error is printed."""
        if self.rollout_log is None:
            return
        log, step = self.rollout_log, self.global_steps

        def call() -> None:
            self._require_folders()
            try:
                method(log, split, *args)
            except Exception as error:  # noqa: BLE001  a log is not worth ending the run
                self._report_unlogged(split, step, error)

        self._submit(call)

    def _report_unlogged(self, split: Split, step: int, error: Exception) -> None:
        print_line(f"step {step}: its rollouts ({split}) are not logged: {str(error) or type(error).__name__}")

    def _submit(self, call: Callable[[], None]) -> None:
        # A finished future's result is None, so it is dropped, and that of a failed one raises its error here.
        self._dump_futures = [future for future in self._dump_futures if not future.done() or future.result()]
        self._dump_futures.append(self._dump_executor.submit(call))
