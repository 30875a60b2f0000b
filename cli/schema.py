"""`ems schema`: the JSON Schema of site files, point maps, device families, providers of inputs and plans."""

import argparse
import json

HELP = """Print the JSON Schema of a site file. Editors that know the YAML language server complete and
check keys when the first line of the site file is:  # yaml-language-server: $schema=site.schema.json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--map", action="store_true", help="the schema of a point map instead")
    parser.add_argument("--family", action="store_true", help="the schema of a device family instead")
    parser.add_argument("--provider", action="store_true", help="the schema of a provider of inputs instead")
    parser.add_argument("--plan", action="store_true", help="the schema of a plan.json instead")


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from ems.site_schema import (
        family_json_schema,
        map_json_schema,
        provider_json_schema,
        site_json_schema,
    )

    if args.plan:
        from cli.plan_files import plan_json_schema

        print(json.dumps(plan_json_schema(), indent=2))
        return 0
    asked = [
        (args.map, map_json_schema),
        (args.family, family_json_schema),
        (args.provider, provider_json_schema),
    ]
    schema = next((made for wanted, made in asked if wanted), site_json_schema)
    print(json.dumps(schema(), indent=2))
    return 0
