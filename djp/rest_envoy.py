"""Envoy's configuration for the REST bridge, made from the contract's own descriptors. No route is written by hand."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

import djp.v1
from djp.mesh import listen
from djp.mesh.errors import FailedPrecondition
from djp.mesh.identity import OUTSIDE_KEY
from djp.rest_answers import own_answers
from djp.rest_bounds import bounds
from djp.rest_check import public_services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp.mesh.settings import MeshSettings, TlsFiles

REST_PORT = 7180
CHECKS = "checks.sock"
"""In the bridge's folder, where Envoy asks whether a call is one."""
_DESCRIPTORS = Path(djp.v1.__file__).with_name("descriptors.binpb")
_OPENAPI = Path(djp.v1.__file__).with_name("openapi.json")
_IDLE_S = 120
"""Silence after which a stream is ended: a watched run says something at least every 30 s."""
_GRPC = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}  # gRPC-Web too
_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DJP Mesh API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null});</script>
</body>
</html>
"""
_TYPE = "type.googleapis.com/envoy.extensions"


class RestSettings(BaseSettings):
    """Where the bridge listens, whom browsers may call it for, and how long a body may be."""

    model_config = SettingsConfigDict(env_prefix="DJP_REST_", env_ignore_empty=True, populate_by_name=True)

    listen: str = Field(default=f"localhost:{REST_PORT}", pattern=r"^[^\s:/]+:[0-9]{1,5}$")
    cors_origins: str = ""
    """Origins of pages whose scripts may call, comma separated; `*` is all."""
    max_body_mib: int = Field(default=16, ge=1, le=1024)


def envoy_config(gateway: str, settings: RestSettings, mesh: MeshSettings, folder: Path) -> dict[str, Any]:
    """Envoy's static configuration; the files that it names are written to `folder`."""
    (folder / "docs.html").write_text(_PAGE)
    host, port = listen.split_host_port(settings.listen)
    chain: dict[str, Any] = {
        "filters": [_named("envoy.filters.network.http_connection_manager", _http(settings, folder))]
    }
    if mesh.tls:
        chain["transport_socket"] = _tls(mesh.tls, "DownstreamTlsContext", {"require_client_certificate": True})
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "rest",
                    "address": {"socket_address": {"address": _address(host), "port_value": port}},
                    "enable_reuse_port": False,  # two bridges on a port are a mistake, not a feature
                    "per_connection_buffer_limit_bytes": settings.max_body_mib << 20,
                    "filter_chains": [chain],
                }
            ],
            "clusters": [_cluster("gateway", gateway, mesh), _cluster("checks", f"unix:{folder / CHECKS}", mesh)],
        },
        "overload_manager": bounds(settings.max_body_mib << 20),
    }


def _http(settings: RestSettings, folder: Path) -> dict[str, Any]:
    vendored = find_spec("swagger_ui_bundle")
    if vendored is None or vendored.origin is None:
        raise FailedPrecondition("the REST bridge needs swagger-ui-bundle: pip install 'djp-workflow[rest]'")
    (swagger,) = (Path(vendored.origin).parent / "vendor").iterdir()
    pages = [
        ("/openapi.json", _OPENAPI, "application/json"),
        ("/docs", folder / "docs.html", "text/html; charset=utf-8"),
        *((f"/docs/{name}", swagger / name, kind) for name, kind in _ASSETS.items()),
    ]
    cors = {"allow_methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS"}
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    virtual_host: dict[str, Any] = {
        "name": "gateway",
        "domains": ["*"],
        "routes": [
            *(_page(path, file, kind) for path, file, kind in pages),
            # gRPC and gRPC-Web know the contract themselves, and their streams must not be held back to be checked.
            {"match": {"prefix": "/", "headers": [_GRPC]}, **_to_gateway(), **_unchecked()},
            # Streams go on for as long as somebody speaks; other calls end at the gateway's own deadlines.
            {"match": {"prefix": "/"}, **_to_gateway()},
        ],
    }
    if origins:
        virtual_host["typed_per_filter_config"] = {
            "envoy.filters.http.cors": {
                "@type": f"{_TYPE}.filters.http.cors.v3.CorsPolicy",
                "allow_origin_string_match": [
                    {"safe_regex": {"regex": ".*"}} if one == "*" else {"exact": one} for one in origins
                ],
                "allow_headers": "authorization, content-type, djp-tenant, x-grpc-web, grpc-timeout, x-user-agent",
                "expose_headers": "grpc-status, grpc-message, grpc-status-details-bin, retry-after",
                "max_age": "600",
                **cors,
            }
        }
    return {
        "stat_prefix": "rest",
        "codec_type": "AUTO",
        "stream_idle_timeout": f"{_IDLE_S}s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "normalize_path": True,
        "server_name": "djp",
        "route_config": {
            "name": "rest",
            "max_direct_response_body_size_bytes": 8 << 20,
            # Anybody may come in here, so the gateway believes nothing, also where it can be reached by its owner only.
            "request_headers_to_add": [_set(OUTSIDE_KEY, "1")],
            "virtual_hosts": [virtual_host],
        },
        "local_reply_config": own_answers(),
        "http_filters": [
            _named("envoy.filters.http.cors"),
            _named("envoy.filters.http.grpc_web"),
            _named("envoy.filters.http.ext_authz", _checked(settings)),
            _named("envoy.filters.http.grpc_json_transcoder", _transcoder(settings)),
            _named("envoy.filters.http.router"),
        ],
    }


