"""verl's SFT trainer with a loop that resumes exactly, and checkpoints that are complete or do not count.

verl's loop keeps the data loader's position in the checkpoint. Resumed at the end of an epoch, it skips the next one.
Its validation leaves out the rows that do not fill a batch, and averages over batches of different sizes. Here the rows
of a step are a function of its number, so there is no position to keep, and a held-out loss is the mean over all
response tokens of all rows.

The model, the optimizer, the loss and the micro-batches are verl's; with LongRL's engines, rows are packed without
padding, a prompt with several responses is computed once, and logits are computed only at responses.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from tensordict.tensorclass import NonTensorData
from torch import Tensor
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.dataset_utils import SFTTensorCollator
from verl_longrl.trainer import checkpoints, checksums, safe_loading, shards, trackers
from verl_longrl.trainer.console_lines import print_line
from verl_longrl.trainer.interruption import STOP_FILE
from verl_longrl.trainer.metrics_log import MetricsLog

Item = dict[str, Tensor]
MODEL = "actor"
"""The folder of the model in a checkpoint, as in those of reinforcement learning, which the export reads."""


class BatchOrder:
    """Which rows each step trains on: all rows once an epoch, in an order drawn by seed and epoch.

    The last rows of an epoch that do not fill a batch are left out. Raises ValueError for fewer rows than a batch.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, shuffle: bool = True) -> None:
        if rows < batch_size:
            raise ValueError(f"{rows} rows are fewer than one batch of {batch_size}")
        self.rows, self.batch_size, self.seed, self.shuffle = rows, batch_size, seed, shuffle

    def __len__(self) -> int:
        """Steps of one epoch."""
        return self.rows // self.batch_size

    def rows_of(self, step: int) -> list[int]:
        """The rows of a step, counted from 1."""
        epoch, place = divmod(step - 1, len(self))
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows) if self.shuffle else range(self.rows)
        return [int(row) for row in order[place * self.batch_size : (place + 1) * self.batch_size]]


class SealedCheckpoints:
    """Writes a checkpoint in all ranks and seals it (`verl_longrl.trainer.checkpoints`), and reads one.

    All ranks call the same methods. resume_from: a checkpoint that has been checked, or None.
    """

    def __init__(self, engine: Any, root: Path, keep: int | None, resume_from: str | None) -> None:
        self.engine, self.root, self.keep = engine, root, keep
        self.resume_from = Path(resume_from) if resume_from else None

    def load_checkpoint(self) -> int:
        """Load the checkpoint to resume from; returns its step, 0 without one."""
        if self.resume_from is None:
            return 0
        with safe_loading.restricted():
            self.engine.load_checkpoint(str(self.resume_from / MODEL), del_local_after_load=False)
        return checkpoints.step_of(self.resume_from)

    def save_checkpoint(self, step: int) -> None:
        folder, rank, ranks = self.root / f"global_step_{step}", dist.get_rank(), dist.get_world_size()
        if rank == 0:
            checkpoints.begin_checkpoint(folder)
        dist.barrier()
        try:
            self.engine.save_checkpoint(str(folder / MODEL), global_step=step)
        except RuntimeError:
            # torch does not say why it cannot write. This raises the system's error where the disk is full.
            checkpoints.require_room(folder)
            raise
        # Each rank syncs its own files.
        files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.glob("*/**/*") if path.is_file()}
        written = checksums.write_through(folder, shards.assign_files(files, ranks)[rank])
        parts: list[Any] = [None] * ranks
        dist.all_gather_object(parts, written)
        if rank == 0:
            checkpoints.seal_checkpoint(folder, ranks, {name: file for part in parts for name, file in part.items()})
            for line in checkpoints.rotate(folder, self.keep):
                print_line(line)
        dist.barrier()


