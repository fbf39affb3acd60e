"""What a program makes of YAML documents that it reads and writes again, as YAML 1.1 and as JSON: [text, …] → [[yaml, json], …]."""

import json
import sys

import yaml

documents = [yaml.safe_load(text) for text in json.load(sys.stdin)]
json.dump([[yaml.safe_dump(read, sort_keys=False), json.dumps(read)] for read in documents], sys.stdout)
