#!/usr/bin/env python3
"""Runs the commands of READMEs that an answer follows, and compares it: readme.py README...

Expects `nightshift` on the PATH and the components in the working directory.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = re.compile(r"```sh\n(?P<command>.*?)```.*?```json\n(?P<answer>.*?)```", re.DOTALL)


def main() -> None:
    for name in sys.argv[1:]:
        examples = list(EXAMPLE.finditer(Path(name).read_text()))
        if not examples:
            sys.exit(f"{name} has no command with an answer")
        for example in examples:
            check(name, example["command"], json.loads(example["answer"]))


def check(name: str, command: str, expected: object) -> None:
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name}: {command}\n{done.stdout}{done.stderr}")
    if json.loads(done.stdout) != expected:
        sys.exit(f"{name}: {command}\nanswered {done.stdout}")
    print(f"{name}: as it says")


main()
