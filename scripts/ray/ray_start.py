"""`python ray_start.py OPTIONS`: `ray start` without Ray Client's port, which no option of Ray 2.60 closes.

Nothing here connects by Ray Client, and through its port code can be run in the cluster. `ray start` opens it on a head
wherever it finds gRPC installed, and refuses 0 as its number; so it is told that gRPC isn't there.
"""

import sys

from ray.scripts import scripts

if __name__ == "__main__":
    scripts.get_ray_client_dependency_error = lambda: ImportError("Ray Client is not wanted")
    sys.argv.insert(1, "start")
    scripts.main()
