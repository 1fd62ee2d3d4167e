from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Error, MetricRecord, RecordDict
from safetensors.numpy import save_file

from protocols.codec import encode_reply
from protocols.error_codes import ErrorCode
from protocols.errors import UsageError, WorkError
from protocols.manifest import ParameterManifest
from protocols.messages import InnerRecipe, NoteLevelReply, PatientLevelReply, PrivacyRecipe, TrainReply
from protocols.plan import CentralNoise, OuterRecipe, Plan
from server import rounds
from server.outer import outer_step
from server.rounds import Study
from server.state import Refusal, RoundRecord, ServerFolder, StudyState
from tests.server.fake_grid import Answer, FakeGrid, FakeSite, drift, facts

START = {"a": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}


@pytest.fixture
def make_folder(tmp_path) -> Callable[..., ServerFolder]:
    def make(name: str = "server", **fields: object) -> ServerFolder:
        values = {
            "study": "s",
            "rounds": 1,
            "corpus": "real",
            "manifest_digest": ParameterManifest.of(START).digest,
            "recipe": InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
            "sites": 2,
            "quorum": 1,
            "join_s": 0.3,
            "deadline_s": 20.0,
            "rejoin_s": 0.0,
            **fields,
        }
        folder = ServerFolder.create(tmp_path / name, Plan(**values))  # type: ignore[arg-type]
        folder.model.mkdir()
        save_file(START, folder.model / "model.safetensors")
        return folder

    return make


def run(
    folder: ServerFolder,
    grid: FakeGrid,
    stop: threading.Event | None = None,
    on_round: Callable[[RoundRecord], None] = lambda _: None,
) -> StudyState:
    return Study(grid, folder, stop=stop or threading.Event(), on_round=on_round).run()


def close(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.allclose(a[k], b[k], rtol=1e-6, atol=1e-7) for k in a)


@pytest.mark.parametrize("by", ["tokens", "equal"])
def test_one_round_is_the_weighted_average_followed_by_the_outer_step(make_folder, by):
    outer = OuterRecipe(weights=by)
    grid = FakeGrid({11: FakeSite(0, corpus_tokens=2_000), 12: FakeSite(1, corpus_tokens=6_000)})
    state = run(make_folder(outer=outer), grid)

    share = [0.25, 0.75] if by == "tokens" else [0.5, 0.5]
    update = {k: (share[0] * drift(0, 1, START)[k] + share[1] * drift(1, 1, START)[k]) for k in START}
    expected, momentum = outer_step(outer, START, update, {})
    assert close(state.weights, expected)
    assert close(state.momentum, momentum)


def test_momentum_is_carried_from_round_to_round(make_folder):
    state = run(make_folder(rounds=3), FakeGrid({11: FakeSite(0), 12: FakeSite(1)}))

    weights, momentum = dict(START), {}
    for number in (1, 2, 3):
        update = {k: (drift(0, number, weights)[k] + drift(1, number, weights)[k]) / 2 for k in weights}
        weights, momentum = outer_step(OuterRecipe(), weights, update, momentum)
    assert close(state.weights, weights)
    assert close(state.momentum, momentum)


def test_corpus_rounded_to_nothing_still_counts(make_folder):
    state = run(make_folder(), FakeGrid({11: FakeSite(0, corpus_tokens=0), 12: FakeSite(1, corpus_tokens=0)}))
    assert state.history[0].accepted == [0, 1]


def test_record_of_a_round_sums_up_what_the_sites_said(make_folder):
    told: list[RoundRecord] = []
    grid = FakeGrid(
        {
            11: FakeSite(4, corpus_tokens=1_000, train_loss=2.0, validation_bits=8_000, validation_bytes=4_000),
            12: FakeSite(2, corpus_tokens=3_000, train_loss=4.0),
        }
    )
    state = run(make_folder(), grid, on_round=told.append)

    (record,) = state.history
    assert told == [record]
    assert (record.round, record.accepted, record.refused) == (1, [2, 4], [])
    assert record.train_loss == pytest.approx(3.5)
    assert record.train_tokens == 2 * 640
    assert record.validation == {4: (8_000, 4_000)}
    assert record.bytes_up > 2 * 9 * 4
    assert record.bytes_down > 2 * 9 * 4


def test_silent_site_is_recorded_after_the_deadline_and_the_round_goes_on(make_folder):
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1, train=lambda *_: None)})
    started = time.monotonic()
    state = run(make_folder(deadline_s=0.7), grid)
    assert time.monotonic() - started < 5.0
    assert state.history[0].accepted == [0]
    assert state.history[0].refused == [Refusal(site=1, code="NO_REPLY")]


