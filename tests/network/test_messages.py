"""Sockets that unpickle what they receive, and strangers who talk to them."""

import asyncio
import pickle
import threading
from pathlib import Path
from secrets import token_hex

import pytest
import torch
import zmq
from support.unauthenticated_peers import PICKLED, Attack
from transfer_queue import controller
from transfer_queue.utils.zmq_utils import ZMQMessage
from verl_longrl import secrets
from verl_longrl.network import messages

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    messages.register()
    monkeypatch.setenv(secrets.MESSAGE_KEY, token_hex(32))


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def listening(context: zmq.Context) -> tuple[zmq.Socket, str]:
    """A socket as TransferQueue's controller makes it, and its address."""
    socket = controller.create_zmq_socket(context, zmq.ROUTER, "127.0.0.1")
    socket.bind("tcp://127.0.0.1:0")
    return socket, socket.last_endpoint.decode()


def test_processes_of_the_run_talk_to_each_other(context):
    server, address = listening(context)
    client = controller.create_zmq_socket(context, zmq.DEALER, "127.0.0.1", identity=b"TQ_STORAGE_1")
    client.connect(address)
    client.send_multipart([b"one", b"two"])
    assert server.poll(5000)
    assert server.recv_multipart() == [b"TQ_STORAGE_1", b"one", b"two"]
    server.send_multipart([b"TQ_STORAGE_1", b"three"])
    assert client.poll(5000)
    assert client.recv_multipart() == [b"three"]


@pytest.mark.parametrize("knows", ["nothing", "another run's secret", "keys of its own"])
def test_what_a_stranger_sends_is_never_received(context, tmp_path, monkeypatch, knows):
    server, address = listening(context)
    stranger = zmq.Context().socket(zmq.DEALER)
    stranger.identity = b"TQ_STORAGE_1"
    if knows == "another run's secret":
        monkeypatch.setenv(secrets.MESSAGE_KEY, token_hex(32))
        messages.secure(stranger, server=False)
    elif knows == "keys of its own":
        stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
        stranger.curve_serverkey = zmq.curve_keypair()[0]
    stranger.connect(address)
    stranger.send_multipart([PICKLED, pickle.dumps(Attack(tmp_path / "attacked"))])
    assert not server.poll(700)
    stranger.close(linger=0)


def test_the_attack_would_work_on_what_is_received(context, tmp_path):
    """The attack that the tests above keep out: decoding runs code."""
    with pytest.raises(TypeError):  # the result is not a message
        ZMQMessage.deserialize([PICKLED, pickle.dumps(Attack(tmp_path / "attacked"))])
    assert (tmp_path / "attacked").read_text() == "code ran"


def weights(folder: Path):
    from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer as transfer

    handle = f"ipc://{folder}/weights.sock"
    return (
        transfer.BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True),
        transfer.BucketedWeightReceiver(handle, torch.device("cpu"), use_shm=True),
    )


def test_weights_reach_the_receiver(tmp_path):
    sender, receiver = weights(tmp_path)
    received = {}
    thread = threading.Thread(
        target=receiver.receive_weights,
        args=(lambda bucket, last: received.update({name: tensor.clone() for name, tensor in bucket}),),
    )
    thread.start()
    asyncio.run(sender.async_send_weights(iter([("w", torch.arange(5.0))])))
    thread.join(10)
    assert received["w"].tolist() == [0, 1, 2, 3, 4]


def test_who_waits_at_the_receivers_socket_is_not_believed(context, tmp_path):
    """Another user of the machine can make the socket in /tmp first, whose name is known, and send a pickle."""
    _, receiver = weights(tmp_path)
    impostor = context.socket(zmq.REQ)
    impostor.bind(receiver.zmq_handle)
    threading.Thread(target=lambda: receiver.receive_weights(lambda *_: None), daemon=True).start()
    assert not impostor.poll(700, zmq.POLLOUT), "the receiver listens to whom it does not know"


def test_a_process_without_the_secret_does_as_upstream(context, monkeypatch):
    monkeypatch.delenv(secrets.MESSAGE_KEY)
    server, address = listening(context)
    client = context.socket(zmq.DEALER)
    client.connect(address)
    client.send(b"hello")
    assert server.poll(5000)


def test_registering_twice_changes_nothing():
    before = [module.create_zmq_socket for module in messages.TRANSFER_QUEUE]
    messages.register()
    assert [module.create_zmq_socket for module in messages.TRANSFER_QUEUE] == before
