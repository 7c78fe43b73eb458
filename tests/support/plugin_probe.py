"""Every process that imports verl answers: it is imported through VERL_USE_EXTERNAL_MODULES, which has to reach it.

A file per process in the folder PLUGIN_PROBE, once verl has had time to load its plugins: what became of ours, and of a
token.
"""

import json
import os
import sys
import threading
from pathlib import Path


def answer() -> None:
    plugin = sys.modules.get("verl_longrl.plugin")
    said = {"loaded": bool(plugin and plugin.LOADED), "file": plugin and plugin.__file__}
    said["token"] = os.environ.get("HF_TOKEN")
    file = Path(os.environ["PLUGIN_PROBE"]) / f"{os.getpid()}.json"
    file.with_suffix(".new").write_text(json.dumps(said))
    file.with_suffix(".new").rename(file)


timer = threading.Timer(3.0, answer)
timer.daemon = True
timer.start()
