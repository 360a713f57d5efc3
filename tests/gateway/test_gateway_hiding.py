"""Redaction ALL with real services and a model server: no raw value reaches a model, and its owner gets it back."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.channel import open_channel
from djp.mesh.errors import Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.server import MeshServer
from djp.standalone import leaf
from djp.v1 import (
    common_pb2,
    debate_pb2,
    governance_pb2,
    grounding_pb2,
    grounding_pb2_grpc,
    judge_pb2,
    redaction_pb2,
    run_pb2,
    run_pb2_grpc,
)
from tests.gateway.conftest import SECRET
from tests.gateway.test_gateway_killed_leaf import Served, configure, server_hangs, told
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.llm.model_server import Call

ALL = run_pb2.REDACTION_MODE_ALL
MAIL, OTHER_MAIL, CARD, PASSWORD = "jane.roe@example.com", "joe@müller.example", "4111 1111 1111 1111", "Tr0ub4dor&3x"
RAW = (MAIL, "Jane.Roe@Example.com", OTHER_MAIL, CARD, "4111-1111-1111-1111", PASSWORD, "TICKET-123456", "203.0.113.77")
TICKETS = redaction_pb2.RedactionRule(name="ticket", type="TICKET", pattern="TICKET-[0-9]{6}")
OPTIONS = redaction_pb2.RedactionOptions(custom_rules=[TICKETS])
TASK = (
    f"Who may open the vault? 👩‍💻 Ask {MAIL}, or Jane.Roe@Example.com, or {OTHER_MAIL}. The card is {CARD}; password: "
    f"{PASSWORD}. Not the one that [EMAIL_1] has, nor PASSWORD_1."
)
DOCUMENTS = {
    "vault.md": f"# The vault of {MAIL}\n\nThe vault is opened by {MAIL} with 4111-1111-1111-1111. So says {PASSWORD}.",
    f"notes of {OTHER_MAIL}.txt": "The vault is closed at night; its alarm calls 203.0.113.77 with TICKET-123456.",
}


@pytest.fixture
async def real(leaves: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Puts real services in the places of fake ones."""
    monkeypatch.setenv("DJP_PROVIDERS", str(folder / "providers.yaml"))
    async with AsyncExitStack() as stack:

        async def put(*names: str) -> None:
            await leaves.stop(*names)
            for name in names:
                service = await stack.enter_async_context(leaf(name)())
                leaves.servers[name] = MeshServer(service, leaves.address(name))
                await leaves.servers[name].start()

        yield put
        await leaves.stop(*[name for name in ("debate", "judge", "redaction", "grounding") if name in leaves.servers])


def leaked(content: Any) -> list[str]:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return [value for value in RAW if value in text or json.dumps(value)[1:-1] in text]