class DemonstrationTrainer(SFTTrainer):  # type: ignore[misc]
    """config: `recipe.longrl.sft.options.trainer_config`. `trainer.resume_from_path` is a checkpoint that has been
    checked."""

    def _build_dataloader(self) -> None:
        data, ranks = self.config.data, self.engine.get_data_parallel_size()
        self.train_dataloader = BatchOrder(len(self.train_dataset), data.train_batch_size, data.seed or 0, data.shuffle)
        self.collate = SFTTensorCollator(data.pad_mode)
        self.rank_slice = slice(self.engine.get_data_parallel_rank(), None, ranks)
        self.about_batch = {
            "use_remove_padding": self.config.model.use_remove_padding,
            "use_dynamic_bsz": data.use_dynamic_bsz,
            "max_token_len_per_gpu": data.max_token_len_per_gpu,
            "micro_batch_size_per_gpu": data.micro_batch_size_per_gpu,
            "temperature": 1.0,
            "global_batch_size": data.train_batch_size,
            "pad_mode": data.pad_mode,
            "pad_token_id": self.model_config.tokenizer.pad_token_id,
        }

    def _build_ckpt_handler(self) -> None:
        trainer, keep = self.config.trainer, self.config.longrl.checkpoints_to_keep
        root = Path(trainer.default_local_dir)
        self.ckpt_handler: Any = SealedCheckpoints(self.engine, root, keep, trainer.resume_from_path)

    def fit(self) -> None:
        """Train to the last step, or until the stop file is there; a checkpoint is sealed at the end of either."""
        step, trainer, output_dir = self.resume_global_step, self.config.trainer, Path(self.config.longrl.output_dir)
        self.log = RunLog(self.config, output_dir, step) if self.rank == 0 else None
        if step == 0:
            self._validate(0)
        while step < self.total_training_steps:
            step += 1
            self._train(step)
            last = step == self.total_training_steps
            if last or (trainer.test_freq > 0 and step % trainer.test_freq == 0):
                self._validate(step)
            stop = self._agree(self.rank == 0 and (output_dir / STOP_FILE).exists())
            if last or stop or step % trainer.save_freq == 0:
                self._require_finite(step)
                self.ckpt_handler.save_checkpoint(step)
            if stop and not last:
                return

    def _train(self, step: int) -> None:
        started = time.monotonic()
        items = [self.train_dataset[row] for row in self.train_dataloader.rows_of(step)]
        tokens = [len(item["input_ids"]) for item in items]
        batch = self._batch(items)
        tu.assign_non_tensor(batch, update_lr_scheduler=True, global_token_num=NonTensorData(tokens))
        output = self.training_client.train_batch(data=batch)
        if self.log is None:
            return
        metrics = tu.get(output, "metrics")
        seconds = time.monotonic() - started
        values = {name: metrics[name] for name in ("loss", "grad_norm", "lr") if name in metrics}
        values |= {"tokens": sum(tokens), "response_tokens": sum(int(item["loss_mask"].sum()) for item in items)}
        values |= {"seconds": seconds, "memory_gib": metrics["perf/max_memory_allocated_gb"]}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            what = f"loss {values['loss']}, gradient norm {values['grad_norm']}"
            sys.exit(_broken(step, what, self.config))
        self.log.write("train", step, {f"train/{name}": value for name, value in values.items()})
        print_line(
            f"step {step}/{self.total_training_steps}  loss {values['loss']:.4f}  {sum(tokens) / seconds:.0f} tokens/s"
            f"  {seconds:.1f} s"
        )

    def _validate(self, step: int) -> None:
        """Log the mean loss over the response tokens of all held-out rows."""
        if not self.val_dataset:
            return
        total, tokens, size = 0.0, 0, self.config.data.train_batch_size
        for start in range(0, len(self.val_dataset), size):
            items = [self.val_dataset[row] for row in range(start, min(start + size, len(self.val_dataset)))]
            learned = sum(int(item["loss_mask"].sum()) for item in items)
            # All ranks need the same number of rows; the copies count for nothing.
            while len(items) % self.engine.get_data_parallel_size():
                items.append({**items[0], "loss_mask": torch.zeros_like(items[0]["loss_mask"])})
            output = self.training_client.infer_batch(self._batch(items))
            if self.log is not None:
                total += tu.get(output, "metrics")["loss"] * learned
                tokens += learned
        if self.log is not None:
            self.log.write("val", step, {"val/loss": total / tokens})
            print_line(f"held out, step {step}: loss {total / tokens:.4f}, {len(self.val_dataset)} demonstrations")

    def _batch(self, items: list[Item]) -> Any:
        """This rank's share of the rows, as the engine wants them."""
        return tu.get_tensordict(tensor_dict=self.collate(items[self.rank_slice]), non_tensor_dict=self.about_batch)

    @torch.no_grad()
    def _require_finite(self, step: int) -> None:
        """Exit instead of saving weights that are not finite."""
        engine: Any = self.engine
        weights = engine.module.parameters()
        # FSDP's parameters are sharded over the ranks.
        local = (each.to_local() if hasattr(each, "to_local") else each for each in weights)
        if self._agree(any(not bool(each.isfinite().all()) for each in local)):
            sys.exit(_broken(step, "weights are not finite", self.config))

    def _agree(self, here: bool) -> bool:
        """Whether it is true in any rank."""
        flag = torch.tensor(int(here), device=self.config.trainer.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())


class RunLog:
    """metrics.jsonl and the trackers of `trainer.logger`, after the step that counts."""

    def __init__(self, config: Any, output_dir: Path, step: int) -> None:
        trainer = config.trainer
        self.metrics = MetricsLog(output_dir / "metrics.jsonl")
        self.metrics.drop_after(step)
        names = [trainer.logger] if isinstance(trainer.logger, str) else list(trainer.logger)
        trackers.resume_at(step, output_dir, names)
        plain: Any = OmegaConf.to_container(config, resolve=True)
        self.tracking = trackers.LossyTracking(trainer.project_name, trainer.experiment_name, names, plain)

    def write(self, split: str, step: int, metrics: dict[str, float]) -> None:
        self.metrics.write(split, step, metrics)
        self.tracking.log(metrics, step)


def _broken(step: int, problem: str, config: Any) -> str:
    """The message of a run that ends itself; it begins with the mark of lines for the terminal."""
    return (
        f"longrl: step {step}: {problem}, and nothing is saved. Fix: a lower sft.lr or more sft.warmup_steps, in a new "
        f"folder or after {config.trainer.default_local_dir} is deleted"
    )
