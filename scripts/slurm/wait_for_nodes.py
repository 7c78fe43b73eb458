"""`python wait_for_nodes.py SECONDS NAME...`: until Ray at RAY_ADDRESS has these nodes; exits 1, naming who is missing.

A node's name is what `ray start --node-name` gave it.
"""

import os
import socket
import sys
import time

import ray

POLL_S, PROGRESS_S = 1.0, 15.0


def answers(address: str) -> bool:
    """Whether anyone listens at HOST:PORT; asked first, for ray.init would go on trying in silence."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def joined(address: str) -> set[str]:
    """Names of the nodes that are alive; none while the head does not answer."""
    if not ray.is_initialized():
        if not answers(address):
            return set()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    return {node["NodeName"] for node in ray.nodes() if node["Alive"]}


def main(timeout_s: float, names: list[str]) -> int:
    """The exit status: 0 when all are there, 1 when some are not after `timeout_s` seconds."""
    address, started, told = os.environ["RAY_ADDRESS"], time.monotonic(), 0.0
    while True:
        missing = sorted(set(names) - joined(address))
        waited = time.monotonic() - started
        late = waited > timeout_s
        if late or not missing or waited >= told:
            names_missing = f", missing: {' '.join(missing)}" if missing else ""
            print(f"ray: {len(names) - len(missing)} of {len(names)} nodes joined {address} after {waited:.0f} s"
                  f"{names_missing}", flush=True)  # fmt: skip
            told = waited + PROGRESS_S
        if not missing:
            return 0
        if late:
            print(f"ray: gave up after {timeout_s:.0f} s (LONGRL_JOIN_TIMEOUT). See ray-NODE.log beside this file of "
                  f"those missing; if they cannot reach {address}, set LONGRL_HEAD_ADDRESS", flush=True)  # fmt: skip
            return 1
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
