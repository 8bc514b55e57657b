"""Write size and digest of the files in resources/embedded into the registry.

Run it after an embedded file was made again: python scripts/update_registry.py
The registry's other lines and its comments stay as they are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from crystalformer_rl.resources.registry import load_registry
from crystalformer_rl.tables.provenance import sha256

REGISTRY = Path(__file__).resolve().parent.parent / "crystalformer_rl" / "resources" / "registry.yaml"


def main() -> None:
    text = REGISTRY.read_text(encoding="utf-8")
    missing: list[str] = []
    for resource in load_registry().values():
        if resource.scheme != "embedded":
            continue
        path = resource.embedded_path
        if not path.is_file():
            missing.append(path.name)
            continue
        size, digest = path.stat().st_size, f"sha256:{sha256(path)}"
        entry = re.compile(rf"(^{re.escape(resource.name)}:\n(?:  .*\n)*?)  size: .*\n  digest: .*\n", re.MULTILINE)
        text, found = entry.subn(rf"\g<1>  size: {size}\n  digest: {digest}\n", text)
        if found != 1:
            sys.exit(f"{REGISTRY} has no lines `size` and `digest` in a row in entry {resource.name}; write them.")
        print(f"{resource.name}: {size:,} bytes, {digest}")
    REGISTRY.write_text(text, encoding="utf-8")
    if missing:
        sys.exit(f"resources/embedded lacks {', '.join(missing)}; make them and run this again.")


if __name__ == "__main__":
    main()
