"""The endpoints that docs/instructors.md names: each line can be given as it stands, and their ways are learned."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chat_server import Reply, chat_server, completion, fault

from taskdef.config import InstructorConfig
from taskdef.errors import InstructorError
from taskdef.instruct.chat import ChatRequest
from taskdef.instruct.ledger import Ledger
from taskdef.instruct.openai_compatible import KEY_VARIABLE, OpenAIEndpoint, parse_endpoint
from taskdef.instruct.recorded import RecordedChat
from taskdef.instruct.sender import Sender

DOCUMENTED = Path(__file__).parents[2] / "docs" / "instructors.md"
ROWS = re.findall(
    r"^\| ([^|]+) \| `openai:([^`]+)` \| ([^|]+) \| [^|]+ \| [^|]+ \|$", DOCUMENTED.read_text(), re.MULTILINE
)


def test_eight_endpoints_are_documented() -> None:
    names = [name.split(" (")[0] for name, _, _ in ROWS]
    assert names == ["OpenAI", "Azure OpenAI", "Anthropic", "Gemini", "OpenRouter", "Ollama", "vLLM", "llama.cpp"]


@pytest.mark.parametrize(("name", "text", "key"), ROWS)
def test_each_documented_line_names_a_model_and_an_address(
    name: str, text: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    model, address = parse_endpoint(text)
    if key == "none":
        assert OpenAIEndpoint(model, address, config=InstructorConfig()).address == text.split("@", 1)[1]
        return
    with pytest.raises(InstructorError, match=f"{KEY_VARIABLE} is not set"):
        OpenAIEndpoint(model, address, config=InstructorConfig())
    monkeypatch.setenv(KEY_VARIABLE, "key")
    assert OpenAIEndpoint(model, address, config=InstructorConfig()).model == text.split("@https")[0]


def gemini(body: dict[str, Any], number: int) -> Reply:
    """Up to eight candidates; errors are lists."""
    if body.get("n", 1) > 8:
        said = "Unable to submit request because it has a candidateCount value of 16 but the supported range is from 1"
        return Reply([{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}], 400)
    return completion("#### 4")


def anthropic(body: dict[str, Any], number: int) -> Reply:
    return fault(400, "n: Input should be 1") if "n" in body else completion("#### 4")


def llama(body: dict[str, Any], number: int) -> Reply:
    return fault(400, "n_cmpl cannot be greater than the number of slots") if "n" in body else completion("#### 4")


def ollama(body: dict[str, Any], number: int) -> Reply:
    """Knows no n, and says nothing."""
    return completion("#### 4")


@pytest.mark.parametrize(("answer", "requests"), [(gemini, 17), (anthropic, 17), (llama, 17), (ollama, 16)])
def test_sixteen_votes_come_from_endpoints_that_give_one_at_a_time(answer: Any, requests: int) -> None:
    asked = ChatRequest("answer", "2 + 2?", temperature=0.7, max_tokens=64)

    async def votes(chat: RecordedChat) -> int:
        responses = await chat.complete_many(asked, 16)
        await chat.close()
        return len(responses)

    with chat_server(answer) as server:
        config = InstructorConfig()
        address = server.url.replace("/v1", "/openai/v1")  # as at Azure: any path
        endpoint = OpenAIEndpoint("m", address, config=config)
        assert asyncio.run(votes(RecordedChat(Sender(endpoint, Ledger(None), config)))) == 16
    assert len(server.requests) == requests
    assert endpoint.habits["takes_count"] is False


def test_an_azure_address_of_the_old_kind_is_refused_with_the_way_out() -> None:
    old = "https://NAME.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-10-21"
    with pytest.raises(InstructorError) as refused:
        OpenAIEndpoint("gpt-4o", old, config=InstructorConfig())
    assert "holds a user name, a password or a query" in refused.value.message
    assert "https://NAME.openai.azure.com/openai/v1 needs no query" in str(refused.value.next_step)
