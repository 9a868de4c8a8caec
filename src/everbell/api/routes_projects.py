"""Projects and credentials."""

from __future__ import annotations

import hashlib

import msgspec
from starlette.responses import Response

from everbell.api import views
from everbell.api.bodies import convert, decode
from everbell.api.call import (
    PAGED,
    Call,
    Endpoint,
    answer,
    encode,
    listing,
    no_content,
    raw_answer,
    tag_of,
)
from everbell.api.schemas import (
    CredentialIn,
    CredentialOut,
    ProjectIn,
    ProjectOut,
    ProjectPatch,
    RotateIn,
)
from everbell.api.times import TIME_HINT, parse_iso
from everbell.domain.errors import ConflictError, FieldProblem, NotFoundError, ValidationError
from everbell.domain.job import US
from everbell.domain.records import Credential, Project
from everbell.services import credentials, idempotency, projects
from everbell.services.context import VersionMismatch

REPLAYED = {"idempotent-replayed": "true"}
YEAR_S = 366 * 86_400


async def create_project(call: Call) -> Response:
    """Store a project; repeatable under an Idempotency-Key."""
    raw = await call.raw()
    given = convert(decode(raw, call.request.headers.get("content-type")), ProjectIn)
    plan = await idempotency.plan(call.services, call.actor, call.asked("POST /projects"), raw)
    earlier = await idempotency.answered(call.services, plan)
    if earlier is not None:
        return raw_answer(earlier, 201, REPLAYED)
    made, again = await _make(call, given, plan)
    body = encode(views.project(made))
    await idempotency.record(call.services, plan, body)
    headers = {"location": f"/api/v1/projects/{made.id}"}
    return raw_answer(body, 201, {**headers, **(REPLAYED if again else {})})


async def _make(call: Call, given: ProjectIn, plan: idempotency.Plan) -> tuple[Project, bool]:
    """Return the project, and whether an earlier request with this plan made it."""
    try:
        made = await projects.create(
            call.services, call.actor, given.name, given.description, plan.uuids[0]
        )
    except ConflictError:
        if not plan.key:
            raise
        try:
            return await projects.get(call.services, call.actor, plan.uuids[0]), True
        except NotFoundError:
            pass
        raise
    return made, False


async def list_projects(call: Call) -> Response:
    """List projects in order of id."""
    page = call.page()
    found, total = await projects.list_all(call.services, call.actor, page)
    return listing([views.project(one) for one in found], page, total)


async def get_project(call: Call) -> Response:
    """Show a project."""
    return _shown(await projects.get(call.services, call.actor, call.key), call)


async def put_project(call: Call) -> Response:
    """Replace name and description."""
    given = await call.body(ProjectIn)
    changed = await projects.change(
        call.services,
        call.actor,
        call.key,
        name=given.name,
        description=given.description,
        expected_us=await _expected(call),
    )
    return _shown(changed, call)


async def patch_project(call: Call) -> Response:
    """Change name or description."""
    given = await call.body(ProjectPatch)
    changed = await projects.change(
        call.services,
        call.actor,
        call.key,
        name=given.name,
        description=given.description,
        expected_us=await _expected(call),
    )
    return _shown(changed, call)


async def delete_project(call: Call) -> Response:
    """Delete an empty project."""
    await projects.delete(call.services, call.actor, call.key, await _expected(call))
    return no_content()


def _shown(it: Project, _: Call) -> Response:
    return answer(views.project(it), headers={"etag": _tag(it)})


def _tag(it: Project) -> str:
    return '"' + hashlib.sha256(msgspec.json.encode(it)).hexdigest()[:16] + '"'


async def _expected(call: Call) -> int | None:
    """Return when the project that If-Match names was changed last. Raises VersionMismatch."""
    tag = tag_of(call.request)
    if tag is None:
        return None
    it = await projects.get(call.services, call.actor, call.key)
    if f'"{tag}"' != _tag(it):
        raise VersionMismatch(
            f"project {it.id} is not what it was", hint="read it again, then repeat the change"
        )
    return it.updated_us


async def create_credential(call: Call) -> Response:
    """Make a credential; the secret is in this answer and nowhere else."""
    given = await call.body(CredentialIn, optional=True)
    made, secret = await credentials.create(
        call.services,
        call.actor,
        name=given.name,
        scopes=given.scopes,
        project=given.project,
        expires_us=_expiry(call, given),
    )
    headers = {"location": f"/api/v1/credentials/{made.id}"}
    return answer(views.credential(made, secret), 201, headers)


