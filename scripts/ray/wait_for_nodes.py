"""Wait until Ray at RAY_ADDRESS has so many nodes, or these: python wait_for_nodes.py SECONDS COUNT | NAME...

Exits with 1 after SECONDS, naming the missing nodes. A node's name is that of `ray start --node-name`.
"""

import os
import socket
import sys
import time

import ray

POLL_S, PROGRESS_S = 1.0, 15.0


def is_listening(address: str) -> bool:
    """Whether anything listens at HOST:PORT. ray.init would silently retry for a long time."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def list_nodes(address: str) -> set[str]:
    """Names of the nodes that are alive; empty while the head does not answer."""
    if not ray.is_initialized():
        if not is_listening(address):
            return set()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    return {node["NodeName"] for node in ray.nodes() if node["Alive"]}


def main(timeout_s: float, expected: list[str]) -> int:
    """Wait for the nodes. Returns 0 when all have joined, or 1 after `timeout_s` seconds."""
    address, started, next_report_s = os.environ["RAY_ADDRESS"], time.monotonic(), 0.0
    names = [] if expected[0].isdigit() else expected
    count = len(names) or int(expected[0])
    while True:
        nodes = list_nodes(address)
        missing = sorted(set(names) - nodes)
        lacking = len(missing) if names else count - len(nodes)
        waited = time.monotonic() - started
        late = waited > timeout_s
        if late or lacking <= 0 or waited >= next_report_s:
            missing_names = f", missing: {' '.join(missing)}" if missing else ""
            print(
                f"ray: {count - lacking} of {count} nodes joined {address} after {waited:.0f} s{missing_names}",
                flush=True,
            )
            next_report_s = waited + PROGRESS_S
        if lacking <= 0:
            return 0
        if late:
            fix = f"check the logs of `ray start` on the missing nodes, and whether they can reach {address}"
            print(f"ray: gave up after {timeout_s:.0f} s. Fix: {fix}", flush=True)
            return 1
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
