"""A process that scores text has no use for a network or for privileges, so it gives them up.

The network goes by the kernel where it lets a process have a network of its own, with nothing in it (not in containers
that forbid user namespaces), and in any case in Python, where the attempt is an error that says why. Code that is run
in the process on purpose gets around the latter, and reads what the user's files let it read: this is no sandbox.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

NO_NETWORK = (
    "scorers have no network: what they score may come from anywhere. Fix, for one that has to ask a server: "
    "longrl.reward.scorer_network=true"
)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_ASK_FOR_ADDRESSES = {"socket.getaddrinfo", "socket.gethostbyname"}
_SEND = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def confine(network: bool) -> None:
    """Give up privileges and, unless `network`, the network, for this process and those that it forks. Call it before
    there are threads: the kernel wants none."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if network:
        return
    user = os.getuid()
    if libc.unshare(_CLONE_NEWNET) != 0 and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        with contextlib.suppress(OSError):  # files are this user's all the same
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """Raises PermissionError where Python is about to reach for the network. Unix sockets have no tuple for an address,
    and are none."""
    if event in _ASK_FOR_ADDRESSES or (event in _SEND and isinstance(arguments[1], tuple)):
        raise PermissionError(NO_NETWORK)
