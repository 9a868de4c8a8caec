"""Makes `pages` importable under a name of its own, as importlib mode has no packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location(
    "everbell_docs_pages", Path(__file__).with_name("pages.py")
)
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules["everbell_docs_pages"] = module
spec.loader.exec_module(module)
