"""Start a teacher's engine, or its tokenizer alone, where the work is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from runner import models
from runner.system.errors import EngineError
from runner.teacher import random_texts
from runner.teacher.engines.endpoint import Endpoint, EndpointEngine
from runner.teacher.engines.hosts import TOKEN_VARIABLE
from runner.teacher.engines.noop import NoopEngine
from runner.teacher.engines.protocol import Engine
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.live import Start
from runner.teacher.prompt import Task


def open_engine(
    engine: str,
    model: tuple[str, str | None],
    task: Task,
    settings: EngineSettings,
    endpoint: Endpoint | None,
    start: Start,
) -> tuple[Engine, Path | None]:
    """The engine, and the folder of its model or tokenizer."""
    if engine == "noop":
        return NoopEngine(task.answers.made_up, settings.options.get("seconds", 0.0)), None
    if endpoint is None:
        place = models.ensure(*model, progress=start.fetching, who="teacher.model")
        start.begin("load")
        from runner.teacher.engines.vllm import VllmEngine  # in the actor only: the driver needs no torch

        return VllmEngine(place, settings), place
    token = os.environ.get(TOKEN_VARIABLE)
    place = models.ensure(*model, progress=start.fetching, who="teacher.model", weights=False)
    start.begin("connect")
    tokenizer = _load_tokenizer(place)
    how: dict[str, Any] = {"token": token, "allow_external": endpoint.allow_external}
    server = EndpointEngine(endpoint.url, endpoint.model, tokenizer, endpoint.concurrency, **how)
    if server.max_context is not None and server.max_context < settings.max_context:
        server.close()
        raise EngineError(
            "teacher.context-too-long",
            f"the server holds contexts of {server.max_context} tokens, teacher.max_context is "
            f"{settings.max_context}: set it to {server.max_context}, or start the server with a larger "
            "--max-model-len",
        )
    return server, place


def cut_words(model: str, revision: str | None, weights: bool, words: list[str]) -> list[list[str]]:
    """Words cut into the tokens of the teacher's tokenizer; runs where the model is."""
    place = models.ensure(model, revision, who="teacher.model", weights=weights)
    return random_texts.tokens(_load_tokenizer(place), words)


def _load_tokenizer(folder: Path) -> Any:
    from runner.student.load import load_tokenizer  # in workers only: the driver needs no torch

    return load_tokenizer(folder)