def test_reply_cut_in_the_middle_does_not_hold_the_round(make_folder):
    class CutAfterHello(FakeGrid):
        def push_messages(self, messages):
            ids = super().push_messages(messages)
            if self.sent[-1].metadata.message_type == "train":
                self.hanging = {12}
            return ids

    started = time.monotonic()
    state = run(make_folder(deadline_s=0.7), CutAfterHello({11: FakeSite(0), 12: FakeSite(1)}))
    assert time.monotonic() - started < 5.0
    assert state.history[0].accepted == [0]
    assert state.history[0].refused == [Refusal(site=1, code="NO_REPLY")]


def with_arrays(arrays: dict[str, np.ndarray]) -> Answer:
    return encode_reply(TrainReply(**facts(1)), arrays)


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "wrong shape": (with_arrays({**START, "b": np.ones(4, np.float32)}), "MANIFEST_MISMATCH"),
    "missing array": (with_arrays({"a": START["a"]}), "MANIFEST_MISMATCH"),
    "not a number": (with_arrays({**START, "b": np.full(3, np.nan, np.float32)}), "UPDATE_NOT_FINITE"),
    "above the norm": (with_arrays({**START, "b": np.full(3, 1e5, np.float32)}), "UPDATE_TOO_LARGE"),
    "wrong round": (encode_reply(TrainReply(**facts(9)), START), "WRONG_ROUND"),
    "more metrics": (RecordDict({"facts": MetricRecord({**facts(1), "more": 1})}), "REPLY_MALFORMED"),
    "worker died": (Error(0, "x"), "SITE_CRASHED"),
    "handler raised": (Error(2, "x"), "SITE_CRASHED"),
    "node away": (Error(5, "x"), "SITE_UNREACHABLE"),
    "unknown code": (Error(4_711, "x"), "REPLY_MALFORMED"),
    "own code": (Error(104, "x"), "TOO_FEW_PATIENTS"),
}


def test_every_bad_reply_is_refused_with_its_code_and_the_others_are_averaged(make_folder):
    sites = {11: FakeSite(0), 12: FakeSite(1)}
    for number, (answer, _) in enumerate(BAD_ANSWERS.values(), start=50):
        sites[number] = FakeSite(number, train=lambda *_, answer=answer: answer)

    state = run(make_folder(sites=13), FakeGrid(sites))
    alone = run(make_folder("alone"), FakeGrid({11: FakeSite(0), 12: FakeSite(1)}))

    codes = {r.site: r.code for r in state.history[0].refused}
    assert codes == dict(enumerate((code for _, code in BAD_ANSWERS.values()), start=50))
    assert state.history[0].accepted == [0, 1]
    assert close(state.weights, alone.weights)


def test_a_site_that_was_lost_and_came_back_is_asked_again_and_counts_once(make_folder, monkeypatch):
    monkeypatch.setattr("server.exchange._FIRST_PAUSE_S", 0.1)
    lost: list[int] = []

    def dies_first(request, weights):
        lost.append(request.round)
        if len(lost) == 1:
            return Error(int(ErrorCode.SITE_RESTARTED), "x")
        return encode_reply(TrainReply(**facts(request.round)), drift(1, request.round, weights))

    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1, train=dies_first)})
    state = run(make_folder(rejoin_s=10.0), grid)
    alone = run(make_folder("alone"), FakeGrid({11: FakeSite(0), 12: FakeSite(1)}))
    assert lost == [1, 1]
    assert (state.history[0].accepted, state.history[0].refused, state.history[0].resent) == ([0, 1], [], {1: 1})
    assert close(state.weights, alone.weights)


def test_a_site_that_stays_away_is_recorded_with_why(make_folder, monkeypatch):
    monkeypatch.setattr("server.exchange._FIRST_PAUSE_S", 0.1)
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1, train=lambda *_: Error(5, "x"))})
    state = run(make_folder(rejoin_s=1.0), grid)
    assert state.history[0].refused == [Refusal(site=1, code="SITE_UNREACHABLE")]


def test_too_few_accepted_replies_end_the_study_naming_codes_and_keeping_the_checkpoint(make_folder):
    def good_once(request, weights):
        if request.round > 1:
            return Error(105, "Traceback: patient Jane Roe")
        return encode_reply(TrainReply(**facts(1)), drift(1, 1, weights))

    folder = make_folder(rounds=3, quorum=2)
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1, train=good_once)})
    with pytest.raises(WorkError) as caught:
        run(folder, grid)
    assert caught.value.message == (
        "Study s stopped: 1 accepted updates in round 2, the quorum is 2 (site 1: TRAINING_FAILED)."
    )
    assert "checkpoint of round 1 is kept" in str(caught.value.hint)
    assert folder.rounds_done() == 1


