"""What a child of the supervisor may do wrong; the file it is started with says what."""

import resource
import sys
import time
from pathlib import Path


def main(config: Path) -> None:
    """Do what the file says."""
    what = config.read_text()
    with (config.parent / "starts").open("a") as starts:
        starts.write("x")
    sign = config.parent / "sign"
    if what == "exits":
        return
    if what == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (64 << 20, 64 << 20))
        bytearray(128 << 20)
    if what == "hangs":
        sign.touch()
        time.sleep(600.0)
    while True:
        sign.touch()
        time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
