"""Rows and state tables; no input or output beyond the database."""

from __future__ import annotations

from agents.models.accounts import HostAccount, User
from agents.models.agents import LIVE_STATES, Agent, AgentStatus, SidecarKind
from agents.models.audit import AuditEvent
from agents.models.classes import AgentClass
from agents.models.grants import MountGrant
from agents.models.invitations import Invitation
from agents.models.operations import (
    OPEN_STATES,
    Operation,
    OperationKind,
    OperationLog,
    OperationState,
    OperationStep,
)
from agents.models.states import AgentState, StateSnapshot

__all__ = [
    "LIVE_STATES",
    "OPEN_STATES",
    "Agent",
    "AgentClass",
    "AgentState",
    "AgentStatus",
    "AuditEvent",
    "HostAccount",
    "Invitation",
    "MountGrant",
    "Operation",
    "OperationKind",
    "OperationLog",
    "OperationState",
    "OperationStep",
    "SidecarKind",
    "StateSnapshot",
    "User",
]
