"""The work that the stories enqueue, run by `nightshift worker` for each task."""

import json
import os
import sys

task = json.load(sys.stdin)
if os.environ["NIGHTSHIFT_TASK_PATH"] == "clients.count":
    words = " ".join(task["args"]).split()
    print(json.dumps({"words": len(words), **task["kwargs"]}))
else:
    sys.exit("there is no such work")
