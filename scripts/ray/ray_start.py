"""Run `ray start` without Ray Client's port, which no option of Ray 2.60 closes: python ray_start.py OPTIONS.

Nothing here uses Ray Client, and anybody who reaches its port can run code in the cluster. `ray start` opens the port
on a head if gRPC is installed, and rejects 0 as its number; so this makes it believe that gRPC is missing.
"""

import sys

from ray.scripts import scripts

if __name__ == "__main__":
    scripts.get_ray_client_dependency_error = lambda: ImportError("Ray Client is disabled")
    sys.argv.insert(1, "start")
    scripts.main()
