"""Run a command, look at its private memory while it runs, and report what it took.

The launcher between `scale.py` and what that measures: small, because Linux lets a child begin with
the peak memory of its parent. The last line on stderr is the report, as JSON.
"""

import json
import os
import sys
import threading
import time

LOOK = 0.02


def main(command: list[str]) -> None:
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    private = [0]
    threading.Thread(target=look, args=(child, private), daemon=True).start()
    _, status, usage = os.wait4(child, 0)
    report = {
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        "private": private[0] / 1024,
        "code": os.waitstatus_to_exitcode(status),
    }
    print(f"\n{json.dumps(report)}", file=sys.stderr)


def look(process: int, most: list[int]) -> None:
    """Note the most anonymous memory, in KiB, that a process is seen to have."""
    while True:
        try:
            with open(f"/proc/{process}/status") as lines:
                found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
        except OSError:
            return
        most[0] = max(most[0], *found, 0)
        time.sleep(LOOK)


if __name__ == "__main__":
    main(sys.argv[1:])
