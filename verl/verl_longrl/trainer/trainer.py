"""verl's synchronous PPO trainer, seeing what LongRL rewards are made of.

The loop is verl's, untouched. Added around it:

- tasks mixed evenly, by weight or by length (`data/sampler.py`), and advantages that depend on the task
  (`advantage.py`);
- metrics of every reward part per task, over the rows trained on (`reward/`) and, with the groups that were filtered
  out, over all that was sampled (`sampled/`); the groups without signal, host memory per role (`metrics.py`);
- rollouts on disk with their parts, each prompt once (`rollout_log.py`);
- `metrics.jsonl`, one line per step, from which tables and plots are made and which a resume continues;
- checkpoints that are either whole or not there (`checkpoints.py`);
- with the shared-prompt engine, a prompt's rollouts on one rank and in one mini-batch (`group_balancing.py`), and on
  one vLLM replica (`rollout/`);
- a clean stop, after saving, when too many scores failed: of a step, of the groups that the step filtered out, or
  of a validation;
- the same when somebody asks for it or a part of the run has died (`interruption.py`, `ray_errors.py`), and a line when
  the run stands still (`watchdog.py`);
- an end without saving when the numbers say that what is trained is broken (`health.py`, `finite_weights.py`);
- W&B runs and TensorBoard curves that a resume continues (`trackers.py`).

Padding rows, which verl adds to even out the data-parallel ranks, are left out of all of it.
"""

import json
import time
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from torchdata.stateful_dataloader import StatefulDataLoader
from transfer_queue import KVBatchMeta
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1 import trainer_base
from verl.utils.seqlen_balancing import log_seqlen_unbalance
from verl.workers.rollout.llm_server import LLMServerClient

from verl_longrl.config import LongRLConfig
from verl_longrl.data.jsonl import Journal, iterate_jsonl, truncate_before
from verl_longrl.data.sampler import TaskSampler
from verl_longrl.folder_lock import Claim
from verl_longrl.patching import patched_attribute
from verl_longrl.rewards.failure_guard import FailureGuard
from verl_longrl.rollout import ROUTER_CONFIG
from verl_longrl.rollout.client import PromptAffinityClient
from verl_longrl.trainer import checkpoints, checksums, finite_weights, shards, trackers, write_access
from verl_longrl.trainer.actor_health import ActorWatch, RestartedRewardLoopManager
from verl_longrl.trainer.advantage import Advantages
from verl_longrl.trainer.checkpoints import ADVANTAGES, WAITING
from verl_longrl.trainer.console_lines import metrics_line, progress, reasons, step_line, tasks_line
from verl_longrl.trainer.early_stop import EndingTrainer
from verl_longrl.trainer.group_balancing import balanced, rows_of
from verl_longrl.trainer.group_filtering import WatchedReplayBuffer
from verl_longrl.trainer.health import RECENT, Health
from verl_longrl.trainer.interruption import (
    STOP_FILE,
    Interrupted,
    Interruptions,
    NoSignal,
    Stopped,
    TooManyFailures,
    ValidationAbandoned,
)
from verl_longrl.trainer.items_in_flight import ItemsAsked
from verl_longrl.trainer.metrics import (
    cluster_host_memory,
    filtered_metrics,
    group_metrics,
    reward_metrics,
    task_metrics,
)
from verl_longrl.trainer.prompt_store import stored_share
from verl_longrl.trainer.rollout_log import RolloutLog
from verl_longrl.trainer.rollout_progress import RolloutsUnderWay
from verl_longrl.trainer.transfer_queue_rows import metric_data, put_advantages
from verl_longrl.trainer.watchdog import Watchdog

HOST_MEMORY_EVERY = 10
"""Steps between looks at every process's memory, which takes a while where hundreds of GB are mapped."""


