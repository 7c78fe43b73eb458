"""Run a function on chosen nodes of a Ray cluster, and wait for the results with a time limit."""

import sys
from collections.abc import Callable, Mapping
from typing import Any


def start_on_node(node_id: str, function: Callable[..., Any], *arguments: Any, gpus: int = 0) -> Any:
    """Ray's reference to the result of a call on this node.

    It asks for no CPU, so that it also runs on a cluster that has none left. The function is sent by value: one that
    refers to little else does not make its process import LongRL, which takes many seconds on a slow disk.
    """
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task: Any = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0, max_calls=1)(function)
    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return task.options(scheduling_strategy=pinned).remote(*arguments)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def wait_for_results(references: Mapping[Any, Any], seconds: float) -> dict[Any, Any]:
    """The results that are there after `seconds`, by the keys of their references: an exception for a call that
    failed, nothing for one that has not ended, whose process is killed."""
    import ray

    ready, _ = ray.wait(list(references.values()), num_returns=len(references), timeout=seconds)
    results = {}
    for key, reference in references.items():
        if reference not in ready:
            ray.cancel(reference, force=True)
            continue
        try:
            results[key] = ray.get(reference)
        except Exception as error:  # noqa: BLE001  Ray's, or the function's
            results[key] = error
    return results
