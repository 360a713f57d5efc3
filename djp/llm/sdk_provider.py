"""What the adapters of OpenAI's and Anthropic's SDKs share: one client, one way to ask, one way to fail."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import traceback
from abc import ABC, abstractmethod
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from djp.llm.answers import MalformedError, as_object, whole_characters
from djp.llm.provider import ProviderError
from djp.llm.provider_failures import Failures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from types import ModuleType

    import httpx2

    from djp.llm.answers import Answer
    from djp.llm.models import Model
    from djp.llm.provider import Question, Reply

_log = logging.getLogger(__name__)

REACHABLE_TIMEOUT_S = 5.0


class SdkProvider(ABC):
    """A provider behind its official SDK, whose own retries are off. The SDK is imported at the first call.

    `name` is the provider's name in messages, `key_variable` the environment variable to set where the key is refused.
    `base_url` None means the maker's own service, `api_key` None that no key is sent. `connect_timeout_s` bounds the
    way to the provider, `read_timeout_s` the silence between two pieces of an answer: the caller's deadline is what
    bounds an answer that drips.
    """

    sdk_name: str
    official_url: str
    account_headers: tuple[str, ...] = ()
    """What the SDK takes from the environment to tell the maker whose account it is."""

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None,
        key_variable: str | None = None,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = 15.0,
        read_timeout_s: float = 120.0,
    ) -> None:
        self._api_key = None if api_key is None else api_key.strip()
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._failures = Failures(
            name, key_variable=key_variable, secrets=[self._api_key or "", *self._headers.values()]
        )
        self._options: dict[str, Any] = {}
        self._opened: tuple[ModuleType, Any] | None = None

    @abstractmethod
    def _request(self, sdk: ModuleType, model: Model, question: Question) -> tuple[str, dict[str, Any]]:
        """Path and body of a call."""

    @abstractmethod
    def _answer(self) -> Answer:
        """Reads one answer."""

    @abstractmethod
    async def _list(self) -> frozenset[str]:
        """The ids of the models."""

    async def ask(self, model: Model, question: Question) -> AsyncGenerator[str | Reply]:
        """As the port says."""
        answer = self._answer()
        failure: ProviderError | None = None
        waiting = ""
        try:
            sdk, _ = await self._open()
            path, body = self._request(sdk, model, question)
            async with aclosing(self._texts(path, body, answer, streaming=model.streaming)) as texts:
                async for text in texts:
                    whole, waiting = whole_characters(waiting + text)
                    if whole:
                        yield whole
            if answer.stop is None:
                failure = self._failures.unfinished()
        except Exception as error:
            failure = self._failure(error)
        # The answer is whole once its end was seen: asking again for what was lost behind it would pay twice.
        if failure is not None and answer.stop is None:
            # Raised outside of the handler, so that nothing that holds headers hangs on it.
            raise failure
        if waiting:
            yield "\N{REPLACEMENT CHARACTER}"
        yield answer.reply()

    async def _texts(self, path: str, body: dict[str, Any], answer: Answer, *, streaming: bool) -> AsyncGenerator[str]:
        sdk, client = await self._open()
        if not streaming:
            yield answer.whole(await self._body_of(client.post, path, {}, body=body))
            return
        # `object` in place of the SDK's models: it spares two thirds of the CPU, which goes into building a model for
        # each chunk, and the SDK does not validate them anyway.
        stream = await client.post(
            path,
            cast_to=object,
            body=body | {"stream": True},
            options=self._options,
            stream=True,
            stream_cls=sdk.AsyncStream[object],
        )
        try:
            self._expect(stream.response, "text/event-stream")
            async for event in stream:
                text = answer.add(as_object(event))
                if text:
                    yield text
        finally:
            await stream.close()

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        _, client = await self._open()
        return await self._body_of(client.get, path, query)

    async def _body_of(self, call: Callable[..., Any], path: str, query: dict[str, str], **more: Any) -> dict[str, Any]:
        import httpx2

        options = self._options | {"params": query}
        response = await call(path, cast_to=httpx2.Response, options=options, **more)
        self._expect(response, "application/json")
        body = as_object(json.loads(response.content))
        if body.get("error"):
            raise self._failures.failed_within(body)
        return body

    def _expect(self, response: httpx2.Response, wanted: str) -> None:
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != wanted:
            raise self._failures.wrong_type(content_type, wanted)

    async def reachable(self) -> frozenset[str]:
        """As the port says."""
        failure: ProviderError | None = None
        try:
            await self._open()  # importing the SDK is not the provider's time
            async with asyncio.timeout(REACHABLE_TIMEOUT_S):
                return await self._list()
        except TimeoutError:
            failure = self._failures.not_sent(f"no list of its models within {REACHABLE_TIMEOUT_S:.0f} seconds")
        except Exception as error:
            failure = self._failure(error)
        raise failure

    async def close(self) -> None:
        """As the port says."""
        if self._opened is not None:
            await self._opened[1].close()
            self._opened = None

    async def _open(self) -> tuple[ModuleType, Any]:
        if self._opened is None:
            # In a thread: it takes a second or two, in which others are to be served.
            sdk = await asyncio.to_thread(importlib.import_module, self.sdk_name)
        if self._opened is None:
            import httpx2

            for value in (self._api_key or "", *self._headers.values()):
                if not (value.isascii() and value.isprintable()):
                    raise self._failures.unfit("its key or one of its headers has characters that no header may have")
            # They would log questions and headers where the program's level is DEBUG, and every call at INFO.
            for logger in (self.sdk_name, "httpx2", "httpcore2"):
                logging.getLogger(logger).setLevel(logging.WARNING)
            timeout = httpx2.Timeout(self._read_timeout_s, connect=self._connect_timeout_s)
            headers = {"Accept-Encoding": "identity"} | self._foreign_headers(sdk) | self._headers
            if self._api_key is None and not any(name.lower() == "authorization" for name in headers):
                self._options = {"headers": {"Authorization": sdk.omit}}
            client = self._client(
                sdk,
                api_key=self._api_key or "none",
                base_url=self._base_url or self.official_url,
                default_headers=headers,
                max_retries=0,
                timeout=timeout,
                http_client=sdk.DefaultAsyncHttpxClient(
                    timeout=timeout, follow_redirects=False, event_hooks={"response": [self._bound_response]}
                ),
            )
            self._opened = sdk, client
        return self._opened

    def _foreign_headers(self, sdk: ModuleType) -> dict[str, Any]:
        """Leaves out what the environment says for the maker's own service when this is another one."""
        if self._base_url is None:
            return {}
        lines = os.environ.get(f"{self.sdk_name.upper()}_CUSTOM_HEADERS", "").split("\n")
        named = (line.partition(":")[0].strip() for line in lines if ":" in line)
        return dict.fromkeys((*self.account_headers, *named), sdk.omit)

    @abstractmethod
    def _client(self, sdk: ModuleType, **options: Any) -> Any:
        """The SDK's client."""

    async def _bound_response(self, response: httpx2.Response) -> None:
        from djp.llm.response_bounds import bound_response

        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity" and response.is_success:
            # None was asked for, and a small compressed body can become a huge one.
            raise self._failures.wrong_type(f"content encoded as {encoding}", "plain content")
        bound_response(response, self._failures)

    def _failure(self, error: Exception) -> ProviderError:
        """What an exception of the SDK, or of what it stands on, means."""
        import ssl

        import anyio
        import httpx2

        if isinstance(error, ProviderError):  # of this class itself, as the bounds of a response are
            return error
        sdk = importlib.import_module(self.sdk_name)
        if isinstance(error, sdk.APIConnectionError) and isinstance(error.__cause__, Exception):
            return self._failure(error.__cause__)
        if isinstance(error, sdk.APIStatusError) and error.status_code != HTTPStatus.OK:
            return self._failures.refused(error.status_code, error.body, error.response.headers)
        if isinstance(error, sdk.APIError) and not isinstance(error, sdk.APIConnectionError):
            return self._failures.failed_within(error.body)
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)):
            return self._failures.not_sent(str(error) or type(error).__name__)
        if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL)):
            return self._failures.unfit(type(error).__name__)
        if isinstance(error, (httpx2.HTTPError, sdk.APIConnectionError, ssl.SSLError, anyio.EndOfStream)):
            return self._failures.lost(str(error) or type(error).__name__)
        if isinstance(error, MalformedError):
            return self._failures.malformed(str(error))
        if isinstance(error, (ValueError, RecursionError)):  # broken JSON or UTF-8; its message quotes the answer
            return self._failures.malformed(type(error).__name__)
        # Nothing that a provider sends may end more than its own call. The exception's words could be the answer's.
        _log.error("a call failed as nobody foresaw: %s at %s", type(error).__name__, _place(error))
        return self._failures.unforeseen(type(error).__name__)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
