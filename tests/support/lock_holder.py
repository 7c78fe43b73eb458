"""Holds folders until it is ended, and says so on standard output: `python lock_holder.py NAME FOLDER...`"""

import sys
import time
from pathlib import Path

from verl_longrl import folder_lock

with folder_lock.hold_folders(map(Path, sys.argv[2:]), sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