def test_too_few_connected_sites_end_the_study_before_any_message(make_folder):
    grid = FakeGrid({11: FakeSite(0)})
    with pytest.raises(WorkError, match=r"1 sites connected after 0\.3 s, the quorum is 2"):
        run(make_folder(quorum=2), grid)
    assert grid.sent == []


def test_study_begins_without_the_sites_beyond_the_quorum(make_folder):
    assert run(make_folder(sites=5), FakeGrid({11: FakeSite(0), 12: FakeSite(1)})).history[0].accepted == [0, 1]


def test_resumed_study_goes_on_with_the_next_round_and_gives_the_same_weights(make_folder):
    undisturbed = run(make_folder("one", rounds=4), FakeGrid({11: FakeSite(0), 12: FakeSite(1)}))

    folder, fragile = make_folder("two", rounds=4, quorum=2), {11: FakeSite(0), 12: FakeSite(1)}
    grid = FakeGrid(fragile)

    def lose_a_site(record: RoundRecord) -> None:
        if record.round == 2:
            del grid.nodes[12]

    with pytest.raises(WorkError, match="round 3"):
        run(folder, grid, on_round=lose_a_site)
    back = {21: FakeSite(0), 22: FakeSite(1)}  # a node that connects anew has a new node number
    resumed = run(folder, FakeGrid(back))

    assert back[21].rounds == back[22].rounds == [3, 4]
    assert [r.round for r in resumed.history] == [1, 2, 3, 4]
    for name in START:
        assert np.array_equal(resumed.weights[name], undisturbed.weights[name])
        assert np.array_equal(resumed.momentum[name], undisturbed.momentum[name])


def test_finished_study_asks_nobody_anything(make_folder):
    folder = make_folder(rounds=1)
    first = run(folder, FakeGrid({11: FakeSite(0), 12: FakeSite(1)}))
    grid = FakeGrid({})
    again = run(folder, grid)
    assert grid.sent == []
    assert again.history == first.history


def test_stop_ends_after_the_last_checkpoint(make_folder):
    folder, stop = make_folder(rounds=5), threading.Event()
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1)})
    state = run(folder, grid, stop, on_round=lambda r: stop.set() if r.round == 2 else None)
    assert [r.round for r in state.history] == [1, 2]
    assert folder.rounds_done() == 2
    assert max(grid.nodes[11].rounds) == 2


def test_stop_in_the_middle_of_a_round_drops_that_round_at_once(make_folder):
    stop = threading.Event()

    def stop_in_round_two(request, weights):
        if request.round == 2:
            stop.set()
            return None
        return encode_reply(TrainReply(**facts(1)), drift(1, 1, weights))

    folder = make_folder(rounds=3)
    started = time.monotonic()
    state = run(folder, FakeGrid({11: FakeSite(0), 12: FakeSite(1, train=stop_in_round_two)}), stop)
    assert time.monotonic() - started < 5.0
    assert len(state.history) == folder.rounds_done() == 1


def test_second_node_with_the_number_of_another_is_refused(make_folder):
    grid = FakeGrid({11: FakeSite(5), 12: FakeSite(5), 13: FakeSite(6)})
    state = run(make_folder(rounds=2, sites=3), grid)
    for record in state.history:
        assert record.accepted == [5, 6]
        assert record.refused == [Refusal(site=None, code="DUPLICATE_SITE")]
    trained = [n for n in (11, 12) if grid.nodes[n].rounds]
    assert len(trained) == 1  # the other one never got the weights


def test_node_that_does_not_greet_gets_no_weights(make_folder, monkeypatch):
    monkeypatch.setattr(rounds, "_HELLO_DEADLINE_S", 0.5)
    grid = FakeGrid({11: FakeSite(0), 12: lambda _: None, 13: lambda _: Error(103, "x")})
    state = run(make_folder(sites=3), grid)
    assert state.history[0].accepted == [0]
    assert sorted(r.code for r in state.history[0].refused) == ["NO_REPLY", "SITE_NOT_READY"]
    assert [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"] == [11]


def test_site_that_joins_between_rounds_takes_part_from_then_on(make_folder):
    grid = FakeGrid({11: FakeSite(0)})

    def join(record: RoundRecord) -> None:
        grid.nodes[12] = FakeSite(1)

    state = run(make_folder(rounds=3), grid, on_round=join)
    assert [r.accepted for r in state.history] == [[0], [0, 1], [0, 1]]


def test_site_that_left_is_not_asked_again(make_folder):
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1)})

    def leave(record: RoundRecord) -> None:
        grid.nodes.pop(12, None)

    state = run(make_folder(rounds=2), grid, on_round=leave)
    assert [r.accepted for r in state.history] == [[0, 1], [0]]
    asked = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"]
    assert sorted(asked) == [11, 11, 12]


