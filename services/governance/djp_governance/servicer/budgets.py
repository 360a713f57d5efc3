"""The RPCs of budgets: what the limits are, what is in their windows, and limits set at run time."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, NotFound, PermissionDenied
from djp.mesh.identity import current_identity
from djp.mesh.paging import page_token, read_page_token
from djp.money import format_usd
from djp.v1 import governance_pb2
from djp_governance.events import NewEvent, tenant_of
from djp_governance.limits import Budget, check_scope
from djp_governance.parts import is_operator
from djp_governance.servicer.wire import PAGE_SIZE, clean, request_key, to_window
from djp_governance.windows import day_of, windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from djp_governance.events import Kind
    from djp_governance.parts import Parts


class BudgetRpcs:
    """Serves the calling tenant's budget and the global one, and operators all of them."""

    _parts: Parts

    async def GetBudget(
        self,
        request: governance_pb2.GetBudgetRequest,
        context: grpc.aio.ServicerContext[governance_pb2.GetBudgetRequest, governance_pb2.GetBudgetResponse],
    ) -> governance_pb2.GetBudgetResponse:
        """A budget with its windows now."""
        tenant = current_identity().tenant
        scope = f"tenant:{tenant}" if request.scope == "tenant" else request.scope
        if is_operator():
            scope = check_scope(scope, tenant)
        elif scope not in ("global", f"tenant:{tenant}"):
            raise NotFound(
                f"scope: there is no budget {scope[:80]!r} that this tenant may see; ask for global or tenant",
                field="scope",
            )
        return governance_pb2.GetBudgetResponse(budget=(await self._budgets([scope]))[0])

    async def ListBudgets(
        self,
        request: governance_pb2.ListBudgetsRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ListBudgetsRequest, governance_pb2.ListBudgetsResponse],
    ) -> governance_pb2.ListBudgetsResponse:
        """By scope: the global budget and the calling tenant's; for operators all that are named or in use."""
        size, (after,) = request.page_size or PAGE_SIZE, read_page_token(request.page_token, str) or ("",)
        names = {"global", f"tenant:{current_identity().tenant}"}
        if is_operator():
            month = day_of(self._parts.now(), self._parts.zone).replace(day=1)
            names |= {*self._parts.limits.named, *await self._parts.budgets.scopes(month, clean(after), size + 1)}
        scopes = sorted(scope for scope in names if scope > after)
        more = page_token(scopes[size - 1]) if len(scopes) > size else ""
        return governance_pb2.ListBudgetsResponse(budgets=await self._budgets(scopes[:size]), next_page_token=more)

    async def SetBudget(
        self,
        request: governance_pb2.SetBudgetRequest,
        context: grpc.aio.ServicerContext[governance_pb2.SetBudgetRequest, governance_pb2.SetBudgetResponse],
    ) -> governance_pb2.SetBudgetResponse:
        """Sets all four limits of a scope; one that is left out is none."""
        scope = self._may_change(request.scope)
        for field in ("scope", "origin", "windows"):
            if getattr(request.budget, field) and (field != "scope" or request.budget.scope != scope):
                raise InvalidInput(f"budget.{field}: only answers have it; leave it out", field=f"budget.{field}")
        budget = Budget(
            daily=request.budget.daily_nano_usd if request.budget.HasField("daily_nano_usd") else None,
            monthly=request.budget.monthly_nano_usd if request.budget.HasField("monthly_nano_usd") else None,
            daily_tokens=request.budget.daily_tokens if request.budget.HasField("daily_tokens") else None,
            monthly_tokens=request.budget.monthly_tokens if request.budget.HasField("monthly_tokens") else None,
            origin="set",
        )
        event = self._event("budget_set", scope, f"{scope} {_shown(budget)}", request.reason)
        done = await self._parts.budgets.set(request_key(request), scope, budget, event, self._parts.now())
        return governance_pb2.SetBudgetResponse(budget=_to_budget(scope, done))

    async def DeleteBudget(
        self,
        request: governance_pb2.DeleteBudgetRequest,
        context: grpc.aio.ServicerContext[governance_pb2.DeleteBudgetRequest, governance_pb2.DeleteBudgetResponse],
    ) -> governance_pb2.DeleteBudgetResponse:
        """Takes back what was set."""
        scope = self._may_change(request.scope)
        told = f"{scope} has its configured limits again"
        event = self._event("budget_deleted", scope, told, request.reason)
        await self._parts.budgets.delete(request_key(request), scope, event, self._parts.now())
        return governance_pb2.DeleteBudgetResponse()

    def _may_change(self, scope: str) -> str:
        if not is_operator():
            raise PermissionDenied("only an operator sets budgets: a tenant may not raise its own; ask one")
        return check_scope(scope, current_identity().tenant)

    def _event(self, kind: Kind, scope: str, told: str, why: str) -> NewEvent:
        who = current_identity()
        return NewEvent(
            kind=kind,
            at=self._parts.now(),
            key=f"{kind}|{uuid.uuid4()}",
            scope=scope,
            message=f"{told}; {clean(why)}" if why else told,
            tenant=tenant_of(scope),
            actor=f"{who.role} of {who.tenant}",
        )

    async def _budgets(self, scopes: Sequence[str]) -> list[governance_pb2.Budget]:
        parts, limits = self._parts, self._parts.limits
        keys = windows_of(scopes, day_of(parts.now(), parts.zone), parts.zone)
        found, was_set = await parts.budgets.windows(keys, limits)
        budgets = []
        for scope in scopes:
            budget = _to_budget(scope, was_set.get(scope) or limits.of(scope))
            budget.windows.extend(to_window(one) for one in found if one.key.scope == scope)
            budgets.append(budget)
        return budgets


def _to_budget(scope: str, budget: Budget) -> governance_pb2.Budget:
    return governance_pb2.Budget(
        scope=scope,
        daily_nano_usd=budget.daily,
        monthly_nano_usd=budget.monthly,
        daily_tokens=budget.daily_tokens,
        monthly_tokens=budget.monthly_tokens,
        origin=budget.origin,
    )


def _shown(budget: Budget) -> str:
    dollars = ((budget.daily, "day"), (budget.monthly, "month"))
    tokens = ((budget.daily_tokens, "day"), (budget.monthly_tokens, "month"))
    told = [f"{format_usd(amount)} a {per}" for amount, per in dollars if amount is not None]
    told += [f"{amount:,} tokens a {per}" for amount, per in tokens if amount is not None]
    return "is limited to " + ", ".join(told) if told else "has no limit"
