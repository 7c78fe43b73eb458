"""Where the store listens in which the ranks of a process group find each other."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

GROUPS = """
import datetime, socket, sys
import psutil, torch.distributed as d
from verl_longrl.network import rendezvous
rendezvous.register()
rendezvous.register()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
address = sys.argv[1]
d.init_process_group("gloo", init_method=f"tcp://{address}:{port}", rank=0, world_size=1)
store = d.distributed_c10d._get_default_store()
store.set("key", "value")
d.destroy_process_group()
d.init_process_group("gloo", init_method=f"tcp://{address}:{port}", rank=0, world_size=1)  # the same store again
listening = [c.laddr for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
print(*{where.ip for where in listening})
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_a_store_with_a_loopback_address_listens_there_alone(address):
    done = subprocess.run([sys.executable, "-c", GROUPS, address], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["127.0.0.1"], done.stderr[-2000:]
