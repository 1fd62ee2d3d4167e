"""The ``vllm`` engine: vLLM in this machine, fed one request at a time and batching them itself.

``AsyncLLM`` instead of ``LLM.chat`` because results come as they finish: nothing waits for the slowest reply of a
batch, and data parallelism over several GPUs is vLLM's own. The only module that imports vllm.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocols.errors import UsageError
from site_client.engines.engine import Completion, EngineError, FinishReason, Request
from site_client.engines.models import LocalModel

_MEMORY = re.compile(
    r"out of memory|OutOfMemory|[Nn]o available memory|[Ff]ree memory|KV cache|not enough memory|Killed"
)


class VllmSettings(BaseModel):
    """How vLLM is set up: how fast it writes, not what (up to the rounding of another batch).

    Attributes:
        max_num_seqs: replies written at the same time.
        max_num_batched_tokens: tokens of one forward pass.
        context: longest prompt and reply together [tokens]; shorter leaves more memory for more replies.
        gpu_memory_utilization: share of a GPU's memory.
        tensor_parallel: GPUs that one copy of the model is spread over.
        data_parallel: copies of the model.
        speculation: guess runs of tokens from the prompt, which a rephrasing repeats in part.
        prefix_caching: compute the instruction, which all prompts of an arm begin with, once.
        enforce_eager: no CUDA graphs.
        dtype: of weights and activations.
        load_format: "dummy" makes random weights, for measuring speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] = 256
    max_num_batched_tokens: Annotated[int, Field(ge=64)] = 8_192
    context: Annotated[int, Field(ge=64)] = 2_048
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    data_parallel: Annotated[int, Field(ge=1)] = 1
    speculation: Literal["none", "ngram", "suffix"] = "none"
    prefix_caching: bool = True
    enforce_eager: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    load_format: Literal["auto", "dummy"] = "auto"


