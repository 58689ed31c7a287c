"""Writes the JSON schemas of the settings beside this file, from the typed objects that they mirror (bgad/settings.py).

Editors complete and check the YAML files by them; the workflow itself checks with the typed objects. Run it after a change
of the settings: python workflow/schemas/generate.py
"""

from pathlib import Path

import yaml

from bgad.settings import Config, Recipe, Suite

SCHEMAS = {"config.schema.yaml": Config, "recipe.schema.yaml": Recipe, "suite.schema.yaml": Suite}


def text_of(model: type) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return yaml.safe_dump(schema, sort_keys=False, width=120)


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        Path(__file__).with_name(name).write_text(text_of(model))
