"""taskdef turns a task definition into a reinforcement-tuned model.

The names below are the public API. They are imported on first use, so that ``import taskdef`` and
``taskdef --help`` load neither torch nor transformers.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# taskdef sends nothing, ever; these switch off what its libraries would send unasked. Set before any of them loads.
for _name, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "DO_NOT_TRACK": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ[_name] = _value

__version__ = "0.1.0"

_EXPORTS = {
    "RunConfig": "taskdef.config",
    "TaskDefinition": "taskdef.records",
    "TaskdefError": "taskdef.errors",
    "Stage": "taskdef.records",
    "Verifier": "taskdef.verify.isolated",
    "build_config": "taskdef.config",
    "load_instructor": "taskdef.instruct.load",
    "load_policy": "taskdef.policy.load",
    "load_definition": "taskdef.definition.load",
    "load_pack": "taskdef.definition.packs",
    "run": "taskdef.pipeline",
    "retrieve_passages": "taskdef.retrieve.stage",
    "synthesize_samples": "taskdef.synthesize.stage",
    "adapt_difficulty": "taskdef.adapt.stage",
    "select_samples": "taskdef.select.stage",
    "train_policy": "taskdef.train.stage",
    "evaluate_models": "taskdef.evaluate.stage",
    "render_report": "taskdef.report.render",
}

__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'taskdef' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
