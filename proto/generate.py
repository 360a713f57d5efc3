"""Generates djp/v1 from proto/: Python modules with type stubs, the descriptor set, and the OpenAPI document.

`python proto/generate.py` writes them; with `--check` it changes nothing and fails when one of them is stale.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path
from typing import Any

import grpc_tools

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
OUT = ROOT / "djp" / "v1"
INCLUDES = (
    PROTO,
    PROTO / "third_party",
    Path(grpc_tools.__file__).parent / "_proto",  # google/protobuf
)
# The rules' own module is generated too: protovalidate reads rules from descriptors and ships no Python module of them.
RULES = "buf/validate/validate.proto"
ERRORS = ("google/rpc/error_details.proto", "google/rpc/status.proto")
"""The contract names them nowhere, and every error is made of them: clients need them from the same descriptors."""
WRITTEN_BY_HAND = {"__init__.py"}


def generate(target: Path, openapi_plugin: str) -> None:
    """Write everything that belongs into djp/v1 to the folder `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        own = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("djp/v1/*.proto"))
        descriptors = target / "descriptors.binpb"
        _protoc(
            *(f"--{kind}_out={out}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc", "openapiv2")),
            "--mypy_opt=quiet",
            "--mypy_grpc_opt=quiet,generate_concrete_servicer_stubs",  # what a service does not offer yet stays out
            f"--openapiv2_opt={_openapi_options(own)}",
            f"--plugin=protoc-gen-openapiv2={openapi_plugin}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={descriptors}",
            *own,
            *ERRORS,
        )
        _protoc(f"--python_out={out}", f"--mypy_out={out}", "--mypy_opt=quiet", RULES)
        for path in (*out.glob("djp/v1/*"), *out.glob("buf/validate/*")):
            if path.name.startswith("common_pb2_grpc"):
                continue  # messages only, no service
            (target / path.name).write_text(_rewired(path.read_text()))
        document = json.loads((out / "openapi.swagger.json").read_text())
        document["info"] = {"title": "DJP Mesh", "version": "v1"}
        _tell_of_streams(document)
        (target / "openapi.json").write_text(json.dumps(document, indent=2) + "\n")


def _tell_of_streams(document: dict[str, Any]) -> None:
    """The bridge's streams are server-sent events; the plugin describes those of another gateway."""
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        answer = operation["responses"]["200"]
        if "streaming responses" in answer["description"]:
            operation["produces"] = ["text/event-stream", "application/json"]  # an error before the first event is JSON
            message = answer["schema"]["properties"]["result"]["$ref"].rpartition("/")[2]
            data = {"type": "string", "description": f"A {message} as JSON."}
            answer["description"] = "Server-sent events."
            answer["schema"] = {"type": "array", "items": {"type": "object", "properties": {"data": data}}}


def _openapi_options(protos: list[str]) -> str:
    go_packages = [f"M{proto}={Path(proto).parent}" for proto in (*protos, RULES)]  # the plugin insists on having them
    return ",".join(("allow_merge=true", "merge_file_name=openapi", "openapi_naming_strategy=simple", *go_packages))


def _protoc(*arguments: str) -> None:
    common_protos = next(path for path in files("googleapis-common-protos") or () if path.name == "annotations.proto")
    google_api = Path(str(common_protos.locate())).parent.parent.parent
    includes = [f"-I{folder}" for folder in (*INCLUDES, google_api)]
    plugins_too = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # protoc-gen-mypy is beside python
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *includes, *arguments],
        check=True,
        env={**os.environ, "PATH": plugins_too},
    )


def _rewired(source: str) -> str:
    """Imports of buf.validate point into djp.v1, where its module lies: no second top-level package is installed."""
    source = re.sub(r"from buf\.validate import validate_pb2", "from djp.v1 import validate_pb2", source)
    return re.sub(r"\bbuf\.validate\.validate_pb2\b(?=[.\]])", "djp.v1.validate_pb2", source)


def _stale(fresh: Path) -> list[str]:
    names = {path.name for folder in (fresh, OUT) for path in folder.iterdir() if path.is_file()} - WRITTEN_BY_HAND
    _, different, missing = filecmp.cmpfiles(fresh, OUT, names, shallow=False)
    return sorted((*different, *missing))


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openapi-plugin", required=True, help="path of protoc-gen-openapiv2")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a generated file is stale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh, arguments.openapi_plugin)
        stale = _stale(fresh)
        if arguments.check:
            for name in stale:
                print(f"djp/v1/{name} is stale: run `make proto` and commit what it writes", file=sys.stderr)
            return 1 if stale else 0
        for name in stale:
            if (fresh / name).exists():
                shutil.copy(fresh / name, OUT / name)
            else:
                (OUT / name).unlink()
            print(f"djp/v1/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