def test_plan_that_was_changed_after_a_checkpoint_is_refused(make_folder):
    folder = make_folder(rounds=1)
    run(folder, FakeGrid({11: FakeSite(0), 12: FakeSite(1)}))
    (folder.path / "plan.json").write_text(folder.plan().model_copy(update={"rounds": 2}).model_dump_json())
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1)})
    with pytest.raises(UsageError, match="belongs to another plan"):
        run(folder, grid)
    assert grid.sent == []


def test_damaged_checkpoint_ends_the_study_before_any_message(make_folder):
    folder = make_folder(rounds=2)
    stop = threading.Event()
    run(folder, FakeGrid({11: FakeSite(0), 12: FakeSite(1)}), stop, on_round=lambda _: stop.set())
    (folder.checkpoints / "round-0001" / "weights.safetensors").write_bytes(b"x")
    grid = FakeGrid({11: FakeSite(0), 12: FakeSite(1)})
    with pytest.raises(WorkError, match="cannot be read"):
        run(folder, grid)
    assert grid.sent == []


# Differential privacy

PRIVATE = {
    "recipe": InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1, packing="patient"),
    "outer": OuterRecipe(name="fedavg", lr=1.0, weights="equal"),
    "privacy": PrivacyRecipe(target_epsilon=8.0, sampling_rate=0.5),
}


def private_site(number: int, kind: type = PatientLevelReply) -> FakeSite:
    name = "patient_level_epsilon" if kind is PatientLevelReply else "note_level_epsilon"

    def train(request, weights):
        facts = {"round": request.round, "noise_multiplier": 1.5, "delta": 1e-5, name: 2.0 * request.round}
        return encode_reply(kind(**facts), drift(number, request.round, weights))

    return FakeSite(number, train)


def test_private_replies_are_averaged_and_say_what_was_spent(make_folder):
    state = run(make_folder(rounds=2, **PRIVATE), FakeGrid({11: private_site(0), 12: private_site(1)}))
    first, second = state.history
    assert first.privacy == {
        site: {"noise_multiplier": 1.5, "delta": 1e-5, "patient_level_epsilon": 2.0} for site in (0, 1)
    }
    assert second.privacy[1]["patient_level_epsilon"] == 4.0
    assert (first.train_loss, first.train_tokens, first.validation) == (None, None, {})
    assert first.site_level_epsilon is None
    update = {k: (drift(0, 1, START)[k] + drift(1, 1, START)[k]) / 2 for k in START}
    after_one = {k: START[k] + update[k] for k in START}
    expected = {k: after_one[k] + (drift(0, 2, after_one)[k] + drift(1, 2, after_one)[k]) / 2 for k in START}
    assert close(state.weights, expected)


@pytest.mark.parametrize("site", [FakeSite(1), private_site(1, NoteLevelReply)], ids=["without", "other-unit"])
def test_a_reply_without_privacy_or_for_another_unit_is_refused(make_folder, site):
    state = run(make_folder(**PRIVATE), FakeGrid({11: private_site(0), 12: site}))
    assert state.history[0].refused == [Refusal(site=1, code="REPLY_MALFORMED")]
    assert list(state.history[0].privacy) == [0]


def test_a_private_reply_to_an_open_plan_is_refused(make_folder):
    state = run(make_folder(), FakeGrid({11: FakeSite(0), 12: private_site(1)}))
    assert state.history[0].refused == [Refusal(site=1, code="REPLY_MALFORMED")]


def test_central_noise_bounds_each_site_and_is_accounted_apart(make_folder):
    central = CentralNoise(max_site_norm=0.01, noise_multiplier=1e-9)
    state = run(make_folder(**{**PRIVATE, "central": central}), FakeGrid({11: private_site(0), 12: private_site(1)}))
    moved = np.concatenate([(state.weights[k] - START[k]).ravel() for k in START])
    assert 0 < float(np.linalg.norm(moved)) <= 0.01 * (1 + 1e-4)  # two sites of at most 0.01, over two
    (record,) = state.history
    assert record.site_level_epsilon is not None and record.site_level_epsilon > 100
    assert "site_level_epsilon" not in record.privacy[0]


def test_central_noise_is_added_over_the_number_of_sites_in_the_plan(make_folder):
    central = CentralNoise(max_site_norm=3e-6, noise_multiplier=1e6)
    fields = {**PRIVATE, "central": central, "sites": 3, "quorum": 1, "join_s": 0.3}
    moved = []
    for number in range(14):
        state = run(make_folder(f"central-{number}", **fields), FakeGrid({11: private_site(0)}))
        moved += [(state.weights[k] - START[k]).ravel() for k in START]
    assert float(np.concatenate(moved).std()) == pytest.approx(1.0, rel=0.3)  # 1e6 * 3e-6 / 3, for one reply too