def _to_gateway() -> dict[str, Any]:
    # What a gateway cannot have heard of is asked again, of another one if there is one; all else is for the caller to
    # decide, who knows whether the call may be made twice.
    again = {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 4,
        "retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{_TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    return {
        "route": {"cluster": "gateway", "timeout": "0s", "idle_timeout": f"{_IDLE_S}s", "retry_policy": again},
    }


def _unchecked() -> dict[str, Any]:
    disabled = {"@type": f"{_TYPE}.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
    return {"typed_per_filter_config": {"envoy.filters.http.ext_authz": disabled}}


def _checked(settings: RestSettings) -> dict[str, Any]:
    """Every call is asked about, with its whole body; without an answer it is refused."""
    return {
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "checks"}, "timeout": "10s"},
        "with_request_body": {
            "max_request_bytes": settings.max_body_mib << 20,
            "allow_partial_message": False,
            "pack_as_bytes": True,
        },
        "status_on_error": {"code": "ServiceUnavailable"},
    }


def _transcoder(settings: RestSettings) -> dict[str, Any]:
    return {
        "proto_descriptor": str(_DESCRIPTORS),
        "services": [service.full_name for service in public_services()],
        "convert_grpc_status": True,
        "max_request_body_size": settings.max_body_mib << 20,
        "request_validation_options": {"reject_unknown_method": False, "reject_unknown_query_parameters": True},
        "print_options": {
            "always_print_primitive_fields": True,
            "preserve_proto_field_names": False,
            "stream_newline_delimited": True,
            "stream_sse_style_delimited": True,
        },
    }


def _named(name: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An extension of Envoy's. The type of its configuration follows from its name."""
    kind, _, short = name.removeprefix("envoy.filters.").partition(".")
    message = {"http_connection_manager": "HttpConnectionManager", "grpc_json_transcoder": "GrpcJsonTranscoder"}.get(
        short, "".join(part.title() for part in short.split("_"))
    )
    return {"name": name, "typed_config": {"@type": f"{_TYPE}.filters.{kind}.{short}.v3.{message}", **(config or {})}}


def _page(path: str, file: Path, kind: str) -> dict[str, Any]:
    return {
        **_unchecked(),
        "match": {"path": path},
        "direct_response": {"status": 200, "body": {"filename": str(file)}},
        "response_headers_to_add": [_set("content-type", kind)],
    }


def _set(header: str, value: str) -> dict[str, Any]:
    return {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _cluster(name: str, target: str, mesh: MeshSettings) -> dict[str, Any]:
    if target.startswith("unix:"):
        address: dict[str, Any] = {"pipe": {"path": target.removeprefix("unix:").removeprefix("//")}}
        kind = "STATIC"
    else:
        host, port = listen.split_host_port(target)
        address = {"socket_address": {"address": _address(host), "port_value": port}}
        kind = "STRICT_DNS"
    cluster: dict[str, Any] = {
        "name": name,
        "type": kind,
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
                },
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if mesh.tls and kind == "STRICT_DNS":
        cluster["transport_socket"] = _tls(mesh.tls, "UpstreamTlsContext", {"sni": host})
    return cluster


def _tls(files: TlsFiles, context: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """Mutual TLS with the mesh's own files: who may call the gateway may call the bridge, and nobody else."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}.transport_sockets.tls.v3.{context}",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],  # without `h2` no gRPC client comes in
                "tls_certificates": [
                    {"certificate_chain": {"filename": str(files.cert)}, "private_key": {"filename": str(files.key)}}
                ],
                "validation_context": {"trusted_ca": {"filename": str(files.ca)}},
            },
            **more,
        },
    }


def _address(host: str) -> str:
    return {"localhost": "127.0.0.1"}.get(host, host)
