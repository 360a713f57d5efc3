"""Who made a model: models of one family do not judge each other where another juror can."""

from __future__ import annotations

_MAKERS = {
    "openai": ("gpt", "chatgpt", "o1", "o3", "o4", "codex"),
    "anthropic": ("claude",),
    "meta": ("llama", "meta-llama", "codellama"),
    "google": ("gemini", "gemma"),
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral"),
    "qwen": ("qwen", "qwq"),
    "deepseek": ("deepseek",),
    "microsoft": ("phi",),
    "xai": ("grok",),
    "cohere": ("command",),
    "zhipu": ("glm",),
    "moonshot": ("kimi",),
    "minimax": ("minimax",),
    "nvidia": ("nemotron",),
    "ibm": ("granite",),
}
"""How the names of each maker's models begin."""


def family_of(provider: str, model: str) -> str:
    """The maker that the name of a model tells, else the provider. A name may begin with its maker's and a slash."""
    for part in reversed(model.lower().split("/")):
        name = part.removeprefix("ft:")
        for maker, prefixes in _MAKERS.items():
            if name.startswith(prefixes):
                return maker
    return provider
