"""The JSON schema of a configuration file, for editors and the workflow."""

from __future__ import annotations

import json
from typing import Any

from crystalformer_rl.config.run import RunSettings


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a configuration file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunSettings.model_json_schema()}


def schema_text() -> str:
    """The schema as the file in the repository has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
