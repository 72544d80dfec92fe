"""How the commands of this project end; 0 is success, 1 whatever nobody foresaw."""

USER_ERROR = 2
"""Something that the user can mend, said in one line."""
REQUEUE = 75
"""Stopped by a scheduler's warning, to be queued again; what sysexits.h calls a temporary failure."""
INTERRUPTED = 130
"""Stopped by Ctrl+C: 128 and the signal's number, as in shells."""
TERMINATED = 143
"""Stopped by SIGTERM, likewise."""