class VllmEngine:
    """Writes with vLLM.

    Args:
        local: the model.
        settings: how vLLM is set up.
        log: file for vLLM's own words, which hold no texts.
    """

    def __init__(self, local: LocalModel, settings: VllmSettings, log: Path) -> None:
        self.model = local.name
        self.revision = local.revision
        self.settings = settings
        # Four times what runs at once: a part of the results may wait for the disk and the engine still finds work.
        self.window = 4 * settings.max_num_seqs * settings.data_parallel
        self._longest = min(settings.context, _longest(local.path))
        self.context: int | None = self._longest
        self._local = local
        self._log = log
        self._names = count()
        self._llm: Any = None
        self._tokenizer: Any = None

    def with_settings(self, settings: VllmSettings) -> VllmEngine:
        """The same model, set up in another way."""
        return VllmEngine(self._local, settings, self._log)

    async def start(self) -> None:
        """Load the model.

        Raises:
            UsageError: vLLM is not installed, or the model has no chat template.
            EngineError: the model cannot be loaded; the message says what to lower when memory is short.
        """
        self._tokenizer = _load_tokenizer(self._local.path)
        with _words_to(self._log):
            try:
                self._llm = _load(self._local.path, self.settings, self._longest)
            except Exception as error:
                raise _load_error(self._local, self.settings, self._log, error) from None
        # Handlers that vLLM made meanwhile would go on writing to our own error stream.
        for handler in logging.getLogger("vllm").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(self._log.open("a", encoding="utf-8"))

    async def write(self, request: Request) -> Completion:
        """Write one reply."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        prompt = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": request.prompt}],
            add_generation_prompt=True,
            return_dict=False,
            **self._local.template,
        )
        if len(prompt) + request.max_tokens > self._longest:
            return Completion(text="", finish_reason="prompt_too_long", prompt_tokens=len(prompt), output_tokens=0)
        sampling = request.sampling
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=request.seed if sampling.temperature > 0 else None,
            max_tokens=request.max_tokens,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        try:
            async for output in self._llm.generate(tokens_input(prompt), params, str(next(self._names))):
                reply = output.outputs[0]
        except EngineDeadError:
            raise EngineError(
                f"vLLM stopped while it was writing; its last words are in {self._log}.",
                hint="run again to go on; when it says out of memory, lower --max-num-seqs",
            ) from None
        reason: FinishReason = "length" if reply.finish_reason == "length" else "stop"
        return Completion(
            text=reply.text, finish_reason=reason, prompt_tokens=len(prompt), output_tokens=len(reply.token_ids)
        )

    async def close(self) -> None:
        """Stop vLLM; its processes end, and with them their hold on GPU memory."""
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
            self._llm = None
            await asyncio.sleep(0)  # lets its cancelled reader end, which refers to it
            gc.collect()  # its __del__ complains when it runs as late as the interpreter's own end


def _load_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"The tokenizer in {path} cannot be loaded ({type(error).__name__}).") from error
    if not tokenizer.chat_template:
        raise UsageError(
            f"The tokenizer in {path} has no chat template.",
            hint="choose an instruction-tuned model; a base model does not follow a prompt",
        )
    return tokenizer


def _load(path: Path, settings: VllmSettings, context: int) -> Any:
    on_cpu = not _has_gpu()
    if on_cpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise UsageError(
            f"vLLM cannot be imported ({type(error).__name__}).",
            hint="make vllm installs it into .venv-vllm; on a GPU: pip install 'fednotes[vllm]'",
        ) from error
    arguments = AsyncEngineArgs(
        model=str(path),
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=max(settings.max_num_batched_tokens, context if on_cpu else 0),
        max_model_len=context,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel,
        data_parallel_size=settings.data_parallel,
        enforce_eager=settings.enforce_eager or on_cpu,
        # A seeded request whose prompt is cut into pieces stops vLLM 0.32 on a CPU ("does not use offset").
        enable_chunked_prefill=False if on_cpu else None,
        dtype=settings.dtype,
        speculative_config=_SPECULATION[settings.speculation],
        generation_config="vllm",  # sampling is ours, and nothing of the model's own file mixes in
        disable_log_stats=True,
        enable_prefix_caching=settings.prefix_caching,
        load_format=settings.load_format,
    )
    # Returned at once: something that is imported above keeps this frame alive, and what it names would never end.
    return AsyncLLM.from_engine_args(arguments)


_SPECULATION: dict[str, dict[str, object] | None] = {
    "none": None,
    "ngram": {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 4, "prompt_lookup_min": 2},
    "suffix": {"method": "suffix", "num_speculative_tokens": 32},
}


def _longest(path: Path) -> int:
    """Context that the model was made for; a large number where its configuration does not say."""
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path / 'config.json'} cannot be read.", hint="restore the model folder") from error
    text = config.get("text_config") or config
    return int(text.get("max_position_embeddings") or text.get("n_positions") or 1_000_000)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _load_error(local: LocalModel, settings: VllmSettings, log: Path, error: Exception) -> EngineError | UsageError:
    if isinstance(error, UsageError):
        return error
    words = str(error) + _tail(log)
    if _MEMORY.search(words):
        return EngineError(
            f"There is not enough memory for {local.name}; vLLM's words are in {log}.",
            hint=f"lower --max-num-seqs ({settings.max_num_seqs}) or --context ({settings.context}), take a smaller "
            "model, or spread it over more GPUs with --tensor-parallel",
        )
    return EngineError(
        f"vLLM could not load {local.name} ({type(error).__name__}); its words are in {log}.",
        hint="the last lines of that file say why",
    )


def _tail(log: Path) -> str:
    return log.read_bytes()[-20_000:].decode("utf-8", "replace") if log.exists() else ""


@contextmanager
def _words_to(log: Path) -> Iterator[None]:
    """Send what this process and the processes it starts print to a file; ours comes back when the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("ab", buffering=0) as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
