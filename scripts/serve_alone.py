"""`genrec serve` with a pass through the model for each job alone, to measure what batching brings.

Usage: python scripts/serve_alone.py serve RUN [options of genrec serve]
"""

import functools

from genrec.cli import entry
from genrec.scoring import scheduler

scheduler.Scheduler = functools.partial(scheduler.Scheduler, together=False)  # type: ignore[assignment,misc]
entry()
