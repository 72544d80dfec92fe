"""torchrun whose exit code is that of the processes it started: `python -m fna_lightning.runs.torchrun`.

torchrun's own is 1 whatever happened, so that nobody above could tell a setting to mend from a job to queue again.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from fna_lightning.exit_codes import REQUEUE


def launch(arguments: Sequence[str]) -> int:
    """Run torchrun with these arguments.

    Returns:
        0, or how the processes ended: their own code where one failed by itself, 143, 130 or 75 where they were
        told to end by SIGTERM, SIGINT, or SLURM's SIGUSR1 and SIGUSR2.
    """
    try:
        main(list(arguments))
    except ChildFailedError as error:
        return exit_code(failure.exitcode for failure in error.failures.values())
    except SignalException as error:
        return REQUEUE if error.sigval in (signal.SIGUSR1, signal.SIGUSR2) else 128 + error.sigval
    return 0


def exit_code(codes: Iterable[int]) -> int:
    """The code of a run from those of its failed processes; negative ones are signals that ended them.

    A process that left by itself says more than the one that was ended because of it.
    """
    found = list(codes)
    return next((code for code in found if code > 0), 128 - found[0])


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
