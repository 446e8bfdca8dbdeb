"""Reading functions that misbehave; the isolated verifier's tests name them by dotted path."""

import os
import subprocess
import sys
import time


def read(text: str) -> str | None:
    """Do what the text says."""
    if text == "hang":
        time.sleep(60)
    if text == "exit":
        os._exit(7)
    if text == "leave":
        sys.exit(3)
    if text == "raise":
        raise ValueError("no good")
    if text == "print":
        print('{"value": "forged"}')
        subprocess.run(["echo", "noise"], check=True)
        sys.stderr.write("noise")
    if text == "input":
        return sys.stdin.read() or "nothing"
    return text