def leaking_files(folder: Path) -> set[str]:
    """What in the data folder holds a raw value; there must be a database to look into."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert folder / "gateway.db" in files
    return {file.relative_to(folder).parts[0] for file in files if leaked(file.read_bytes().decode(errors="replace"))}


async def a_corpus(leaves: Any) -> str:
    async with open_channel(leaves.address("grounding")) as channel:

        async def parts() -> AsyncIterator[grounding_pb2.CreateCorpusRequest]:
            header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="vaults")
            yield grounding_pb2.CreateCorpusRequest(header=header)
            for path, text in DOCUMENTS.items():
                chunk = grounding_pb2.CorpusFileChunk(path=path, content=text.encode())
                yield grounding_pb2.CreateCorpusRequest(file=chunk)

        await grounding_pb2_grpc.GroundingServiceStub(channel).CreateCorpus(parts())
    return "vaults"


def answering(say: Callable[[Call], str]) -> Callable[[Call], Behaviour]:
    """A model whose drafts say that; as a juror it likes the first best."""

    def script(call: Call) -> Behaviour:
        assert call.schema
        if "answer" in call.schema["properties"]:
            draft = {"answer": say(call), "evidence": [], "confidence": 0.5, "safety_flags": []}
            return Behaviour(json.dumps(draft, ensure_ascii=False))
        marks = {"reason": f"clear about {MAIL[:4]}", "task_fit": 3, "support": 3, "clarity": 1}
        ballot = {letter: {**marks, "support": 4 - n} for n, letter in enumerate(call.schema["properties"])}
        return Behaviour(json.dumps(ballot))

    return script


def voices(*models: str, role: str = "") -> dict[str, Any]:
    return {
        "debaters": [
            debate_pb2.Debater(debater_id=f"d{n}", model=f"local/{model}", role=role) for n, model in enumerate(models)
        ],
        "jurors": [judge_pb2.Juror(juror_id="j1", model="local/n")],
    }


async def restored(gateway: Any, run_id: str) -> run_pb2.Run:
    request = run_pb2.GetRunRequest(run_id=run_id, restore_values=True)
    run: run_pb2.Run = (await gateway.runs.GetRun(request)).run
    return run


async def refused(call: Awaitable[Any]) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def test_models_never_see_a_value_and_the_owner_gets_it_back(
    mesh: Any, leaves: Any, folder: Path, real: Callable[..., Awaitable[None]]
) -> None:
    def say(call: Call) -> str:
        title = re.search("Title: (The vault of .*)", call.user)
        assert title
        return (
            f"The vault is opened by [EMAIL_2] (not by [EMAIL_1]) with [CREDIT_CARD_1] [{title[1]}]. "
            "Write to [EMAIL_3](mailto:[EMAIL_3]); somebody@else.example knows nothing."
        )

    async with ModelServer(answering(say)) as server:
        configure(folder, server)
        await real("debate", "judge", "redaction", "grounding")
        gateway = await mesh.gateway()
        fields = voices("m", role=f"the friend of {MAIL}")
        started = await gateway.start(
            task=TASK, corpus=await a_corpus(leaves), redaction=ALL, redaction_options=OPTIONS, rounds=2, **fields
        )
        events = await gateway.watch(started.run_id)
        run = await gateway.get(started.run_id)
        assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
        assert len(server.calls) >= 3
        sent = [json.dumps([call.body, call.headers], ensure_ascii=False) for call in server.calls]

    assert [leaked(body) for body in sent] == [[]] * len(sent)
    assert all("Ask [EMAIL_2], or [EMAIL_2], or [EMAIL_3]" in body for body in sent)
    assert all("the one that [EMAIL_1] has, nor PASSWORD_1" in body for body in sent)
    assert all("opened by [EMAIL_2] with [CREDIT_CARD_1]. So says [PASSWORD_2]" in body for body in sent)
    assert any("the friend of [EMAIL_2]" in body for body in sent)

    result = run.result
    assert "opened by [EMAIL_2] (not by [EMAIL_1]) with [CREDIT_CARD_1] [The vault of EMAIL_2]" in result.text
    assert "[EMAIL_3](mailto:[EMAIL_3]); [REDACTED:EMAIL] knows" in result.text
    assert dict(result.redaction_counts) == {"EMAIL": 5, "CREDIT_CARD": 1}
    (cited,) = [one for one in result.citations if one.status == common_pb2.CITATION_STATUS_RESOLVED]
    assert (cited.text, cited.title, cited.path) == ("The vault of EMAIL_2", "The vault of EMAIL_2", "vault.md")
    assert result.text[cited.start : cited.end] == "[The vault of EMAIL_2]"
    artifact = leaves.artifact(run)
    assert leaked(artifact) == []
    assert artifact["redaction"] == {
        "enabled": True,
        "redacted": True,
        "redaction_count": 6,
        "redaction_types": ["CREDIT_CARD", "EMAIL"],
        "counts": {"EMAIL": 5, "CREDIT_CARD": 1},
    }
    assert "[EMAIL_2]" in artifact["run_metadata"]["task"]
    for event in events:
        event.state.run.ClearField("spec")  # the caller's own task, shown to the caller alone
        assert leaked(str(event)) == []
    assert leaked(str(result)) == []

    back = (await restored(gateway, run.run_id)).result
    assert f"opened by {MAIL} (not by [EMAIL_1]) with {CARD} [The vault of {MAIL}]" in back.text
    assert f"[{OTHER_MAIL}](mailto:{OTHER_MAIL}); [REDACTED:EMAIL] knows" in back.text
    (cited,) = [one for one in back.citations if one.status == common_pb2.CITATION_STATUS_RESOLVED]
    assert back.text[cited.start : cited.end] == f"[{cited.text}]" == f"[The vault of {MAIL}]"
    assert (await gateway.get(run.run_id)).result == result  # put back for who asked, and nowhere else
    assert leaking_files(folder) <= {"grounding"}  # which has the corpus


async def test_redaction_that_stays_away_stops_the_run_before_anything_is_sent(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,))
    leaves.fail("Redact", Unavailable("redaction is away"))
    run = await gateway.do(task=TASK, redaction=ALL, corpus="docs")
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.stage == common_pb2.STAGE_HIDE
    assert "the redaction service does not answer" in run.error.message
    assert not {"ProjectDebate", "ProjectJudge", "Reserve", "Debate", "Judge"} & set(leaves.names())
    assert leaves.artifacts == {}
    asked = await restored(gateway, run.run_id)
    assert asked.error == run.error  # there is no text in which a value could stand


async def test_redaction_that_comes_back_is_asked_again(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 3)
    leaves.fail("Redact", Unavailable("redaction is away"), times=3)
    started = await gateway.start(task=f"Ask {SECRET}.", redaction=ALL)
    events = await gateway.watch(started.run_id)
    assert sum("redaction does not answer" in event.warning for event in events) == 1
    run = await gateway.get(started.run_id)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    assert leaves.requests("Debate")[0].task == "Ask [EMAIL_1]."


@pytest.mark.parametrize("comes_back", [True, False])
async def test_redaction_that_is_killed_while_it_redacts(
    mesh: Any, leaves: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """The process is frozen, so that the calls are in flight, and then killed."""
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0, 1.0) if not comes_back else (1.0,) * 60)
    await leaves.stop("redaction")
    gateway = await mesh.gateway()
    async with Served("redaction", leaves.address("redaction"), folder) as process:
        process.send_signal(signal.SIGSTOP)
        run = await gateway.start()
        async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
            if answer.event.stage_started.stage == common_pb2.STAGE_REDACT:
                break
        process.kill()
    if comes_back:
        async with Served("redaction", leaves.address("redaction"), folder):
            done = await gateway.finish(run.run_id)
        assert done.state == run_pb2.RUN_STATE_PUBLISHED, done.error
        assert all(SECRET not in text for text in [done.result.text, json.dumps(leaves.artifact(done))])
    else:
        done = await gateway.finish(run.run_id)
        assert (done.state, done.error.stage) == (run_pb2.RUN_STATE_FAILED, common_pb2.STAGE_REDACT)
        assert done.error.retryable
        assert (done.result.text, leaves.artifacts) == ("", {})
        (reservation,) = leaves.reservations.values()
        assert reservation.releases == 1
    assert all(one.message.state != governance_pb2.RESERVATION_STATE_HELD for one in leaves.reservations.values())


async def test_what_is_projected_is_what_is_sent(
    gateway: Any, leaves: Any, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    request = run_pb2.RunRequest(task=TASK, redaction=ALL, redaction_options=OPTIONS)
    projected = await gateway.runs.ProjectRun(run_pb2.ProjectRunRequest(run=request))
    assert projected.spec.task == TASK
    run = await gateway.do(task=TASK, redaction=ALL, redaction_options=OPTIONS)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    first, second = leaves.requests("ProjectDebate")
    (debated,) = leaves.requests("Debate")
    (judged,) = leaves.requests("Judge")
    tasks = {first.debate.task, second.debate.task, debated.task, judged.task}
    tasks |= {one.task for one in leaves.requests("ProjectJudge")}
    assert len(tasks) == 1
    assert leaked(tasks.pop()) == []


async def test_a_title_that_a_model_knew_by_itself_is_redacted(
    gateway: Any, leaves: Any, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    title = f"Files of {OTHER_MAIL}"
    leaves.titles.add(title)  # of a document that no model was shown
    leaves.drafts = [f"Ask [EMAIL_2], see [{title}] and [Budgets]."] * 3
    run = await gateway.do(task=TASK, redaction=ALL, corpus="docs")
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    assert leaked(str(run.result)) == leaked(leaves.artifact(run)) == []
    clean = "Files of [REDACTED:EMAIL]"
    assert run.result.text == f"Ask [EMAIL_2], see [{clean}] and [Budgets]."
    assert [(one.text, one.title) for one in run.result.citations] == [(clean, clean), ("Budgets", "Budgets")]
    assert [run.result.text[one.start : one.end] for one in run.result.citations] == [f"[{clean}]", "[Budgets]"]


async def test_another_tenant_gets_neither_the_run_nor_its_values(
    gateway: Any, leaves: Any, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    leaves.drafts = ["Ask [EMAIL_2]."] * 3
    with identity_scope(Identity(tenant="acme")):
        run = await gateway.do(task=TASK, redaction=ALL)
        assert (await restored(gateway, run.run_id)).result.text == f"Ask {MAIL}."
    with identity_scope(Identity(tenant="other")):
        error = await refused(restored(gateway, run.run_id))
    assert error.code == "NOT_FOUND"
    assert leaked(error.message) == []


async def test_values_that_are_not_kept_any_more_are_told_so(
    gateway: Any, leaves: Any, folder: Path, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    run = await gateway.do(task=TASK, redaction=ALL)
    with sqlite3.connect(folder / "gateway.db") as database:
        assert database.execute("DELETE FROM hidden_values").rowcount == 1
    database.close()
    error = await refused(restored(gateway, run.run_id))
    assert error.code == "FAILED_PRECONDITION"
    assert [violation.field for violation in error.violations] == ["restore_values"]
    assert "not kept any more" in error.message
    assert (await gateway.get(run.run_id)).result.text


@pytest.mark.parametrize("mode", [run_pb2.REDACTION_MODE_ON, run_pb2.REDACTION_MODE_OFF])
async def test_a_run_that_hid_nothing_has_nothing_to_put_back(gateway: Any, mode: Any) -> None:
    run = await gateway.do(task=TASK, redaction=mode)
    error = await refused(restored(gateway, run.run_id))
    assert error.code == "FAILED_PRECONDITION"
    assert [violation.field for violation in error.violations] == ["restore_values"]
    assert "--redact all" in error.message


async def test_without_a_value_everything_goes_as_it_is(
    gateway: Any, leaves: Any, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    run = await gateway.do(task="How is a budget kept? [EMAIL_1]", redaction=ALL, corpus="docs")
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    assert leaves.requests("Debate")[0].task == "How is a budget kept? [EMAIL_1]"
    assert (await restored(gateway, run.run_id)).result == run.result


async def test_who_watches_sees_placeholders_only(
    gateway: Any, leaves: Any, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    text = f"Ask [EMAIL_2], [TICKET_1] and {OTHER_MAIL} at once. "

    async def debate(request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        for piece in (text[:7], text[7:30], text[30:]):
            yield debate_pb2.DebateResponse(
                delta=debate_pb2.DraftDelta(debater_id="d1", round=1, text=piece, attempt=1)
            )
        await leaves.take("Written", None)
        draft = debate_pb2.Draft(draft_id="d1-r1", debater_id="d1", model="offline/lead", round=1, text=text, tokens=9)
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft))
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=[draft], rounds=1))

    leaves.debate = debate
    begins, written = leaves.hold("Debate"), leaves.hold("Written")
    # A rule that would find our own placeholders.
    greedy = redaction_pb2.RedactionRule(name="greedy", type="GREEDY", pattern="[A-Z]+_[0-9]+")
    options = redaction_pb2.RedactionOptions(custom_rules=[TICKETS, greedy])
    run = await gateway.start(task=f"{TASK} TICKET-123456", redaction=ALL, redaction_options=options)
    stream = gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id, deltas=True))
    await begins.entered.wait()
    assert (await stream.read()).event.sequence
    begins.opened.set()
    seen = ""
    async for answer in stream:
        seen += answer.event.draft_delta.text
        if "at once" in seen:
            written.opened.set()
    clean = text.replace(OTHER_MAIL, "[REDACTED:EMAIL]")
    assert clean.startswith(seen)
    assert (await gateway.get(run.run_id)).result.text == clean


async def test_the_names_stay_when_the_debate_service_dies(
    mesh: Any, leaves: Any, folder: Path, real: Callable[..., Awaitable[None]]
) -> None:
    answers = asyncio.Event()

    def script(call: Call) -> Behaviour:
        answer = {"answer": "Ask [EMAIL_2].", "evidence": [], "confidence": 0.5, "safety_flags": []}
        return Behaviour(json.dumps(answer), fault="" if answers.is_set() else "hang", after=2)

    async with ModelServer(script) as server:
        configure(folder, server)
        await real("redaction")
        gateway = await mesh.gateway()
        await leaves.stop("debate")
        fields = {**voices("m"), "jurors": []}
        async with Served("debate", leaves.address("debate"), folder) as first:
            run = await gateway.start(task=TASK, redaction=ALL, **fields)
            await told(gateway, run, "call_started", 1)
            await server_hangs(server, 1)
            first.kill()
        answers.set()
        async with Served("debate", leaves.address("debate"), folder):
            done = await gateway.finish(run.run_id)
        assert done.state == run_pb2.RUN_STATE_PUBLISHED, done.error
        assert len(server.calls) == 2
        assert server.calls[0].user.partition("Task")[2] != ""
        assert [leaked(call.user) for call in server.calls] == [[], []]
        tasks = {re.search(r"Who may open.*PASSWORD_1\.", call.user)[0] for call in server.calls}  # type: ignore[index]
        assert len(tasks) == 1
    assert (await restored(gateway, run.run_id)).result.text == f"Ask {MAIL}."


async def test_a_gateway_that_is_killed_in_the_debate_leaves_no_value_behind(
    mesh: Any, leaves: Any, folder: Path, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    gate = leaves.hold("Debate")
    address = f"unix:{folder}/killed.sock"
    settings = {f"DJP_{name.upper()}_ADDRESS": leaves.address(name) for name in leaves.services()}
    settings |= {"DJP_EXECUTOR_ID": "test", "DJP_LOG_LEVEL": "DEBUG"}
    async with Served("gateway", address, folder, **settings) as process, open_channel(address) as channel:
        request = run_pb2.RunRequest(task=TASK, redaction=ALL, redaction_options=OPTIONS)
        started = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=request)
        run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(started)).run
        await gate.entered.wait()
        process.kill()
        assert process.stdout
        assert leaked((await process.stdout.read()).decode()) == []
    assert leaking_files(folder) == set()
    gate.opened.set()
    gateway = await mesh.gateway()
    ended = await gateway.finish(run.run_id)
    assert ended.state == run_pb2.RUN_STATE_PUBLISHED  # it was taken up
    ended.ClearField("spec")
    assert leaked(str(ended)) == []
    assert len({request.task for request in leaves.requests("Debate")}) == 1


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(" ".join(f"user{n:05}@example.com" for n in range(10_000)), id="ten thousand addresses"),
        pytest.param(f"{MAIL} " * 10_000, id="one address ten thousand times"),
        pytest.param("[EMAIL_" * 30_000 + MAIL, id="nearly placeholders"),
        pytest.param("[" * 100_000 + MAIL + "]" * 100_000, id="brackets"),
        pytest.param("_1" * 100_000 + f" {MAIL}", id="one long word"),
    ],
)
async def test_large_tasks(gateway: Any, leaves: Any, real: Callable[..., Awaitable[None]], task: str) -> None:
    await real("redaction")
    leaves.drafts = ["Ask [EMAIL_1]."] * 3
    run = await gateway.do(task=task, redaction=ALL)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    assert "@" not in leaves.requests("Debate")[0].task
    assert run.result.text == "Ask [EMAIL_1]."
    assert "@example.com" in (await restored(gateway, run.run_id)).result.text


async def test_the_inputs_of_a_template_are_hidden_with_the_task(
    mesh: Any, leaves: Any, folder: Path, real: Callable[..., Awaitable[None]]
) -> None:
    await real("redaction")
    own = folder / "templates"
    await asyncio.to_thread(own.mkdir)
    head = 'name: Letter\nversion: "1.0"\ndescription: d\ncontext: markdown\ninputs:\n'
    inputs = "  - {id: recipient, label: R, type: string}\n  - {id: mail, label: M, type: email}\n"
    text = f"{head}{inputs}rendering:\n  body: Write to {{{{ recipient }}}} at {{{{ mail }}}}.\n"
    await asyncio.to_thread((own / "letter.yaml").write_text, text)
    gateway = await mesh.gateway(templates=own)
    given = {"recipient": f"the owner of {CARD}", "mail": OTHER_MAIL}
    run = await gateway.do(task="", template="letter", inputs=given, redaction=ALL)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    (debated,) = leaves.requests("Debate")
    assert debated.task == "Write to the owner of [CREDIT_CARD_1] at [EMAIL_1]."
    sent = [leaves.requests(name) for name in ("Debate", "ProjectDebate", "Judge", "ProjectJudge", "Reserve")]
    kept = [content.decode() for content in leaves.artifacts.values()]
    assert sent[0]
    assert kept
    for text in map(str, (*sent, *kept)):
        assert CARD not in text
        assert "joe@" not in text
    assert not leaking_files(folder)
    assert run.spec.inputs["mail"] == OTHER_MAIL, "its own tenant reads what it gave"
