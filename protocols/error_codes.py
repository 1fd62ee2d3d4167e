"""The closed list of codes by which a site or the coordinator says that something was refused.

A code is all that travels: texts of exceptions stay where they arose, because they can quote a note. The numbers lie
above Flower's own codes (0-8) and pass through it unchanged. ``docs/reference/error-codes.md`` has a heading for each.
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """Why a request was not answered, or an answer not used."""

    # Said by a site.
    BAD_REQUEST = 101
    MANIFEST_MISMATCH = 102
    SITE_NOT_READY = 103
    TOO_FEW_PATIENTS = 104
    TRAINING_FAILED = 105
    UPDATE_NOT_FINITE = 106
    UPDATE_TOO_LARGE = 107
    REPLY_NOT_LISTED = 108
    INTERNAL = 109
    SITE_DISK_FULL = 110
    PRIVACY_REQUIRED = 111
    PRIVACY_REFUSED = 112
    PRIVACY_SPENT = 113
    PLAN_NOT_APPROVED = 114
    BUNDLE_NOT_APPROVED = 115
    BYTES_EXCEEDED = 116
    SITE_RESTARTED = 117
    # Said by the coordinator about a site.
    NO_REPLY = 121
    SITE_UNREACHABLE = 122
    SITE_CRASHED = 123
    REPLY_MALFORMED = 124
    WRONG_ROUND = 125
    DUPLICATE_SITE = 126


class ContractError(Exception):
    """A message that breaks the contract; carries its code and nothing else that could travel.

    Args:
        code: the code to report.
        detail: for the local log only, e.g. the name of the parameter; never sent.
    """

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        super().__init__(f"{code.name}: {detail}" if detail else code.name)
        self.code = code
        self.detail = detail
