"""A model that takes its inputs in batches: callers pass one text each and get one answer.

`qmodal run examples/batched_inference.py`
"""

import asyncio
import time

import qmodal

app = qmodal.App("batched-inference")
WORDS = {"good": 1.0, "great": 2.0, "bad": -1.0, "awful": -2.0}


@app.cls(max_containers=1)
class Sentiment:
    """Scores texts; a pass takes as long for sixteen of them as for one."""

    @qmodal.enter()
    def load(self) -> None:
        self.weights = WORDS
        self.passes = 0

    @qmodal.batched(max_batch_size=16, wait_ms=50)
    def score(self, text: list[str]) -> list[tuple[float, int]]:
        """The score of each text, and which pass it was in."""
        time.sleep(0.05)
        self.passes += 1
        return [(self._sum(each), self.passes) for each in text]

    def _sum(self, text: str) -> float:
        return sum(self.weights.get(word, 0.0) for word in text.split())


@app.local_entrypoint()
async def main() -> None:
    model = Sentiment()
    texts = [f"a {mood} day, number {n}" for n in range(16) for mood in WORDS]
    answers = await asyncio.gather(*(model.score.remote.aio(text) for text in texts))
    print(f"a great day scores {answers[texts.index('a great day, number 0')][0]:g}")
    passes = len({number for _, number in answers})
    print(f"{len(texts)} calls, {'few' if passes <= len(texts) // 4 else 'many'} passes")
