"""Where things lie that tests of every depth need."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KOBEST = ROOT / "tests" / "eval" / "data" / "kobest"
FAKE_ENGINE = ROOT / "tests" / "playground" / "engines" / "fake_engine.py"
