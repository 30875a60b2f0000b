"""`ems schema`: the JSON Schema of site files and point maps."""

import argparse
import json

HELP = """Print the JSON Schema of a site file. Editors that know the YAML language server complete and
check keys when the first line of the site file is:  # yaml-language-server: $schema=site.schema.json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--map", action="store_true", help="the schema of a point map instead")


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from ems.site_schema import map_json_schema, site_json_schema

    print(json.dumps(map_json_schema() if args.map else site_json_schema(), indent=2))
    return 0
