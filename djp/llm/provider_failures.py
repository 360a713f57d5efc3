"""Words the failures of a provider: whether they will pass, whether they may be billed, and no secret in them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from djp.llm.provider import ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_WORDS = 300
_MAX_READ = 4000
_MAX_WAIT_S = 24 * 3600.0
_PART = 8
_OVERLOADED = 529

_PASSING_REFUSALS = {HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, 503, _OVERLOADED}
_FINAL_SERVER_ERRORS = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
_QUOTA = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "spend_limit_reached")
_FINAL_KINDS = (
    *("invalid_request", "authentication", "permission", "not_found", "request_too_large", "billing_error"),
    *("badrequest", "unprocessable", "context_length", "invalid_api_key"),
    *_QUOTA,
)
_REMEDIES: dict[int, str] = {
    HTTPStatus.PAYMENT_REQUIRED: "look at the account's billing",
    HTTPStatus.FORBIDDEN: "look at what the key may use",
    HTTPStatus.NOT_FOUND: "is the base_url right, and does the provider have this model?",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "shorten the task, or give it fewer passages",
}


class Failures:
    """Words the failures of one provider. `secrets` are its key and its headers, which it might echo."""

    def __init__(self, name: str, *, key_variable: str | None, secrets: Iterable[str]) -> None:
        self._name = name
        self._key = f"set {key_variable}" if key_variable else "look at its api_key_env and headers"
        self._secrets = tuple(secret for secret in secrets if len(secret) > 3)

    def refused(self, status: int, body: Any, headers: Mapping[str, str]) -> ProviderError:
        """A response whose status is no success.

        429, 503 and 529 turn the question away before a model saw it, and so do 409 and 425: they will pass and cost
        nothing. 500, 502, 504 and whatever else a proxy makes of a server's failure will pass too, but a gateway may
        have lost an answer that was made and billed behind it; 408 likewise, as gateways say so when their own call
        timed out. All others will be the same next time. A spent quota is a 429 that waiting does not mend.
        """
        kind, words = _told(body)
        server_failed = status == HTTPStatus.REQUEST_TIMEOUT or (
            status >= HTTPStatus.INTERNAL_SERVER_ERROR
            and status not in _PASSING_REFUSALS
            and status not in _FINAL_SERVER_ERRORS
        )
        passing = server_failed or (status in _PASSING_REFUSALS and not _is(kind, _QUOTA))
        remedy = _REMEDIES.get(status)
        if status == HTTPStatus.UNAUTHORIZED:
            remedy = self._key
        elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            remedy = "redirects are not followed: is the base_url right?"
        elif _is(kind, _QUOTA):
            remedy = _REMEDIES[HTTPStatus.PAYMENT_REQUIRED]
        return self._error(
            f"refused the call with status {status}" if not server_failed else f"failed with status {status}",
            words or kind,
            remedy,
            passing=passing,
            billed=server_failed,
            retry_after_s=retry_after(headers) if passing else None,
        )

    def failed_within(self, body: Any) -> ProviderError:
        """An error that came in place of the answer's end, after the status had been 200."""
        kind, words = _told(body)
        final = _is(kind, _FINAL_KINDS) or any(_is_final_status(part) for part in kind.split())
        return self._error("broke the answer off with an error", words or kind, passing=not final, billed=True)

    def malformed(self, why: str) -> ProviderError:
        """An answer that does not keep to the format."""
        return self._error("gave an answer that cannot be read", why, passing=True, billed=True)

    def unfinished(self) -> ProviderError:
        """An answer that ended without its end."""
        return self._error("broke the answer off before its end", passing=True, billed=True)

    def wrong_type(self, content_type: str, wanted: str) -> ProviderError:
        """A success that is of another content type than an answer is."""
        if wanted == "text/event-stream" and content_type == "application/json":
            remedy = "it does not stream: set `streaming: false` for the model"
        else:
            remedy = "is the base_url right?"
        what = f"answered with {self.scrub(content_type, 60) or 'no content type'}, not {wanted}"
        return self._error(what, "", remedy, passing=False, billed=True)

    def too_large(self, limit: int) -> ProviderError:
        """A response that no answer is as large as."""
        return self._error(f"sent more than {limit} bytes, which no answer needs", passing=False, billed=True)

    def not_sent(self, why: str) -> ProviderError:
        """A call that did not reach the provider."""
        remedy = "is the base_url right, and is it running?"
        return self._error("cannot be reached", why, remedy, passing=True, billed=False)

    def unfit(self, why: str) -> ProviderError:
        """A call that cannot be sent as the provider is configured."""
        return self._error(
            "cannot be called", why, "look at its key, headers and base_url", passing=False, billed=False
        )

    def lost(self, why: str) -> ProviderError:
        """A call whose connection was lost after it may have been sent."""
        return self._error("was reached, but did not answer whole", why, passing=True, billed=True)

    def unforeseen(self, why: str) -> ProviderError:
        """An exception that is no known failure."""
        return self._error("failed in a way that the log tells", why, passing=False, billed=True)

    def _error(
        self,
        what: str,
        words: str = "",
        remedy: str | None = None,
        *,
        passing: bool,
        billed: bool,
        retry_after_s: float | None = None,
    ) -> ProviderError:
        message = f"{self._name} {what}"
        said = self.scrub(words)
        if said:
            message += f": {said}"
        if remedy:
            message += f" ({remedy})"
        return ProviderError(message, passing=passing, billed=billed, retry_after_s=retry_after_s)

    def scrub(self, words: str, most: int = MAX_WORDS) -> str:
        """The provider's words without secrets, control characters and bidirectional marks, at most `most` characters.

        A word that has eight characters of a secret in a row is hidden whole, and so is a secret abbreviated with
        asterisks or dots: providers echo keys as sk-ab***yz.
        """
        readable = "".join(char if char.isprintable() else " " for char in words[:_MAX_READ])
        for secret in self._secrets:
            readable = readable.replace(secret, "[hidden]")
        scrubbed = " ".join("[hidden]" if self._shows(word) else word for word in readable.split())
        return scrubbed if len(scrubbed) <= most else scrubbed[: most - 1] + "…"

    def _shows(self, word: str) -> bool:
        if "***" in word:
            return True
        for secret in self._secrets:
            if len(secret) > _PART and any(
                secret[start : start + _PART] in word for start in range(len(secret) - _PART + 1)
            ):
                return True
            if secret[:3] in word and ("..." in word or "…" in word):
                return True
        return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait; None where it says nothing, or nothing that makes sense.

    `retry-after-ms` (both SDKs know it) goes before `Retry-After`, which is seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _sensible(milliseconds / 1000)
    told = headers.get("retry-after")
    seconds = _number(told)
    if seconds is not None or told is None:
        return None if seconds is None else _sensible(seconds)
    try:
        date = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return None
    return _sensible(
        max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _MAX_WAIT_S else None


def _told(body: Any) -> tuple[str, str]:
    """The kind and the words of an error as OpenAI, Anthropic or a gateway tells it; never raises."""
    if isinstance(body, dict) and body.get("error"):
        body = body["error"]
    if not isinstance(body, dict):
        return "", body if isinstance(body, str) else ""
    details = body.get("details")
    kinds = (
        details.get("error_code") if isinstance(details, dict) else None,
        body.get("code"),
        body.get("type"),
        body.get("error"),
    )
    kind = " ".join(str(kind)[:64] for kind in kinds if isinstance(kind, (str, int)))
    words = body.get("message") or body.get("detail") or body.get("error_description")
    return kind.lower(), words if isinstance(words, str) else ""


def _is_final_status(code: str) -> bool:
    return code.isdecimal() and len(code) == 3 and code.startswith("4") and code not in ("408", "409", "425", "429")


def _is(kind: str, kinds: tuple[str, ...]) -> bool:
    return any(part in kind for part in kinds)
