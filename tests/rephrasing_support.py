"""Helpers for tests of rephrasing: arms, and a run with the rules engine or any other."""

from __future__ import annotations

from collections.abc import Sequence

from site_client.engines.engine import Completion, Engine, Request, Sampling
from site_client.engines.rules_engine import RulesEngine
from site_client.folder import SiteFolder
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.plan import Plan
from site_client.rephrasing.prompts import Prompt, choose_prompts
from site_client.rephrasing.run import ArmReport, rephrase_sites

# Faithful rewordings of conftest's sentences, for tests that need texts which the real gates accept.
REWORDED = {
    "The patient was seen in clinic for follow-up of hypertension.": "A clinic visit took place to follow up on the "
    "patient's high blood pressure.",
    "Blood pressure was 142/88 on two readings.": "Two readings of the blood pressure gave 142/88.",
    "He denies chest pain and shortness of breath.": "There is no chest pain and no dyspnea, according to him.",
    "Left knee pain has improved with physical therapy.": "With physical therapy, the pain in the left knee is better.",
    "Continue lisinopril 10 mg daily.": "Lisinopril is to be continued at 10 mg once a day.",
    "She reports no fever, chills or night sweats.": "According to her, fever, chills and night sweats are absent.",
    "The wound is clean and dry without drainage.": "There is no drainage from the wound, which is dry and clean.",
    "Return in three months or sooner as needed.": "A return visit is planned in 3 months, or earlier if needed.",
}


def reworded(request: Request) -> str:
    """A reply that the gates accept."""
    text = request.source
    for sentence, other in REWORDED.items():
        text = text.replace(sentence, other)
    return text


def make_arm(engine: Engine | None = None, prompt: str | Prompt = "professional", seed: int = 0, **changes) -> Arm:
    engine = engine or RulesEngine()
    [found] = [prompt] if isinstance(prompt, Prompt) else choose_prompts([prompt])
    return Arm(model=engine.model, revision=engine.revision, prompt=found, sampling=Sampling(), seed=seed).model_copy(
        update=changes
    )


def rephrase(
    site: SiteFolder, engine: Engine | None = None, arms: Sequence[Arm] | None = None, plan: Plan | None = None, **more
) -> list[ArmReport]:
    """Run the arms of one engine at one site."""
    engine = engine or RulesEngine()
    arms = arms or [make_arm(engine)]
    return rephrase_sites([site], engine, arms, plan or Plan(), engine_name="test", **more)[0]


class EchoEngine:
    """Stands beside the real engines for faults and counts that they cannot be made to show.

    It writes what it is told to, counts its calls, and fails when it is told to.
    """

    model = "echo"
    revision = "1"
    context: int | None = None

    def __init__(self, reply=reworded, window: int = 8) -> None:
        self.reply, self.window = reply, window
        self.requests: list[Request] = []
        self.open = self.most_open = 0
        self.started = self.closed = 0

    async def start(self) -> None:
        self.started += 1

    async def write(self, request: Request) -> Completion:
        import asyncio

        self.requests.append(request)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        await asyncio.sleep(0)
        self.open -= 1
        text = self.reply(request)
        if isinstance(text, Completion):
            return text
        return Completion(text=text, finish_reason="stop", prompt_tokens=10, output_tokens=len(text.split()))

    async def close(self) -> None:
        self.closed += 1
