"""ZeroMQ sockets that accept only the run's own processes.

TransferQueue's controller and storage units listen on the node's address, and the weight transfer to vLLM listens in
/tmp under a name that can be guessed; both unpickle what they receive. With CURVE (RFC 26/CurveZMQ, in libzmq) messages
are encrypted and authenticated, and a peer that fails the handshake is dropped before any of its bytes are decoded.

One key pair, derived from the run's secret, serves all sockets. Its public half is kept secret as well: it is never
sent in the clear, and without it a handshake can be neither begun nor answered. So no list of peers is needed.
"""

import os
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import zmq
from transfer_queue import controller
from transfer_queue.storage import simple_storage
from transfer_queue.storage.managers import base
from transfer_queue.utils import zmq_utils
from wrapt import when_imported
from zmq.utils import z85

from verl_longrl import secrets

TRANSFER_QUEUE = (zmq_utils, controller, simple_storage, base)
"""Modules that import `create_zmq_socket` by name, which creates all of TransferQueue's sockets. The classes of its
actors are pickled by value, so an actor has the function of the process that sent it, here one with LongRL's plugin."""
WEIGHTS = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"


def secure(socket: Any, server: bool) -> None:
    """Let a socket, or all future sockets of a context, use CURVE if this process has the run's secret.

    server: whether this side answers handshakes. Call it before the socket is bound or connected.
    """
    secret = os.environ.get(secrets.MESSAGE_KEY)
    if not secret:
        return
    secret_key = z85.encode(bytes.fromhex(secret))
    public_key = zmq.curve_public(secret_key)
    socket.curve_secretkey, socket.curve_publickey = secret_key, public_key
    if server:
        socket.curve_server = True
    else:
        socket.curve_serverkey = public_key


def register() -> None:
    """Secure the sockets that TransferQueue and the weight transfer create from now on."""
    for module in TRANSFER_QUEUE:
        if not hasattr(module.create_zmq_socket, "secured"):
            module.create_zmq_socket = _secured(module.create_zmq_socket)
    when_imported(WEIGHTS)(_secure_weights)


def _secured(create: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(create)
    def create_zmq_socket(ctx: Any, socket_type: Any, *args: Any, **kwargs: Any) -> Any:
        socket = create(ctx, socket_type, *args, **kwargs)
        secure(socket, server=socket_type == zmq.ROUTER)  # ROUTER sockets listen on a port
        return socket

    create_zmq_socket.secured = True  # type: ignore[attr-defined]
    return create_zmq_socket


def _secure_weights(module: ModuleType) -> None:
    """The sender binds, the receiver connects; each creates its socket from a context that it keeps."""
    for peer, server in ((module.BucketedWeightSender, True), (module.BucketedWeightReceiver, False)):
        if not hasattr(peer.__init__, "secured"):
            peer.__init__ = _with_own_context(peer.__init__, server)


def _with_own_context(init: Callable[..., None], server: bool) -> Callable[..., None]:
    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        # The same context of libzmq under a new Python object, whose socket defaults are its own.
        self.zmq_context = zmq.Context.shadow(self.zmq_context.underlying)
        secure(self.zmq_context, server)

    __init__.secured = True  # type: ignore[attr-defined]
    return __init__
