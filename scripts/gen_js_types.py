"""Writes the JavaScript client's ``schemas.d.ts`` from ``docs/reference/openapi.json``.

``--check`` only says whether it is out of date (exit code 1).
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "clients" / "javascript" / "schemas.d.ts"
NOTE = "// Generated from docs/reference/openapi.json by scripts/gen_js_types.py.\n"
WORDS = {
    "string": "string", "integer": "number", "number": "number", "boolean": "boolean",
    "null": "null",
}  # fmt: skip


def type_of(schema: dict[str, Any]) -> str:
    """Return a JSON schema as a type."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(json.dumps(word) for word in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    kind = schema.get("type")
    if "anyOf" in schema and kind not in WORDS:
        words = " | ".join(map(type_of, schema["anyOf"])).split(" | ")
        return " | ".join(dict.fromkeys(words))
    if isinstance(kind, list):
        return " | ".join(type_of({**schema, "type": one}) for one in kind)
    if kind == "array":
        return f"Array<{type_of(schema.get('items', {}))}>"
    if kind == "object":
        more = schema.get("additionalProperties")
        return f"Record<string, {type_of(more) if isinstance(more, dict) else 'any'}>"
    return WORDS.get(kind, "any")


def interface(name: str, schema: dict[str, Any]) -> str:
    """Return a component as an interface; what is not required may be left out."""
    lines = []
    if told := schema.get("description"):
        lines.append("/** {} */".format(" ".join(told.split()).replace("``", "`")))
    lines.append(f"export interface {name} {{")
    required = set(schema.get("required", ()))
    for field, shape in schema["properties"].items():
        if told := shape.get("description"):
            lines.append(f"  /** {told} */")
        lines.append(f"  {field}{'' if field in required else '?'}: {type_of(shape)}")
    return "\n".join([*lines, "}"])


def main() -> int:
    """Write the types, or compare them."""
    spec = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text())
    shapes = spec["components"]["schemas"]
    parts = [interface(name, shape) for name, shape in shapes.items()]
    wanted = NOTE + "\n" + "\n\n".join(parts) + "\n"
    if TARGET.exists() and TARGET.read_text() == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print("clients/javascript/schemas.d.ts is out of date; run scripts/gen_js_types.py")
        return 1
    TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
