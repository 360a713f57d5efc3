"""The gateway's RPCs about what a run may name: presets, policies, templates."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.struct_pb2 import Value as ProtoValue

from djp.mesh.identity import current_identity
from djp.v1 import catalogue_pb2, catalogue_pb2_grpc
from djp_gateway.templates.inputs import example

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

    from djp_gateway.catalogue import Catalogue
    from djp_gateway.templates.library import Shelf
    from djp_gateway.templates.making import Templates
    from djp_gateway.templates.model import Input, Template

    Context = grpc.aio.ServicerContext[Any, Any]


class CatalogueServicer(catalogue_pb2_grpc.CatalogueServiceServicer):
    """Shows what a run may name."""

    def __init__(self, catalogue: Catalogue, templates: Templates) -> None:
        self._catalogue = catalogue
        self._templates = templates

    async def ListPresets(
        self, request: catalogue_pb2.ListPresetsRequest, context: Context
    ) -> catalogue_pb2.ListPresetsResponse:
        return catalogue_pb2.ListPresetsResponse(
            presets=[
                catalogue_pb2.Preset(name=name, description=document.get("description", ""), document=_struct(document))
                for name, document in self._catalogue.presets.items()
            ]
        )

    async def ListPolicies(
        self, request: catalogue_pb2.ListPoliciesRequest, context: Context
    ) -> catalogue_pb2.ListPoliciesResponse:
        return catalogue_pb2.ListPoliciesResponse(
            policies=[
                catalogue_pb2.Policy(name=name, description=document.get("description", ""), document=_struct(document))
                for name, document in self._catalogue.policies.items()
            ]
        )

    async def ListTemplates(
        self, request: catalogue_pb2.ListTemplatesRequest, context: Context
    ) -> catalogue_pb2.ListTemplatesResponse:
        return templates_message(await self._templates.shelf(current_identity().tenant))

    async def GetTemplate(
        self, request: catalogue_pb2.GetTemplateRequest, context: Context
    ) -> catalogue_pb2.GetTemplateResponse:
        shelf = await self._templates.shelf(current_identity().tenant)
        return catalogue_pb2.GetTemplateResponse(template=template_message(shelf.template(request.name, field="name")))

    async def RenderTemplate(
        self, request: catalogue_pb2.RenderTemplateRequest, context: Context
    ) -> catalogue_pb2.RenderTemplateResponse:
        given = MessageToDict(request.inputs)
        made = await self._templates.make(current_identity().tenant, request.name, given, ("name", "inputs"))
        return catalogue_pb2.RenderTemplateResponse(text=made.task)


def templates_message(shelf: Shelf) -> catalogue_pb2.ListTemplatesResponse:
    """Templates and problems, as they are told."""
    return catalogue_pb2.ListTemplatesResponse(
        templates=[template_message(template) for template in shelf.templates.values()],
        problems=[
            catalogue_pb2.TemplateProblem(
                path=PurePath(problem.path).name, line=problem.line, field=problem.field, message=problem.message
            )
            for problem in shelf.problems
        ],
    )


def template_message(template: Template) -> catalogue_pb2.Template:
    """A template, as it is told."""
    return catalogue_pb2.Template(
        name=template.name,
        title=template.title,
        version=template.version,
        description=template.description,
        context=template.context,
        inputs=[_input(one) for one in template.inputs],
        body=template.body,
        parameters=_struct(template.parameters),
        example=_struct(example(template)),
    )


def _input(one: Input) -> catalogue_pb2.TemplateInput:
    told = catalogue_pb2.TemplateInput(
        id=one.id,
        label=one.label,
        type=one.type,
        required=one.required,
        help=one.help,
        placeholder=one.placeholder,
        validators=_struct(one.validators),
    )
    if one.default is not None:
        told.default.CopyFrom(ParseDict(one.default, ProtoValue()))
    return told


def _struct(document: Mapping[str, Any]) -> Struct:
    return ParseDict(dict(document), Struct())
