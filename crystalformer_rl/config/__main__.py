"""`python -m crystalformer_rl.config [PATH]`: write the schema to a file, or to standard output."""

from __future__ import annotations

import sys
from pathlib import Path

from crystalformer_rl.config.schema import schema_text

if __name__ == "__main__":
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
    else:
        sys.stdout.write(schema_text())