def _expiry(call: Call, given: CredentialIn) -> int | None:
    if given.expires_at is not None and given.expires_in is not None:
        problem = FieldProblem("/expires_in", "says the same as expires_at", hint="give one")
        raise ValidationError("the expiry is given twice", problems=(problem,))
    if given.expires_in is not None:
        if not 0 < given.expires_in <= 100 * YEAR_S:
            problem = FieldProblem("/expires_in", "is out of range", hint="seconds, more than 0")
            raise ValidationError("the expiry can't be used", problems=(problem,))
        return call.services.clock.now_us() + int(given.expires_in * US)
    if given.expires_at is None:
        return None
    try:
        return parse_iso(given.expires_at)
    except ValueError as error:
        problem = FieldProblem("/expires_at", str(error), hint=TIME_HINT)
        raise ValidationError("the expiry can't be read", problems=(problem,)) from None


async def list_credentials(call: Call) -> Response:
    """List credentials, without secrets."""
    page = call.page()
    found, total = await credentials.list_all(call.services, call.actor, page)
    return listing([views.credential(one) for one in found], page, total)


async def get_credential(call: Call) -> Response:
    """Show a credential, without its secret."""
    return _credential(await credentials.get(call.services, call.actor, call.key))


async def revoke_credential(call: Call) -> Response:
    """Revoke a credential for good."""
    await credentials.revoke(call.services, call.actor, call.key)
    return no_content()


async def rotate_credential(call: Call) -> Response:
    """Give a credential a new secret; the old one stays good for the grace time."""
    given = await call.body(RotateIn, optional=True)
    it, secret = await credentials.rotate(call.services, call.actor, call.key, given.grace)
    return answer(views.credential(it, secret))


def _credential(it: Credential) -> Response:
    return answer(views.credential(it))


PROJECT_ROUTES = (
    Endpoint(
        method="POST",
        path="/projects",
        name="projects_create",
        summary="Create a project",
        handler=create_project,
        scope="write",
        body=ProjectIn,
        answer=ProjectOut,
        status=201,
        errors=(409, 422),
        headers=("idempotency-key",),
    ),
    Endpoint(
        method="GET",
        path="/projects",
        name="projects_list",
        summary="List projects",
        handler=list_projects,
        scope="read",
        query=PAGED,
        answer=ProjectOut,
        many=True,
    ),
    Endpoint(
        method="GET",
        path="/projects/{id}",
        name="projects_get",
        summary="Show a project",
        handler=get_project,
        scope="read",
        answer=ProjectOut,
        errors=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/projects/{id}",
        name="projects_replace",
        summary="Replace a project",
        handler=put_project,
        scope="write",
        body=ProjectIn,
        answer=ProjectOut,
        errors=(404, 409, 412, 422),
        headers=("if-match",),
    ),
    Endpoint(
        method="PATCH",
        path="/projects/{id}",
        name="projects_change",
        summary="Change a project",
        handler=patch_project,
        scope="write",
        body=ProjectPatch,
        answer=ProjectOut,
        errors=(404, 409, 412, 422),
        headers=("if-match",),
    ),
    Endpoint(
        method="DELETE",
        path="/projects/{id}",
        name="projects_delete",
        summary="Delete an empty project",
        handler=delete_project,
        scope="write",
        status=204,
        errors=(404, 409, 412),
        headers=("if-match",),
    ),
)
CREDENTIAL_ROUTES = (
    Endpoint(
        method="POST",
        path="/credentials",
        name="credentials_create",
        summary="Make a credential (the secret is shown once)",
        handler=create_credential,
        scope="admin",
        body=CredentialIn,
        body_optional=True,
        answer=CredentialOut,
        status=201,
        errors=(404, 422),
    ),
    Endpoint(
        method="GET",
        path="/credentials",
        name="credentials_list",
        summary="List credentials",
        handler=list_credentials,
        scope="admin",
        query=PAGED,
        answer=CredentialOut,
        many=True,
    ),
    Endpoint(
        method="GET",
        path="/credentials/{id}",
        name="credentials_get",
        summary="Show a credential",
        handler=get_credential,
        scope="admin",
        answer=CredentialOut,
        errors=(404,),
    ),
    Endpoint(
        method="DELETE",
        path="/credentials/{id}",
        name="credentials_revoke",
        summary="Revoke a credential",
        handler=revoke_credential,
        scope="admin",
        status=204,
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/credentials/{id}/rotate",
        name="credentials_rotate",
        summary="Give a credential a new secret",
        handler=rotate_credential,
        scope="admin",
        body=RotateIn,
        body_optional=True,
        answer=CredentialOut,
        errors=(404, 409, 422),
    ),
)
