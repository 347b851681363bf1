"""What rendering raises when it cannot produce the very text that Moodle would."""

from __future__ import annotations


class Unrenderable(Exception):
    """A text depends on something of Moodle that we do not reproduce; its row stays with Moodle.

    `reason` is a stable code: `filter_unsupported`, `language_pack_unknown`, `profile_markup`, `profile_format`,
    `profile_shortname`, `placeholder_in_value`, `forceclean`, `timezone_unknown`, `date_unknown`, `no_course`.
    `detail` names the culprit: the filter, the profile field's shortname, the language.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
