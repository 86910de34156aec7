"""Calico's policy language: selectors, tiers, rules; compile, judge, explain. Pure, no I/O."""

from tierflow.policy.compile import ALLOW, DENY, NO_TRACE, NOT_JUDGED, Judgement, PolicySet, compile_policies
from tierflow.policy.document import Problem
from tierflow.policy.enforce import EndpointPlan, ResolvedRule, ResolvedSide, ResolvedTier, enforcement_plan
from tierflow.policy.model import (
    EGRESS,
    INGRESS,
    Endpoint,
    EntityRule,
    HostEndpoint,
    Icmp,
    NetworkSet,
    Policy,
    PortRange,
    Profile,
    Resources,
    Rule,
    Service,
    ServiceName,
    Tier,
)
from tierflow.policy.order import OrderedTier, ordered_tiers
from tierflow.policy.resources import parse_documents
from tierflow.policy.scalar import Flow, ScalarJudge, Side, Verdict, judge_flow
from tierflow.policy.selector import SelectorError, parse_selector
from tierflow.policy.trace import Hit, PolicyRef, Trace, TraceEntry, parse_trace_entry

__all__ = [
    "ALLOW",
    "DENY",
    "EGRESS",
    "INGRESS",
    "NOT_JUDGED",
    "NO_TRACE",
    "Endpoint",
    "EndpointPlan",
    "EntityRule",
    "Flow",
    "Hit",
    "HostEndpoint",
    "Icmp",
    "Judgement",
    "NetworkSet",
    "OrderedTier",
    "Policy",
    "PolicyRef",
    "PolicySet",
    "PortRange",
    "Problem",
    "Profile",
    "ResolvedRule",
    "ResolvedSide",
    "ResolvedTier",
    "Resources",
    "Rule",
    "ScalarJudge",
    "SelectorError",
    "Service",
    "ServiceName",
    "Side",
    "Tier",
    "Trace",
    "TraceEntry",
    "Verdict",
    "compile_policies",
    "enforcement_plan",
    "judge_flow",
    "ordered_tiers",
    "parse_documents",
    "parse_selector",
    "parse_trace_entry",
]
