"""The OpenAPI document: what each path takes and gives, with bodies that the framework does not read itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from edge_runtime.serve.live_wire import TargetBody
from edge_runtime.serve.wire import DepthBody, ErrorReply, QueryBody, ReferBody

_TEMPLATE = "#/components/schemas/{model}"
_BINARY = {"type": "string", "format": "binary"}
_REFUSALS = {
    400: "What was sent cannot be read or asked.",
    401: "No token, or a wrong one.",
    403: "A page of another site, or a foreign host name.",
    404: "This server has no camera.",
    408: "The request did not arrive in time.",
    413: "More than the limits admit.",
    415: "A content type or encoding that is not taken.",
    429: "The house is full; see Retry-After.",
    500: "The model failed.",
    503: "No model to ask, or no frames from the camera.",
    504: "No answer before the deadline.",
}
_OF_QUESTIONS = tuple(status for status in _REFUSALS if status != 404)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: how it may refuse."""
    return {status: {"model": ErrorReply, "description": _REFUSALS[status]} for status in statuses or _OF_QUESTIONS}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads JSON."""
    reference = {"$ref": _TEMPLATE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def json_or_form_body(model: type[BaseModel], *, files: dict[str, bool]) -> dict[str, Any]:
    """The same for a route that also reads forms.

    Args:
        model: The JSON body.
        files: Names of the fields that are files in the form, and whether several may come.
    """
    extra = json_body(model)
    schema = model.model_json_schema(ref_template=_TEMPLATE)
    properties = {name: _form_field(field) for name, field in schema["properties"].items()}
    properties |= {name: {"type": "array", "items": _BINARY} if many else _BINARY for name, many in files.items()}
    form = {"type": "object", "properties": properties, "required": schema["required"], "additionalProperties": False}
    extra["requestBody"]["content"]["multipart/form-data"] = {"schema": form}
    return extra


def query(**parameters: dict[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its query: a schema each; those without a default must be given."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": "default" not in schema, "schema": schema}
            for name, schema in parameters.items()
        ]
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (QueryBody, ReferBody, DepthBody, TargetBody):
            schema = model.model_json_schema(ref_template=_TEMPLATE)
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic"},
        }
        document["security"] = [{}, {"bearer": []}, {"basic": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _form_field(field: dict[str, Any]) -> dict[str, Any]:
    """In a form, what is an object or a list in JSON is JSON in a text field."""
    kinds = {field.get("type"), *(choice.get("type") for choice in field.get("anyOf", []))}
    if "$ref" in field or any("$ref" in choice for choice in field.get("anyOf", [])) or "array" in kinds:
        return {"type": "string", "contentMediaType": "application/json"}
    return field
