"""Validates YAML documents by a JSON Schema: {"schema": …, "documents": [text, …]} → [what is wrong, or null, …].

The schema itself is checked by the metaschema of its draft first. Documents are read as YAML 1.2, in which `off` is a text,
and as YAML 1.1, in which it is a boolean: what is wrong by one of the two is wrong.
"""

import json
import re
import sys

import jsonschema
import yaml


class Core(yaml.SafeLoader):
    yaml_implicit_resolvers = {}


def scalar(tag, expression, first):
    Core.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile(expression), list(first))


scalar("null", r"^(?:~|null|)$", ["~", "n", ""])
scalar("bool", r"^(?:true|false)$", "tf")
scalar("int", r"^[-+]?[0-9]+$", "-+0123456789")
scalar("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")

given = json.load(sys.stdin)
jsonschema.Draft202012Validator.check_schema(given["schema"])
validator = jsonschema.Draft202012Validator(given["schema"])


def wrong(text):
    for loader in (Core, yaml.SafeLoader):
        error = next(validator.iter_errors(yaml.load(text, loader)), None)
        if error:
            return f"{loader.__name__}: {error.json_path}: {error.message}"[:300]
    return None


json.dump([wrong(text) for text in given["documents"]], sys.stdout)
