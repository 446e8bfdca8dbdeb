"""From what stands on the command line to an instructor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.chat import Endpoint
from taskdef.instruct.protocol import Instructor
from taskdef.progress import Progress

CACHE_FILE = "answers.sqlite"
FORMS = "openai:MODEL[@BASE_URL], procedural:GENERATOR or scripted:FILE"


def load_instructor(
    text: str,
    *,
    ledger_path: Path | None,
    config: InstructorConfig,
    seed: int,
    also_known: Sequence[Path] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Instructor:
    """The instructor that ``text`` names: one of ``FORMS``.

    ``ledger_path`` is where calls are recorded (None: in memory, for this process only). ``also_known``: ledgers, where
    they exist, whose answers are taken over and not paid for again; nothing is written to them. ``say`` gets a
    line now and then on how far batches are (``instruct.batch``). Raises InstructorError where the form is unknown, a
    key is missing, or what it names does not exist, and where batches are left that only ``instruct.batch`` collects.
    """
    kind, colon, rest = text.strip().partition(":")
    if not colon or not rest or kind not in ("openai", "procedural", "scripted"):
        shown = repr(text) if text.strip() else "none was given"
        raise InstructorError(f"instructor: {shown}", next_step=f"give --instructor {FORMS}")
    if config.batch and kind != "openai":
        raise InstructorError(f"instructor: {text.strip()} has no Batch API", next_step="leave --batch out")
    if kind == "procedural":
        from taskdef.instruct.procedural import ProceduralInstructor

        return ProceduralInstructor(rest, seed=seed)
    from taskdef.instruct.batch import Batches
    from taskdef.instruct.ledger import Ledger
    from taskdef.instruct.prompted import PromptedInstructor
    from taskdef.instruct.recorded import RecordedChat
    from taskdef.instruct.sender import Sender

    endpoint: Endpoint
    server = None
    if kind == "scripted":
        from taskdef.instruct.scripted import ScriptedEndpoint

        endpoint = ScriptedEndpoint(Path(rest))
    else:
        from taskdef.instruct.openai_compatible import OpenAIEndpoint, parse_endpoint

        model, base_url = parse_endpoint(rest)
        endpoint = server = OpenAIEndpoint(model, base_url, config=config)
    ledger = Ledger(ledger_path)
    batches = Batches(server, ledger, say=say) if server is not None else None
    if batches is not None and not config.batch:
        batches.refuse_to_leave_any()
        batches = None
    caches = [Ledger(config.cache.expanduser() / CACHE_FILE)] if config.cache is not None else []
    caches += [Ledger(path, read_only=True) for path in also_known if path.is_file()]
    chat = RecordedChat(Sender(endpoint, ledger, config, batches=batches), caches)
    return PromptedInstructor(text.strip(), chat, max_tokens=config.max_tokens, force_form=config.force_form)


async def close_instructor(instructor: Instructor, progress: Progress) -> None:
    """Close it, and tell whoever waits what for: answers under way are paid for, and go into the ledger."""
    if instructor.in_flight:
        progress.line(f"waiting for {instructor.in_flight} answers that are under way (Ctrl-C drops them)")
    await instructor.close()
