"""The official ``openai`` client on the loopback server: what a loop written by hand reaches, keeping nothing.

``--in-flight 1`` is the loop over the synchronous client; more is that many asyncio tasks over the asynchronous one.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import openai
from measured import MAX_TOKENS, MODEL, TEMPERATURE, Clock, parse_arguments, read_texts


def main() -> None:
    arguments = parse_arguments(__doc__, in_flight=128)
    texts = list(read_texts(arguments.texts, arguments.calls))
    one = arguments.in_flight == 1
    clock = Clock()
    answers = ask_in_turn(arguments.url, texts) if one else asyncio.run(ask(arguments.url, texts, arguments.in_flight))
    clock.report(
        answered=sum(map(bool, answers)),
        version=f"openai {version('openai')}",
        setting="sequential loop" if one else f"async, {arguments.in_flight} in flight",
    )


def ask_in_turn(url: str, texts: list[str]) -> list[str | None]:
    client = openai.OpenAI(api_key="none-needed", base_url=url, max_retries=0, timeout=120)
    return [
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": text}],
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
        )
        .choices[0]
        .message.content
        for text in texts
    ]


async def ask(url: str, texts: list[str], in_flight: int) -> list[str | None]:
    client = openai.AsyncOpenAI(api_key="none-needed", base_url=url, max_retries=0, timeout=120)
    answers: list[str | None] = []
    left = iter(texts)

    async def work() -> None:
        for text in left:
            completion = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": text}],
                temperature=TEMPERATURE,
                max_tokens=MAX_TOKENS,
            )
            answers.append(completion.choices[0].message.content)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return answers


if __name__ == "__main__":
    main()
