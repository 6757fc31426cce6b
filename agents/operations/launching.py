"""Doing a launch: step after step, replayable, and with everything taken away again when one fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping

from django.db import transaction

from agents.engine.api import STATE_DIR
from agents.engine.errors import BrokerRefused, EngineError
from agents.engine.types import ContainerInfo, HostIdentity, LaunchSpec, Limits, MountRequest, Staging
from agents.models import Agent, AgentState, AgentStatus, MountGrant, Operation, OperationState, OperationStep, User
from agents.operations import audit, cleanup, policy, states
from agents.operations.engines import Engines
from agents.operations.environment import git_identity
from agents.operations.errors import Cancelled, Conflict, OperationError, Refused, Unavailable
from agents.operations.leases import MOST_ATTEMPTS, LeaseLost
from agents.operations.patience import Patience
from agents.operations.progress import Progress, explain, is_cancel, remedy_of
from agents.operations.streams import COLUMNS, ROWS, StreamSink
from agents.operations.transitions import move_agent, move_operation

logger = logging.getLogger(__name__)

ENTRYPOINT = "/jackin/entrypoint"
LAST_WORDS = 4000


def run_launch(
    operation: Operation, *, engines: Engines, streams: StreamSink, secrets: Mapping[str, str] | None
) -> None:
    """Work on a taken launch until it is RUNNING, failed or cancelled, and say so in the rows.

    No transaction is open during any call of engine or broker. Raises LeaseLost, nothing else that is expected.
    """
    launch = _Launch(operation, engines=engines, streams=streams, secrets=secrets)
    try:
        if operation.attempt > MOST_ATTEMPTS:
            raise Unavailable(f"The launch was begun {MOST_ATTEMPTS} times and never came to an end.")
        launch.run()
    except LeaseLost:
        raise
    except Exception as error:
        if not isinstance(error, OperationError | EngineError):
            logger.exception("operation %s: launch failed", operation.id.hex)
        launch.give_up(error)


class _Launch:
    def __init__(
        self, operation: Operation, *, engines: Engines, streams: StreamSink, secrets: Mapping[str, str] | None
    ) -> None:
        self.operation = operation
        self.streams = streams
        self.secrets = secrets
        self.progress = Progress(operation)
        self.patience = Patience(self.progress, in_place=engines.in_place)
        self.engines = self.patience.engines(engines)
        self.bare = engines  # their calls are waited for
        self.token = operation.id.hex  # names the staging and the containers of this operation

    def run(self) -> None:
        with self.progress.step("identity"):
            agent, owner, wanted = policy.checked_launch(self.operation)
            if self.operation.secrets_needed and self.secrets is None:
                raise Unavailable(
                    "The environment variables of this launch were lost when the runner restarted.",
                    remedy="Launch again: they are never stored.",
                )
            identity = self.engines.broker.identity(owner.get_username())
        container = self._admitted_before(agent) or self._make(agent, owner, wanted, identity)
        with self.progress.step("ready", last=True):
            self._commit(agent, self._still_running(container))

    def _make(
        self, agent: Agent, owner: User, wanted: tuple[MountRequest, ...], identity: HostIdentity
    ) -> ContainerInfo:
        if self.operation.attempt > 1:
            self.patience.tidy(self._removal())
        with self.progress.step("state"):
            state = policy.checked_state(self.operation)
            self.engines.broker.make_state(owner.get_username(), state.key)
        with self.progress.step("mounts"):
            staging = self._stage(agent, owner, wanted, identity)
        with self.progress.step("image"):
            folder = policy.builtin_folder(agent.agent_class)
            image = self.engines.image_for(
                folder, agent.runtime, log=self.progress.log, cancelled=self.progress.cancelled
            )
        with self.progress.step("network"):
            self.engines.broker.network_ready()
            network = f"jackin-{agent.key}"
            self.engines.engine.ensure_network(network, agent=agent.key, operation=self.token)
        with self.progress.step("container"):
            container = self._start(self._spec(agent, owner, identity, staging, image=image, network=network))
        with self.progress.step("verify"):
            self.engines.broker.admit(self.token, pid=container.pid, secrets=self.secrets or {})
            with transaction.atomic(durable=True):
                self._fence()
                states.mark_used(agent)
        return container

    def _admitted_before(self, agent: Agent) -> ContainerInfo | None:
        """The running container of an earlier attempt whose gate was opened; anything less is made anew."""
        if self.operation.attempt == 1 or not self.progress.succeeded("verify"):
            return None
        found = cleanup.container_of_operation(self.engines, key=agent.key, operation=self.token)
        return found if found is not None and found.status == "running" else None

    def _stage(self, agent: Agent, owner: User, wanted: tuple[MountRequest, ...], identity: HostIdentity) -> Staging:
        try:
            state = policy.checked_state(self.operation).key
            staging = self.engines.broker.stage(owner.get_username(), self.token, wanted, state=state)
        except BrokerRefused as refused:
            if refused.index is None or refused.index >= len(wanted):
                raise
            place = f"Mount {refused.index + 1} ({wanted[refused.index].source})"
            raise Refused(f"{place}: {refused.message}", remedy=refused.remedy) from refused
        policy.check_staged(wanted, staging.mounts)
        with transaction.atomic(durable=True):
            self._fence()
            MountGrant.objects.filter(agent=agent).delete()
            MountGrant.objects.bulk_create(
                MountGrant(
                    agent=agent,
                    position=position,
                    source_asked=one.source,
                    real_path=one.real_path,
                    device=one.device,
                    inode=str(one.inode),
                    destination=one.destination,
                    mode=one.mode,
                    granted_by=owner,
                    reason=f"asked for by its owner at launch, opened as {identity.account} ({identity.uid})",
                )
                for position, one in enumerate(staging.mounts)
            )
            audit.record(
                "mounts.grant",
                actor=owner,
                agent=agent,
                operation=self.operation,
                summary=", ".join(f"{one.real_path} → {one.destination} ({one.mode})" for one in staging.mounts),
            )
        return staging

    def _spec(
        self, agent: Agent, owner: User, identity: HostIdentity, staging: Staging, *, image: str, network: str
    ) -> LaunchSpec:
        name, email = git_identity(owner.get_full_name() or owner.get_username(), owner.email, identity.account)
        return LaunchSpec(
            name=agent.name,
            agent=agent.key,
            operation=self.token,
            image=image,
            argv=(ENTRYPOINT, agent.runtime),
            env={
                "JACKIN_AGENT": agent.name,
                "JACKIN_CLASS": agent.agent_class.slug,
                "JACKIN_RUNTIME": agent.runtime,
                "JACKIN_WORKDIR": agent.workdir,
                "JACKIN_STATE": STATE_DIR,
                "JACKIN_GIT_NAME": name,
                "JACKIN_GIT_EMAIL": email,
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "LANG": "C.UTF-8",
            },
            workdir=agent.workdir,
            network=network,
            staging=staging,
            limits=Limits(cpus=agent.cpus, memory=agent.memory, pids=agent.pids),
            hostname=agent.name,  # a DNS label, see agents.engine.naming
        )

    def _start(self, spec: LaunchSpec) -> ContainerInfo:
        """The container, started behind its shut gate. The stream is taken first, so that no byte is lost."""
        engine = self.engines.engine
        container_id = engine.create_container(spec)
        with transaction.atomic(durable=True):
            self._fence()
            Agent.objects.filter(key=spec.agent).update(container_id=container_id, image=spec.image)
        stream = engine.attach(container_id)
        try:
            info = engine.start(container_id)
            engine.resize(container_id, rows=ROWS, columns=COLUMNS)
        except BaseException:
            stream.close()
            raise
        self.streams.push(spec.agent, stream, rows=ROWS, columns=COLUMNS)
        return self._still_running(info)

    def _still_running(self, container: ContainerInfo) -> ContainerInfo:
        now = self.engines.engine.container(container.id)
        if now is not None and now.status == "running":
            return now
        code = "unknown" if now is None else now.exit_code
        words = self.engines.engine.logs(container.id, most=LAST_WORDS).decode("utf-8", "replace")
        for line in words.splitlines()[-20:]:
            self.progress.log(line)
        raise Conflict(
            f"The container ended by itself (exit code {code}) before it was ready.",
            remedy="Look at the output of the launch.",
        )

    def _commit(self, agent: Agent, container: ContainerInfo) -> None:
        with transaction.atomic(durable=True):
            mine = {"lease_owner": self.operation.lease_owner, "cancel_requested": False}
            actor = self.operation.requested_by
            if not move_operation(self.operation, OperationState.SUCCEEDED, actor=actor, only_if=mine):
                self.progress.check()
                raise LeaseLost
            move_agent(agent, AgentStatus.RUNNING, actor=actor, operation=self.operation, container_id=container.id)
            self.progress.close_steps(running=OperationStep.State.SUCCEEDED)

    def give_up(self, error: Exception) -> None:
        """Take everything away, then write the end down."""
        self._fence()
        agent = self._own_agent()
        remove = self._removal()
        left = self.patience.tidy(remove)
        cancelled = is_cancel(error) or self.progress.cancelled()
        text = "The launch was cancelled." if cancelled else explain(error)
        if agent is not None:
            self.streams.drop(agent.key, text)
        if left:
            text += " Not everything could be removed yet (" + " ".join(left) + "); it is tried again each minute."
        with transaction.atomic(durable=True):
            unused = self._end(text, remedy="" if cancelled else remedy_of(error), cancelled=cancelled)
        if unused is not None and not left:
            states.delete_row(unused, actor=self.operation.requested_by)
        self.patience.tidy_after(remove)

    def _end(self, text: str, *, remedy: str, cancelled: bool) -> AgentState | None:
        """Write the end down; the fresh state that nothing ever used, whose row goes after its files."""
        operation = self.operation
        state = OperationState.CANCELLED if cancelled else OperationState.FAILED
        fields = {"error": text, "remedy": remedy, "failed_step": "" if cancelled else operation.step}
        mine = {"lease_owner": operation.lease_owner}
        if not move_operation(operation, state, actor=operation.requested_by, only_if=mine, **fields):
            raise LeaseLost
        self.progress.close_steps(running=OperationStep.State.FAILED)
        if (agent := self._own_agent()) is not None:
            to = AgentStatus.ENDED if cancelled else AgentStatus.FAILED
            move_agent(agent, to, actor=operation.requested_by, operation=operation, reason=text)
            if not self.progress.succeeded("verify"):
                MountGrant.objects.filter(agent=agent).delete()  # the gate stayed shut: nothing was granted
            return states.forget_unused(agent, operation)
        return None

    def _own_agent(self) -> Agent | None:
        """The agent that this launch is for; None when a forged row points at one that runs or is somebody else's."""
        agent = self.operation.agent
        if agent is None or agent.owner_id != self.operation.requested_by_id:
            return None
        return agent if agent.state == AgentStatus.STARTING else None

    def _removal(self) -> Callable[[], list[str]]:
        """Removes what this very operation made; looks at no row any more, so that it can be called at any time."""
        agent = self._own_agent()
        if agent is None:
            return list
        key, engines, launch = agent.key, self.bare, self.token
        unused = states.unused_of(agent, self.operation)
        return lambda: cleanup.remove_objects(engines, key=key, launches=[launch], states=unused)

    def _fence(self) -> None:
        with contextlib.suppress(Cancelled):  # asked to stop, but still ours
            self.progress.check()
