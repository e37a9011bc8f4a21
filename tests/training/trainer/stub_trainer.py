"""A trainer that does as its plan says, without any engine: `python stub_trainer.py RUN`. For test_supervise.py.

Each try takes the next line of `script` in the run's folder: an outcome as JSON, or `kill`, `abort`, `sleep`.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from training.run.runs import Run, mark_whole
from training.trainer import process

run = Run(Path(sys.argv[1]))
process._die_with_supervisor()
script = run.folder / "script"
line, *rest = script.read_text(encoding="utf-8").splitlines()
script.write_text("\n".join(rest), encoding="utf-8")
with (run.folder / "tries").open("a", encoding="utf-8") as tries:
    tries.write(run.plan().model_dump_json() + "\n")
if line == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if line == "sleep":
    (run.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    while not run.stop_file.exists():
        time.sleep(0.05)
    line = json.dumps({"status": "stopped", "step": 4})
if line == "checkpoint":
    folder = run.checkpoints / "checkpoint-2"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"w")
    mark_whole(folder)
    (run.checkpoints / "checkpoint-3").mkdir()
    line = json.dumps({"status": "out_of_memory", "message": "CUDA out of memory."})
(run.folder / "outcome-0.json").write_text(line, encoding="utf-8")
sys.stdout.write("the last line of the log\n")
