"""OpenAPI 3.1, generated from the route table and the typed shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from everbell import __version__
from everbell.api import openapi_shapes
from everbell.api.call import Endpoint, Param
from everbell.api.schemas import PageOut, Problem

_REASONS = {
    400: "The request can't be read",
    401: "No credential, or a wrong, revoked or expired one",
    403: "The credential's scopes do not allow this",
    404: "No such thing, or not one that this credential may see",
    405: "The method does not fit this address",
    408: "The body was not whole in time",
    409: "The name is taken, or the state forbids it",
    412: "The version is not the one given in If-Match",
    413: "Larger than allowed",
    415: "The body is not declared as JSON",
    422: "Fields are wrong; errors names each",
    429: "Too many requests with this key; Retry-After tells when",
    431: "Headers and address are too long",
    500: "Something broke inside",
    503: "The store or the engine can't work now; try again",
}
_HEADERS = {
    "idempotency-key": "The same key and body again do nothing twice and give the same answer.",
    "if-match": "The ETag of the last answer; 412 if somebody else was faster.",
    "last-event-id": "The id of the last event received: attempt, dash, byte offset.",
}
_LOGIN: list[dict[str, list[str]]] = [
    {"apiKey": [], "secretKey": []},
    {"bearer": []},
    {"basic": []},
]


def document(endpoints: Sequence[Endpoint]) -> bytes:
    """Return the description as JSON, indented, in a stable order."""
    types = _types(endpoints)
    schemas, components = msgspec.json.schema_components(types, ref_template=openapi_shapes.REF)
    shapes = dict(zip(map(_type_key, types), schemas, strict=True))
    openapi_shapes.complete(components)
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, shapes)
    spec = {
        "openapi": "3.1.0",
        "info": {
            "title": "Everbell",
            "version": __version__,
            "description": "A distributed cron server. All paths are also served under /v1 and /.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(_tag(one) for one in endpoints)],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _schemes()},
    }
    return (json.dumps(spec, indent=2, ensure_ascii=False) + "\n").encode()


def _types(endpoints: Sequence[Endpoint]) -> list[Any]:
    types: list[Any] = [Problem, PageOut]
    for one in endpoints:
        types += [kind for kind in (one.body, one.answer) if kind is not None]
    unique = {_type_key(kind): kind for kind in types}
    return list(unique.values())


def _type_key(kind: Any) -> str:
    return repr(kind)


def _tag(one: Endpoint) -> str:
    return one.name.partition("_")[0]


def _operation(one: Endpoint, shapes: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": one.name,
        "tags": [_tag(one)],
        "summary": one.summary,
        "description": (one.handler.__doc__ or "").strip(),
        "parameters": _parameters(one),
        "responses": _responses(one, shapes),
        "security": [] if one.scope is None else _LOGIN,
    }
    if one.scope is not None:
        operation["x-scope"] = one.scope
    if one.body is not None:
        operation["requestBody"] = {
            "required": not one.body_optional,
            "content": _contents(one, shapes),
        }
    return operation


def _contents(one: Endpoint, shapes: dict[str, Any]) -> dict[str, Any]:
    found = {"application/json": {"schema": _body(one, shapes)}}
    if one.name == "jobs_create":
        found["application/x-www-form-urlencoded"] = {"schema": openapi_shapes.job_form()}
    return found


def _body(one: Endpoint, shapes: dict[str, Any]) -> Any:
    special = {
        "jobs_create": openapi_shapes.jobs_body,
        "jobs_replace": openapi_shapes.job_bodies,
        "jobs_change": openapi_shapes.patch_body,
    }.get(one.name)
    return special() if special else shapes[_type_key(one.body)]


def _query(param: Param) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": param.name,
        "in": "query",
        "schema": param.schema,
        "description": param.meaning,
    }
    if param.required:
        found["required"] = True
    if param.schema.get("type") == "array":
        # Words separated by commas.
        found |= {"style": "form", "explode": False}
    return found


def _parameters(one: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": one.key.schema,
            "description": one.key.meaning,
        }
        for name in re.findall(r"{(\w+)}", one.path)
    ]
    found += [_query(param) for param in one.query]
    found += [
        {
            "name": name,
            "in": "header",
            "schema": openapi_shapes.HEADER_SHAPES[name],
            "description": _HEADERS[name],
        }
        for name in one.headers
    ]
    return found


def _responses(one: Endpoint, shapes: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if one.status != 204:
        good["content"] = {one.media: {"schema": _good_schema(one, shapes)}}
        if one.media == "text/plain":
            good["content"]["text/event-stream"] = {"schema": openapi_shapes.EVENT}
    codes = {*one.errors, 400, 431, 500, 503}
    if one.scope is not None:
        codes |= {401, 403, 429}
    if one.body is not None:
        codes |= {408, 413, 415, 422}
    problem = {"application/problem+json": {"schema": shapes[_type_key(Problem)]}}
    bad = {str(code): {"description": _REASONS[code], "content": problem} for code in sorted(codes)}
    return {str(one.status): good, **bad}


def _good_schema(one: Endpoint, shapes: dict[str, Any]) -> dict[str, Any]:
    if one.media != "application/json":
        return {"type": "string"}
    if one.name == "openapi":
        return {"type": "object"}
    data = shapes[_type_key(one.answer)]
    properties: dict[str, Any] = {
        "data": {"type": "array", "items": data} if one.many else data,
        "success": {"const": True},
    }
    if one.many:
        properties["page"] = shapes[_type_key(PageOut)]
    return {"type": "object", "required": ["data", "success"], "properties": properties}


def _schemes() -> dict[str, Any]:
    bearer = "The text <api_key>:<secret>."
    return {
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "secretKey": {"type": "apiKey", "in": "header", "name": "x-secret-key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": bearer},
        "basic": {"type": "http", "scheme": "basic"},
    }
