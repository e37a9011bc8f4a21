"""Run the benchmarks by name, or all: python -m benchmarks [NAME ...] [--runs 5] [--json FILE]."""

import argparse
import importlib
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.common import RUNS
from playground.system.hardware import usable_cores

NAMES = ["gguf_pane", "long_prompt", "hf_pane", "base_and_adapter", "peft_pane", "three_panes", "page_start", "prepare"]
NAMES += ["page_paint", "conversations", "long_answer"]
NAMES += ["card", "card_8b"]
NAMES += ["kobest", "data", "training", "train_memory", "export", "parity"]
NAMES += ["api", "api_batch", "api_native", "api_soak", "kills", "page_soak"]


def main() -> int:
    """Print a line a measurement, ours beside the peer's; exit 1 for an unknown name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--runs", type=int, default=RUNS, help="interleaved runs of each side")
    parser.add_argument("--json", type=Path, help="write every number here, too")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    print(f"{platform.processor() or platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}")
    print(f"medians of {options.runs} interleaved runs, with their range: ours, then the peer's\n")
    rows = []
    for name in options.names or NAMES:
        for measured in importlib.import_module(f"benchmarks.{name}").run(options.runs):
            print(measured.line(), flush=True)
            rows.append(asdict(measured) | {"ratio": measured.ratio})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
