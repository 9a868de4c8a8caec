"""Write docs/reference/openapi.json from the route table."""

from pathlib import Path

from everbell.api.openapi import document
from everbell.api.table import ENDPOINTS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "openapi.json"


def main() -> None:
    """Write the file."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(document(ENDPOINTS))
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main()
