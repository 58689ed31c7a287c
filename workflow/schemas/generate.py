"""Writes the JSON schemas of the settings next to this file, from the types in bgad/config/settings.py.

Editors use them to complete and check YAML files; the workflow checks with the types themselves. Run it after changing the
settings: python workflow/schemas/generate.py
"""

from pathlib import Path

import yaml

from bgad.config.settings import Config, Recipe, Suite

SCHEMAS = {"config.schema.yaml": Config, "recipe.schema.yaml": Recipe, "suite.schema.yaml": Suite}


def text_of(model: type) -> str:
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema = model.model_json_schema()
    if model is Recipe:
        # A recipe with a base states only differences, so no key is required.
        variant = {**_nothing_required(schema), "required": ["base"]}
        variant["properties"] = {"base": {"type": "string", "description": "the recipe to change"}, **variant["properties"]}
        definitions = {**schema.pop("$defs"), **{f"Changed{name}": of for name, of in variant.pop("$defs").items()}}
        schema = {"if": {"required": ["base"]}, "then": variant, "else": schema, "$defs": definitions}
    return yaml.safe_dump({**dialect, **schema}, sort_keys=False, width=120)


def _nothing_required(schema):
    """The schema without required keys, and with references to such definitions."""
    if isinstance(schema, list):
        return [_nothing_required(item) for item in schema]
    if not isinstance(schema, dict):
        return schema.replace("#/$defs/", "#/$defs/Changed") if isinstance(schema, str) else schema
    return {key: _nothing_required(value) for key, value in schema.items() if key != "required"}


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        Path(__file__).with_name(name).write_text(text_of(model))
