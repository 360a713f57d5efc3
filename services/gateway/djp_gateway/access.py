"""Who may call what: for every public RPC the least role that may, all in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.mesh.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp.mesh.identity import Identity

_RISING = ("reader", "tenant", "operator", "admin")
"""Each may do all that those before it may."""

_ALLOWED: Mapping[str, Mapping[str, str]] = {
    # Looks at its tenant's things, and tries out what stores nothing and costs nothing.
    "reader": {
        "RunService": "GetRun ListRuns WatchRun ProjectRun",
        "BatchService": "GetBatch ListBatches ListBatchRows WatchBatch",
        "CatalogueService": "ListPresets ListPolicies ListTemplates GetTemplate RenderTemplate",
        "DeadLetterService": "ListDeadLetters GetDeadLetter",
        "DebateService": "ListModels",
        "GovernanceService": "GetBudget ListBudgets Report ListEvents WatchEvents ListAnomalies",
        "GroundingService": "ListCorpora GetCorpus ListCorpusVersions Search VerifyCitations",
        "KeyService": "GetCaller",
        "RedactionService": "Redact RedactStream ListRules ValidateRules",
        "StorageService": "GetArtifact StatArtifact ListArtifacts GetStorageStats GetLifecycleStatus ListStorageEvents",
    },
    # Spends its tenant's money, decides about its runs, and changes what it has.
    "tenant": {
        "RunService": "StartRun CancelRun ReplayRun ApproveRun RejectRun",
        "BatchService": "StartBatch PauseBatch ResumeBatch CancelBatch",
        "DeadLetterService": "ReplayDeadLetters PurgeDeadLetters",
        "GroundingService": "CreateCorpus ImportCorpus RollbackCorpus DeleteCorpus",
        "KeyService": "ListAuditEvents",
        "StorageService": "PutArtifact RestoreArtifact PurgeArtifact UndeleteArtifact SetLegalHold RunLifecycle "
        "ExportTenant ImportTenant",
    },
    # Acts for any tenant, says what each may spend, and looks after the deployment.
    "operator": {
        "GovernanceService": "SetBudget DeleteBudget",
        "ScalingService": "GetScaling",  # it tells how much there is to do for all tenants
        "StorageService": "Reconcile",
    },
    # Says who may call at all.
    "admin": {"KeyService": "CreateKey ListKeys RevokeKey"},
}

_REMEDY = {
    "tenant": "this caller may only look: use a key of the role tenant",
    "operator": "use an operator's key, or the command line where the mesh's databases are",
    "admin": "use an admin's key, or `djp keys` where the gateway's database is",
}

LEAST_ROLE: Mapping[str, str] = {
    f"/djp.v1.{service}/{method}": role
    for role, services in _ALLOWED.items()
    for service, methods in services.items()
    for method in methods.split()
}
"""By method, as in `/package.Service/Method`."""


_OPEN = {"/djp.v1.ScalingService/GetScaling"}
"""Where nobody has to show a key all callers are one tenant, so it is told nothing of others."""


def authorize(method: str, identity: Identity, *, guarded: bool = True) -> None:
    """Let a call pass whose caller's role reaches; a method that is not in the table is for admins.

    Not `guarded`: nobody has to show a key.

    Raises:
        PermissionDenied: it does not.
    """
    if not guarded and method in _OPEN:
        return
    least = LEAST_ROLE.get(method, "admin")
    if _RISING.index(identity.role) < _RISING.index(least):
        raise PermissionDenied(f"{method.rpartition('/')[2]} is for the role {least} and above; {_REMEDY[least]}")
