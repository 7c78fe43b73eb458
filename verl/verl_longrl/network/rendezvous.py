"""torch's TCPStore on loopback, where its address is loopback.

The store in which the ranks of a process group find each other listens on every interface, whatever its address, and
believes whoever calls. It can be given a socket instead.
"""

import importlib
import socket
from functools import wraps
from typing import Any

from torch.distributed import TCPStore

LOOPBACK = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}


def register() -> None:
    """Have the stores that this process makes from now on listen on loopback alone, if their address is there."""
    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")  # the package has a function of that name
    rendezvous.TCPStore = _store


@wraps(TCPStore)
def _store(host_name: str, port: int, *args: Any, **kwargs: Any) -> TCPStore:
    if kwargs.get("is_master") and (address := LOOPBACK.get(host_name)):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.create_server((address, port), family=family)
        except OSError:  # this process has a store at the port already, which serves several groups; or torch says what
            return TCPStore(host_name, port, *args, **kwargs)
        kwargs["master_listen_fd"] = listener.detach()
    return TCPStore(host_name, port, *args, **kwargs)
