from __future__ import annotations

from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import FednotesError, UsageError, WorkError


def test_own_codes_never_clash_with_those_of_flower():
    assert all(code > 100 for code in ErrorCode)


def test_codes_are_distinct():
    assert len({int(code) for code in ErrorCode.__members__.values()}) == len(ErrorCode.__members__)


def test_contract_error_keeps_its_code_and_its_local_detail():
    error = ContractError(ErrorCode.BAD_REQUEST, "records of the request")
    assert (error.code, error.detail) == (ErrorCode.BAD_REQUEST, "records of the request")
    assert str(error) == "BAD_REQUEST: records of the request"
    assert str(ContractError(ErrorCode.NO_REPLY)) == "NO_REPLY"


def test_wrong_usage_and_failed_work_have_their_own_exit_status():
    assert (UsageError("x").exit_status, WorkError("x").exit_status) == (2, 1)
    assert isinstance(UsageError("x"), FednotesError)


def test_hint_stands_on_a_line_of_its_own():
    assert str(WorkError("The disk is full.", hint="free some space")) == "The disk is full.\nhint: free some space"
    assert str(WorkError("The disk is full.")) == "The disk is full."