class LongRLTrainer(EndingTrainer):
    """See the module's docstring. `config` is the whole resolved run configuration."""

    _claims: Sequence[Claim] = ()

    def __init__(self, config: Any) -> None:
        self.longrl = LongRLConfig.from_dict(config.longrl)
        rollout = config.actor_rollout_ref.rollout
        self._routed = self.longrl.prompt_affinity and not rollout.router_config_path and not rollout.full_determinism
        if self._routed:
            rollout.router_config_path = str(ROUTER_CONFIG)  # here, for the path is of this machine
        super().__init__(config)
        self.output_dir = Path(self.longrl.output_dir)
        if not self.longrl.trust_folder:
            write_access.only_the_owner_writes()
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.metrics_file = self.output_dir / "metrics.jsonl"
        self._metrics = Journal(self.metrics_file)
        self._claims = [Claim(folder) for folder in (self.output_dir, self._checkpoint_root)]
        self.rollout_log = RolloutLog(self.output_dir / "rollouts") if self.longrl.log_rollouts else None
        self.groups = WatchedReplayBuffer.watch(
            self.replay_buffer, self._on_filtered, self._on_look, self.longrl.carry_steps
        )
        self.advantages = Advantages(self.longrl.advantage)
        self.guard = FailureGuard(self.longrl.reward.max_failure_share)
        self.health = Health(self.longrl.watch, rollout.n > 1 and self.longrl.advantage.estimator != "task")
        self._scores: list[dict[str, Any]] = []
        self._filtered: list[list[dict[str, Any]]] = []
        self._real_keys: list[str] = []
        self._rollouts = RolloutsUnderWay()
        self._prefilled = (0, 0)
        self._routing: dict[str, float] = {}
        self._unsealed: tuple[Path, dict[str, checksums.Written]] | None = None
        self.items = ItemsAsked()

    # ---- rollouts go to the replica that has their prompt ----------------------------------------------------

    def get_llm_client(self) -> LLMServerClient:
        return self.llm_server_manager.get_client(client_cls=PromptAffinityClient)

    def on_sample_end(self) -> None:
        super().on_sample_end()
        if self._routed:
            before, self._prefilled = self._prefilled, self._prefill()
            prefilled, tokens = (now - then for now, then in zip(self._prefilled, before, strict=True))
            self._routing = {"rollout/prefilled": prefilled / tokens} if tokens else {}

    def _prefill(self) -> tuple[int, int]:
        """Since the start: prompt tokens that replicas had to prefill, and all of their requests' prompts."""
        status = ray.get(self.llm_server_manager.global_load_balancer.get_status.remote())
        return status["prefill_tokens"], status["prompt_tokens"]

    # ---- scores: read before the update, so that a step with too many failures is never trained on -----------

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self.items.forget_all_but(self.groups.carried)
        self._data_state, self._waiting_state = self.train_dataloader.state_dict(), self._waiting()
        self._advantages_state = self.advantages.state_dict()
        self._filtered = []
        self._rollouts.asked.clear()
        if self._routed:
            self._prefilled = self._prefill()  # without the validation's
        if self._ending is not None:
            self._stop(*self._ending)
        if reason := self.interruptions.reason(at_once=True):
            self._stop(Interrupted, reason)

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> KVBatchMeta:
        self._real_keys = list(batch.keys)  # verl appends its padding rows below
        fields = tq.kv_batch_get(keys=self._real_keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        self._scores = [row["reward_extra_info"] for row in list(fields["extra_fields"])]
        self._check(self._scores + _flat(self._filtered))
        metrics["rollout/prompts_stored"] = stored_share(batch.tags)
        batch = super()._balance_batch(batch, metrics, *args, **kwargs)
        if self.longrl.engine == "shared_prompt":
            metrics.update(self._keep_groups_together(batch))
        return batch

    def _keep_groups_together(self, batch: KVBatchMeta) -> dict[str, Any]:
        """Reorder the rows that verl has filled up and spread over the ranks; verl's metrics of the order."""
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        roles = self.config.actor_rollout_ref
        mini_batches, rest = divmod(len(batch), roles.actor.ppo_mini_batch_size * roles.rollout.n)
        order = balanced(rows_of(batch.keys, batch.tags), ranks, 1 if rest else max(mini_batches, 1))
        size, lengths = len(order) // ranks, [tag["seq_len"] for tag in batch.tags]
        parts = [order[rank * size : (rank + 1) * size] for rank in range(ranks)]
        batch.reorder(order)
        return log_seqlen_unbalance(lengths, parts, "global_seqlen")

    def _on_filtered(self, groups: list[list[dict[str, Any]]]) -> None:
        """Look at groups that verl is about to replace because their rewards are equal."""
        batch, limit = self.config.data.train_batch_size, self.longrl.max_filtered_batches
        before = len(self._filtered) // batch
        self._filtered += groups
        if len(self._filtered) // batch == before:
            return
        progress(f"step {self.global_steps}: {len(self._filtered)} groups with equal rewards replaced so far")
        self._check(_flat(self._filtered))
        if limit is not None and len(self._filtered) >= limit * batch:
            mean = np.mean([score["score"] for score in _flat(self._filtered)])
            self._stop(
                NoSignal,
                f"{len(self._filtered)} groups ({limit} batches) with equal rewards within each (mean {mean:.3f}) were "
                "filtered out: the questions are too easy or too hard for this model, or the reward sees no "
                "difference. Look at the rewards with algorithm.filter_groups.enable=false, choose other data, or "
                "raise longrl.max_filtered_batches",
            )

    def _check(self, scores: list[dict[str, Any]]) -> None:
        """Stop the run if too many of these scores failed."""
        if (failures := self._failures(scores)) is not None:
            self._stop(*failures)

    def _failures(self, scores: list[dict[str, Any]]) -> tuple[type[RuntimeError], str] | None:
        """The error to end with because too many of these scores failed, and why, or None."""
        statuses = [score["status"] for score in scores]
        if (problem := self.guard.check(statuses)) is None:
            return None
        error = Interrupted if self.guard.judge_away(statuses) else TooManyFailures
        return error, f"{problem}. {reasons(scores)}"

    # ---- interruptions and standing still --------------------------------------------------------------------

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        trackers.continue_at(self.global_steps, self.output_dir, self.config.trainer.logger)
        self.interruptions = Interruptions(self.output_dir / STOP_FILE, ActorWatch(), progress)
        watchdog = Watchdog(self.longrl.watchdog_minutes, self._how_far, self._waited_for, progress)
        try:
            with watchdog, patched_attribute(trainer_base, "Tracking", trackers.LossyTracking):
                super().fit(agent_loop_manager)
        finally:
            self._dump_executor.shutdown()  # the last rollouts are written, however it ended

    def _on_look(self, partition_id: str, failed: int) -> None:
        """The replay buffer has just looked how far the rollouts are."""
        self._rollouts.look(self.groups, partition_id)
        if reason := self.interruptions.reason(failed):
            if partition_id == "train":
                self._stop(Interrupted, reason)
            raise ValidationAbandoned(reason)

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        self._rollouts.submitted(batch["uid"], batch["index"])
        return super()._submit_batch_to_rollout(batch)

    def _how_far(self) -> object:
        return self.global_steps, self._rollouts.how_far

    def _waited_for(self) -> str:
        return self._rollouts.waited_for(self.llm_server_manager.global_load_balancer if self._routed else None)

    # ---- data ---------------------------------------------------------------------------------------------

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if self.longrl.mix.wanted:
            rows, upstream = self.train_dataset, self.train_dataloader
            self.train_dataloader = StatefulDataLoader(
                dataset=rows,
                batch_size=upstream.batch_size,
                num_workers=upstream.num_workers,
                drop_last=True,
                collate_fn=upstream.collate_fn,
                sampler=TaskSampler(rows.tasks(), rows.prompt_lengths, self.longrl.mix, self.config.data.seed or 0),
            )

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = super()._fetch_one_gen_batch()
        self.items.handed_out(batch)
        return batch

    def _waiting(self) -> list[int]:
        """Items of the data set that a start from here has to ask: of groups that wait, and not asked again yet."""
        return self.items.waiting(self.groups.carried)

    def _ask_again(self, items: list[int]) -> None:
        """Ask these items of the data set before those that the data loader comes to next."""
        self.train_dataloader_it = self.items.ahead(items, self.train_dataset, self.train_dataloader)

    def prepare_step(self) -> dict:
        wanted = self.config.data.train_batch_size - len(self.groups.carried)
        if wanted == self.config.data.train_batch_size:
            return super().prepare_step()
        if wanted > 0:
            self._add_prompts_to_generate(wanted)
        return {}

    # ---- advantages ---------------------------------------------------------------------------------------

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        if self.longrl.advantage.estimator == "upstream":
            return batch
        rewards = "token_level_rewards" if self.config.algorithm.use_kl_in_reward else "rm_scores"
        tasks = [score["task"] for score in self._scores]
        return put_advantages(batch, self.advantages, dict(zip(self._real_keys, tasks, strict=True)), rewards)

    # ---- metrics ------------------------------------------------------------------------------------------

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        if (sharing := metrics.get("actor/prompt_sharing")) is not None:
            metrics["perf/mfu/actor"] /= sharing  # verl counts a prompt's tokens for each of its rollouts
        return batch

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        with patched_attribute(trainer_base, "get_metric_data_with_optional_routed_experts", metric_data(batch)):
            super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        uids = [key.rsplit("_", 2)[0] for key in self._real_keys]
        metrics.update(reward_metrics([s["task"] for s in self._scores], self._scores))
        tasks, rewards = [s["task"] for s in self._scores], [s["score"] for s in self._scores]
        metrics.update(group_metrics(uids, rewards))
        metrics.update(task_metrics(tasks, uids, rewards, self._filtered))
        sampled = self._scores + _flat(self._filtered)
        metrics.update(reward_metrics([s["task"] for s in sampled], sampled, prefix="sampled"))
        metrics.update(filtered_metrics(self._filtered))
        metrics.update(self._routing)
        if global_steps % HOST_MEMORY_EVERY == 1:
            metrics.update(cluster_host_memory())
        self._write_metrics("train", global_steps, metrics)
        progress(step_line(global_steps, self.total_training_steps, metrics))
        lines, broken = self.health.look(global_steps, metrics)
        for line in lines:
            progress(line)
        if broken is not None:
            raise self._broken(broken)
        if self.health.in_doubt and (folder := self._take_unsealed()) is not None:
            progress(f"{folder} does not count as a checkpoint: {self.health.in_doubt}")
        if self.rollout_log is None:
            self._seal(self._take_unsealed())

    def _val_metrics_update(
        self, data_sources: list, sample_uids: list, reward_extra_infos_dict: dict[str, list], *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        metrics = super()._val_metrics_update(data_sources, sample_uids, reward_extra_infos_dict, *args, **kwargs)
        columns = reward_extra_infos_dict
        scores = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        metrics.update(reward_metrics([score["task"] for score in scores], scores, prefix="val"))
        if (failures := self._failures(scores)) is not None:
            error, problem = failures
            self._end_soon(error, f"held-out at step {self.global_steps}: {problem}")
        return metrics

    def _validate(self) -> dict[str, float]:
        if self._ending is not None:  # there is nothing to generate with
            return {}
        started = time.time()
        try:
            metrics = super()._validate()
        except (Interrupted, Stopped):
            raise
        except Exception as error:
            why = str(error) if isinstance(error, ValidationAbandoned) else self._death(error)
            if why is None:
                raise
            if self.global_steps == 0:  # verl does not begin without these metrics
                raise Interrupted(f"held-out at step 0: {why}. Repeat the command to begin again") from error
            self._end_soon(Interrupted, f"held-out at step {self.global_steps}: {why}")
            return {}
        progress(metrics_line(f"held-out at step {self.global_steps}", "val", metrics, time.time() - started))
        if line := tasks_line(metrics):
            progress(line)
        self._write_metrics("val", self.global_steps, metrics)
        return metrics

    def _write_metrics(self, split: str, step: int, metrics: dict[str, Any]) -> None:
        self._require_folders()
        plain = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float | np.number)}
        if problem := self._metrics.add({"split": split, "step": int(step), "time": time.time(), **plain}):
            progress(f"step {step}: {problem}")

    def _require_folders(self) -> None:
        """Raises FolderTakenOver where another run works in this one's folders by now."""
        for claim in self._claims:
            claim.require()

    # ---- rollouts -----------------------------------------------------------------------------------------

    def _log_rollout_data(self, batch: KVBatchMeta, timing_raw: dict, rollout_data_dir: str) -> None:
        assert self.rollout_log is not None  # settings.resolve gives verl a folder only with the log switched on
        first_of = {key.rsplit("_", 2)[0]: key for key in reversed(self._real_keys)}
        about = tq.kv_batch_get(
            keys=list(first_of.values()),
            partition_id=batch.partition_id,
            select_fields=["prompts", "reward_model", "extra_info"],
        )
        responses = tq.kv_batch_get(keys=self._real_keys, partition_id=batch.partition_id, select_fields=["responses"])[
            "responses"
        ].unbind()
        prompts, truths, infos = about["prompts"].unbind(), list(about["reward_model"]), list(about["extra_info"])
        log, step, decode = self.rollout_log, self.global_steps, self.tokenizer.decode
        real_keys, scores, unsealed = self._real_keys, self._scores, self._take_unsealed()

        def write() -> None:
            self._require_folders()
            try:
                write_rollouts()
            except OSError as error:  # they are only a log
                progress(f"step {step}: its rollouts are not logged: {error}")
            self._seal(unsealed)

        def write_rollouts() -> None:
            prompt_of = {
                uid: log.add_prompt(
                    decode(prompts[i]),
                    {
                        "index": infos[i].get("index"),
                        "ground_truth": truths[i].get("ground_truth"),
                        "ref_chunks": infos[i].get("ref_chunks"),
                        "difficulty": infos[i].get("difficulty"),
                        "prompt_tokens": len(prompts[i]),
                    },
                )
                for i, uid in enumerate(first_of)
            }
            rows = []
            for key, response, score in zip(real_keys, responses, scores, strict=True):
                uid, session, _ = key.rsplit("_", 2)
                text = decode(response, skip_special_tokens=True)
                own = {"own_parts": json.loads(score["own_parts"])}
                rows.append(
                    {"uid": uid, "rollout": int(session), "prompt": prompt_of[uid], "response": text, **score, **own}
                )
            log.write_step(step, sorted(rows, key=lambda row: (row["uid"], row["rollout"])))

        self._dump_futures = [f for f in self._dump_futures if not f.done() or f.result()]
        self._dump_futures.append(self._dump_executor.submit(write))

    # ---- checkpoints and stopping -------------------------------------------------------------------------

    def _save_before_step(self) -> None:
        self._save_checkpoint()
        folder = self._checkpoint_root / f"global_step_{self.global_steps}"
        torch.save(self._data_state, folder / "data.pt")
        checkpoints.write_atomic(folder / WAITING, json.dumps(self._waiting_state))
        checkpoints.write_atomic(folder / ADVANTAGES, json.dumps(self._advantages_state))
        self._seal(self._take_unsealed())

    def _save_checkpoint(self) -> None:
        """Save; the checkpoint counts only once it is sealed, after the step's metrics and rollouts are written."""
        self._require_folders()
        if (problem := finite_weights.not_finite(self.actor_rollout_wg.workers)) is not None:
            raise self._broken(problem)
        folder = self._checkpoint_root / f"global_step_{self.global_steps}"
        checkpoints.begin(folder)
        try:
            super()._save_checkpoint()
        except RuntimeError:  # torch does not say why it cannot write
            checkpoints.require_room(folder)
            raise
        written = shards.write_through(folder, self.actor_rollout_wg.workers)
        checkpoints.write_atomic(folder / ADVANTAGES, json.dumps(self.advantages.state_dict()))
        checkpoints.write_atomic(folder / WAITING, json.dumps(self._waiting()))
        self._unsealed = folder, written

    def _seal(self, unsealed: tuple[Path, dict[str, checksums.Written]] | None) -> None:
        if unsealed is not None:
            folder, written = unsealed
            checkpoints.seal(folder, self.actor_rollout_wg.world_size, written)
            for line in checkpoints.rotate(folder, self.longrl.checkpoints_to_keep):
                progress(line)

    def _take_unsealed(self) -> tuple[Path, dict[str, checksums.Written]] | None:
        unsealed, self._unsealed = self._unsealed, None
        return unsealed

    def _setup(self) -> None:
        progress("starting trainer ranks and vLLM replicas (the slowest part of a start)")
        with patched_attribute(trainer_base, "RewardLoopManager", RestartedRewardLoopManager):
            super()._setup()
        progress("ready")

    def _load_checkpoint(self) -> None:
        options, workers = self.config.trainer, self.actor_rollout_wg.workers
        if not self.longrl.trust_folder:
            shards.in_ranks(workers, write_access.only_the_owner_writes, [()] * len(workers))
        folder, passed_over = checkpoints.to_resume_from(
            options.resume_mode, self._checkpoint_root, options.resume_from_path, len(workers), cache(self._unsound)
        )
        for line in passed_over:
            progress(f"resume: {line}")
        if options.resume_mode == "auto":
            checkpoints.point_tracker(self._checkpoint_root, folder)
        if folder is not None:
            options.resume_from_path = str(folder)  # where verl looks with resume_path
            progress(f"resume: continuing from {folder}")
        reading = [*workers, *(self.critic_wg.workers if self.use_critic else [])]
        with shards.reading_weights_alone([] if self._megatron else reading):
            super()._load_checkpoint()
        if folder is not None:
            if (state := folder / ADVANTAGES).is_file():
                self.advantages.load_state_dict(json.loads(state.read_text()))
            if (waiting := folder / WAITING).is_file():
                self._ask_again(json.loads(waiting.read_text()))
        self._forget_metrics_after(self.global_steps)
        self._remember_metrics()
        if self.global_steps > 0:  # this step was validated, or was not meant to be, before the run was interrupted
            self.config.trainer.val_before_train = False

    @property
    def _megatron(self) -> bool:
        """Whether ranks read Megatron's own format, which holds more than weights."""
        return bool(self.config.actor_rollout_ref.actor.strategy == "megatron")

    def _unsound(self, folder: Path) -> str | None:
        """Why the checkpoint is not to be used, when all ranks have looked at its content; one of the run's own then no
        longer counts as whole. Raises CheckpointError when others can write it, or loading it would run code."""
        if (reason := checkpoints.damage(folder)) is not None:
            return reason
        if not self.longrl.trust_folder and (problem := write_access.checkpoint(folder)) is not None:
            raise checkpoints.CheckpointError(problem)
        started = time.time()
        found = shards.damaged(folder, self.actor_rollout_wg.workers, self._holds_weights)
        if found and folder.parent.resolve() == self._checkpoint_root.resolve():
            checkpoints.set_aside(folder)
        progress(f"resume: looked at all that {folder.name} holds, in {time.time() - started:.1f} s")
        return "; ".join(found) or None

    def _holds_weights(self, name: str) -> bool:
        return name.endswith(".pt") and not (self._megatron and "/" in name)

    def _remember_metrics(self) -> None:
        """Have the first steps from here compared with the last before."""
        if self.global_steps > 0 and self.metrics_file.is_file():
            rows = (row for row in iterate_jsonl(self.metrics_file) if row["split"] == "train")
            self.health.remember(self.global_steps, deque(rows, RECENT))

    def _forget_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that are about to be run again; at step 0 that is all of them."""
        truncate_before(self.metrics_file, lambda row: step == 0 or row.get("step", 0) > step)


def _flat(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [score for group in groups for score in group]
