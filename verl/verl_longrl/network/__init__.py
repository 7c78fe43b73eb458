"""Who may talk to the processes of a run: those that know its secrets, and on one machine nobody from outside.

Upstream's parts listen on the node's address and believe whoever calls: TransferQueue and the transfer of weights
unpickle what arrives, vLLM's HTTP servers generate for anybody. Here

- `messages.py`: ZeroMQ's sockets speak CURVE, so nothing is decoded that a stranger has sent;
- `http.py`: vLLM's servers and the router before them want a key;
- `rendezvous.py`: a process group whose address is loopback listens there alone.

The secrets are made for each start (`keys.py`). A process without them, such as upstream verl on its own, does as
upstream; a run of LongRL refuses to train without them.
"""

from verl_longrl.network import http, messages, rendezvous


def register() -> None:
    """Guard what this process listens with from now on; once more changes nothing."""
    messages.register()
    http.register()
    rendezvous.register()
