"""`python wait_for_nodes.py SECONDS COUNT | NAME...`: until Ray at RAY_ADDRESS has so many nodes, or these.

Exits 1 if it has not by then, naming who is missing. A node's name is what `ray start --node-name` gave it.
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


def main(timeout_s: float, wanted: list[str]) -> int:
    """The exit status: 0 when all are there, 1 when some are not after `timeout_s` seconds."""
    address, started, told = os.environ["RAY_ADDRESS"], time.monotonic(), 0.0
    names = [] if wanted[0].isdigit() else wanted
    count = len(names) or int(wanted[0])
    while True:
        there = joined(address)
        missing = sorted(set(names) - there)
        lacking = len(missing) if names else count - len(there)
        waited = time.monotonic() - started
        late = waited > timeout_s
        if late or lacking <= 0 or waited >= told:
            who = f", missing: {' '.join(missing)}" if missing else ""
            print(f"ray: {count - lacking} of {count} nodes joined {address} after {waited:.0f} s{who}", flush=True)
            told = waited + PROGRESS_S
        if lacking <= 0:
            return 0
        if late:
            fix = f"see the logs of `ray start` on those missing, and whether they can reach {address}"
            print(f"ray: gave up after {timeout_s:.0f} s: {fix}", flush=True)
            return 1
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
