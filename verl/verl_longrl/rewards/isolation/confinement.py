"""Confine a scorer process: it needs neither a network nor privileges, so it gives them up.

The network is taken away by the kernel, where it allows a process an empty network namespace (containers that forbid
user namespaces do not), and in any case in Python, where an attempt raises an error that gives the reason. Code that is
run in the process on purpose can work around the latter and can read the user's files: this is not a sandbox.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

NO_NETWORK = (
    "scorers have no access to the network, because the texts they score may come from anywhere. Fix: set "
    "longrl.reward.scorer_network=true if your scorer needs to call a server"
)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_ASK_FOR_ADDRESSES = {"socket.getaddrinfo", "socket.gethostbyname"}
_SEND = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def confine(network: bool) -> None:
    """Give up privileges and, unless `network` is set, the network, for this process and the ones that it forks.

    Call it before the process has threads: the kernel creates a user namespace only for a single-threaded process.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if network:
        return
    user = os.getuid()
    if libc.unshare(_CLONE_NEWNET) != 0 and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        # In the new user namespace this process is nobody. Map it to the user, so that it sees its files as its own.
        with contextlib.suppress(OSError):
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """Raise PermissionError when Python is about to use the network.

    The address of a Unix socket is not a tuple; those sockets are allowed.
    """
    if event in _ASK_FOR_ADDRESSES or (event in _SEND and isinstance(arguments[1], tuple)):
        raise PermissionError(NO_NETWORK)
