"""``python -m benchmarks.privacy_utility``: bits per byte of a federated model under differential privacy, one setting.

For trying settings: hospitals, sampling, steps and averaging are the product's own, Flower and the ledger are left out,
and the noise is calibrated as a site would. What a whole study gives is measured by
``fednotes simulate --scenario privacy --dp-epsilon E``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from modeling.bits_per_byte import bits_per_byte, score_texts
from modeling.release import load_model, new_model
from modeling.tokenizer import default_tokenizer
from modeling.unit_rows import UnitRows
from privacy.accountant import calibrate
from privacy.gradients.choose import backend_named
from privacy.gradients.clipped import trainable
from privacy.mechanism import Mechanism
from privacy.private_step import PrivateStep
from privacy.randomness import SecureRandom
from protocols.messages import InnerRecipe
from simulations.options import Options
from simulations.prepare import evaluation_sets, prepare, site_folders
from simulations.run_folder import RunFolder
from simulations.scenarios import scenario
from site_client.corpus import tokenize
from site_client.private_train import private_steps
from site_client.store import read_split
from site_client.train import make_optimizer

_NO_CLIPPING = 1e9
_TOKENIZER = default_tokenizer()


def hospitals(notes: Path, site_by: str, site_map: str, row_length: int) -> tuple[list[UnitRows], list[list[str]]]:
    """Training rows and test texts of every hospital."""
    options = Options(notes=(notes,), site_by=site_by, site_map=site_map)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.open(Path(folder) / "run", options, resume=False, overwrite=False)
        prepared = prepare(run, options, scenario("privacy"), lambda _: None)
        rows = [
            UnitRows(
                tokenize(read_split(site.notes, "train"), _TOKENIZER),
                row_length=row_length,
                end_of_note=int(_TOKENIZER.eos_token_id),
                padding=int(_TOKENIZER.pad_token_id),
            )
            for site in site_folders(run, prepared)
        ]
        held_out = evaluation_sets(run, prepared)
        texts = [[note.text for note in held_out[site.name]] for site in prepared.sites]
        run.close()
    return rows, texts


def with_lora(model: PreTrainedModel, rank: int) -> nn.Module:
    """Train adapters of that rank alone; all weights for 0."""
    if not rank:
        return model
    from peft import LoraConfig, get_peft_model

    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers))


def federate(model: nn.Module, rows: list[UnitRows], arguments: argparse.Namespace) -> float:
    """Train in place, sites in turns and averaged with equal weights; gives the noise multiplier."""
    steps, rounds, rate = arguments.steps, arguments.rounds, arguments.sampling_rate
    private = arguments.epsilon > 0
    noise = calibrate(arguments.epsilon, 1e-5, rate, rounds * steps) if private else 0.0
    recipe = InnerRecipe(steps=steps, rows=1, row_length=arguments.row_length, peak_lr=arguments.lr, packing="patient")
    recipe = recipe.model_copy(update={"warmup_steps": min(3, rounds * steps // 5)})
    weights = {name: p.detach().clone() for name, p in trainable(model)}
    states: list[dict[str, object] | None] = [None] * len(rows)
    random, backend = SecureRandom.from_system(), backend_named("loop")
    for number in range(rounds):
        change = {name: torch.zeros_like(value) for name, value in weights.items()}
        for site, own in enumerate(rows):
            for name, parameter in trainable(model):
                parameter.data.copy_(weights[name])
            optimizer = make_optimizer(model, recipe)
            if states[site] is not None:
                optimizer.load_state_dict(states[site])
            mechanism = Mechanism(
                sampling_rate=rate,
                noise_multiplier=noise,
                max_grad_norm=arguments.clip if private else _NO_CLIPPING,
                max_records=arguments.records,
                expected_units=rate * own.num_units,
            )
            step = PrivateStep(model, mechanism, backend, random)
            first = {"first_step": number * steps, "steps": steps, "total_steps": rounds * steps}
            private_steps(model, optimizer, step, own, mechanism, recipe, random, **first)
            states[site] = optimizer.state_dict()
            for name, parameter in trainable(model):
                change[name] += (parameter.detach() - weights[name]) / len(rows)
        weights = {name: value + change[name] for name, value in weights.items()}
    for name, parameter in trainable(model):
        parameter.data.copy_(weights[name])
    return noise


def main() -> None:
    """Run one setting and print it with its result as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy_utility", description=__doc__)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--site-by", default="medical_specialty")
    parser.add_argument("--site-map", default="five-hospitals")
    parser.add_argument("--initial", type=Path, help="model folder to start from")
    parser.add_argument("--size", default="nano", help="of a fresh model")
    parser.add_argument("--epsilon", type=float, default=8.0, help="0 for no differential privacy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--sampling-rate", type=float, default=0.5)
    parser.add_argument("--records", type=int, default=1)
    parser.add_argument("--clip", type=float, default=0.5)
    parser.add_argument("--row-length", type=int, default=128)
    parser.add_argument("--lora", type=int, default=0, help="rank; 0 trains all weights")
    parser.add_argument("--most-texts", type=int, default=25, help="test notes of a hospital")
    arguments = parser.parse_args()
    rows, texts = hospitals(arguments.notes, arguments.site_by, arguments.site_map, arguments.row_length)
    fresh = load_model(arguments.initial)[0] if arguments.initial else new_model(arguments.size, _TOKENIZER, 0, 256)
    model = with_lora(fresh, arguments.lora)
    started = time.monotonic()
    noise = federate(model, rows, arguments)
    seconds = time.monotonic() - started
    chosen = [text for of_site in texts for text in of_site[: arguments.most_texts]]
    result = bits_per_byte(score_texts(model, _TOKENIZER, chosen, context=256))
    facts = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    facts |= {"noise_multiplier": noise, "trainable": sum(p.numel() for _, p in trainable(model))}
    print(json.dumps(facts | {"bits_per_byte": round(result, 4), "seconds": round(seconds)}))


if __name__ == "__main__":
    main()
