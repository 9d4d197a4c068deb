"""One JSON Schema (2020-12) per event type and version, made from the models: `python -m libs.events.schema_files`.

The files are committed; a test fails when they differ from the models, so a change of the wire format is always seen.
"""

from pathlib import Path

import orjson

from libs.events.envelope import Envelope
from libs.events.model import EVENT_TYPES, Frozen

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, bytes]:
    """File name to content of every schema."""
    made = {f"{name}.v{model.SCHEMA_VERSION}.json": _schema(model) for name, model in EVENT_TYPES.items()}
    return {"Envelope.v1.json": _schema(Envelope), **made}


def _schema(model: type[Frozen]) -> bytes:
    described = {"$schema": DIALECT, **model.model_json_schema(mode="serialization")}
    return orjson.dumps(described, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in schemas().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
