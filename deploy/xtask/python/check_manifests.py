"""Reads Kubernetes manifests, and checks each against the schemas that Kubernetes publishes for its kinds.

    python check_manifests.py [--kubernetes MINOR]... [--no-schema KIND]... FILE...

Every mistake is one line on standard error; the exit status is 1 if there is one. The documents go to standard output
as a JSON list of {"file", "kind", "checked", "content"}, for whoever wants to look at more than a schema can say.

Strict: a field that the schema does not know is a mistake, and so are a key that is there twice (YAML would keep the
last one) and a kind without a schema, unless it is named: a kind that nobody checks must be one that somebody chose.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml


class Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it, with every key of a mapping at most once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                message = f"the key {key!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def documents(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return [document for document in yaml.load_all(file, Loader=Loader) if document is not None]


def kind_of(document: Any) -> str | None:
    """Such as `apps/v1/Deployment`; none for what is no manifest at all."""
    if not isinstance(document, dict):
        return None
    version, kind = document.get("apiVersion"), document.get("kind")
    return f"{version}/{kind}" if isinstance(version, str) and isinstance(kind, str) else None


def mistakes(document: dict[str, Any], versions: list[str]) -> Iterator[str]:
    """What the schemas of these Kubernetes versions have against the document; each mistake once."""
    found: dict[str, list[str]] = {}
    for version in versions:
        try:
            used = kubernetes_validate.validate(document, version, strict=True)
            # An older or newer schema than the one asked for would prove something else.
            if used != version:
                found.setdefault(f"there are no schemas of Kubernetes {version}", []).append(version)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(step) for step in error.absolute_path) or "the document"
            found.setdefault(f"{place}: {error.message}", []).append(version)
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.utils.VersionNotSupportedError) as error:
            found.setdefault(error.message, []).append(version)
    for message, where in found.items():
        yield f"{message} [{', '.join(where)}]"


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks Kubernetes manifests.")
    parser.add_argument("--kubernetes", action="append", metavar="MINOR", help="check against this one, such as 1.30")
    parser.add_argument("--no-schema", action="append", default=[], metavar="KIND", help="a kind that has no schema")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    versions = arguments.kubernetes or [".".join(kubernetes_validate.latest_version().split(".")[:2])]

    read, failed = [], False

    def complain(path: Path, message: str) -> None:
        nonlocal failed
        failed = True
        print(f"{path}: {message}", file=sys.stderr)

    for path in arguments.files:
        try:
            contents = documents(path)
        except yaml.YAMLError as error:
            complain(path, f"not YAML: {error}")
            continue
        if not contents:
            complain(path, "nothing in it")
        for content in contents:
            kind = kind_of(content)
            if kind is None:
                complain(path, "no manifest: apiVersion or kind is missing")
                continue
            checked = kind not in arguments.no_schema
            if checked:
                for mistake in mistakes(content, versions):
                    complain(path, f"{kind}: {mistake}")
            read.append({"file": str(path), "kind": kind, "checked": checked, "content": content})
    json.dump(read, sys.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
