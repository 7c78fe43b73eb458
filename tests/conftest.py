"""absl's log handler leaves pytest's captured stderr open.

absl (which rouge-score and tensorboard import) logs to what sys.stderr was at its import. `logging.config.dictConfig`,
as vLLM calls it, closes all handlers, and absl's then closes its stream, unless that is sys.stderr now or the
process's own. Imported while tests are collected, that is pytest's capture, which a test with `capsys` would close.
"""

import sys

from absl import logging

logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
