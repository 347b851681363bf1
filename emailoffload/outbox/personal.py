"""The inventory: every column of every table that is kept, and whether it says something about a person.

`docs/privacy.md` tells the same for people; a test compares both with the models, so that nobody adds a column without
saying what it holds. Tables are named as Django labels them, because some belong to packages above this one.

| Class | Holds | Goes |
|---|---|---|
| NONE | nothing about a person: states, times, counts, ids of things, our own words | with its row |
| ID | the number of a user in Moodle, or of a row about them: a pseudonym | with its row |
| WHO | name, address or subject of a mail, or free text that may hold them | `RETAIN_ADDRESSES_DAYS` |
| SAID | what a mail says, encrypted | `RETAIN_CONTENT_DAYS`; with credentials sooner |
| TOLD | what others reported about a person's mail, with the address | `RETAIN_EVENTS_DAYS` |
| STAFF | who of the staff did, chose or entered something | `RETAIN_AUDIT_DAYS`, or when they take it back |
| LIST | an address that must not be written to | `RETAIN_ADDRESSES_DAYS` after it gets mail again |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NONE, ID, WHO, SAID, TOLD, STAFF, LIST = "none", "id", "who", "said", "told", "staff", "list"
CLASSES: Final = (NONE, ID, WHO, SAID, TOLD, STAFF, LIST)


def _columns(**by_class: str) -> dict[str, str]:
    """The class of each column, from the columns of each class."""
    return {column: name for name, columns in by_class.items() for column in columns.split()}


INVENTORY: Final[Mapping[str, Mapping[str, str]]] = {
    # --- What is claimed and mailed ---
    "emailoffload.Claim": _columns(
        none="id ref source template intent_key state before after under_lock activity_id activity_name cmid course_id "
        "course_name company_id company_name ordinal is_last completiontime run_id due_at created_at claimed_at "
        "settled_at note fallback forgotten_at",
        id="row_id user_id",
        who="user_name user_email",
    ),
    "emailoffload.Email": _columns(
        none="id ref claim_id resend_of_id source template role origin activity_id course_id company_id sensitive "
        "route state state_at reason created_at due_at next_try_at deadline_at attempts lease leased_until message_id "
        "accepted_at delivered_at opened_at clicked_at bounced_at complained_at erased_at forgotten_at "
        "forgotten_because",
        id="user_id recipient_id",
        who="address name subject detail",
    ),
    "emailoffload.Content": _columns(none="email_id key_id", said="body"),
    "emailoffload.Attempt": _columns(
        none="id email_id number route started_at finished_at outcome error_code http_status request_id message_id "
        "holder",
        who="error_message",
    ),
    "emailoffload.Shadow": _columns(
        none="id source template before activity_id course_id company_id mails is_last due_at seen_at verdict "
        "compared_at detail",
        id="row_id user_id",
    ),
    "emailoffload.LeftRow": _columns(
        none="id source due_at reason detail template activity_id course_id company_id first_seen last_seen",
        id="row_id user_id",
    ),
    "emailoffload.RowError": _columns(
        none="id source activity_id reason first_seen last_seen times", id="row_id user_id", told="detail"
    ),
    "emailoffload.ReconcileFinding": _columns(
        none="id claim_id source company_id verdict detail seen first_seen closed_at closed_because",
        id="user_id",
    ),
    "emailoffload.ErasedPerson": _columns(none="id deleted_seen_at erased_at because", id="user_id"),
    # --- What became of it ---
    "emailoffload.Event": _columns(
        none="id key type at received_at message_id ref identity kind subkind status email_id noted match_again_at "
        "match_tries origin",
        told="address diagnostic",
    ),
    "emailoffload.EventProblem": _columns(
        none="id digest origin reason detail size key_id first_seen last_seen times", told="body"
    ),
    "emailoffload.Suppression": _columns(
        none="id reason origin event_id email_id since until removed_at agreement checked_at",
        list="address active_key detail removal_reason",
        staff="added_by removed_by",
    ),
    # --- Figures and state: counts, times, names of hosts ---
    "emailoffload.Run": _columns(none="id kind started_at finished_at holder outcome message counts"),
    "emailoffload.Lease": _columns(none="name holder token expires_at beat_at"),
    "emailoffload.State": _columns(none="name updated_at", staff="value"),
    "emailoffload.Alarm": _columns(
        none="id code subject active_key level text cure details raised_at seen_at ended_at told"
    ),
    "emailoffload.ReputationHour": _columns(
        none="id hour identity company_id sends deliveries permanent_bounces transient_bounces complaints rejects"
    ),
    "emailoffload.HourCount": _columns(none="id kind hour source company_id key number"),
    "emailoffload.CountSum": _columns(none="id kind unit begins source company_id key number"),
    "emailoffload.HourChange": _columns(none="id kind hour"),
    # --- What staff did and chose ---
    "emailoffload.AuditEntry": _columns(
        none="id at", staff="actor action object_type object_id reason details"
    ),
    "emailoffload.CopyRule": _columns(
        none="id enabled source company_id course_id activity_id kind text credentials",
        staff="name value note",
    ),
    "emailoffload.RoutingRule": _columns(
        none="id enabled source template company_id course_id activity_id mode percentage fallback suppressed",
        staff="name note",
    ),
    "emailoffload.SensitiveTemplate": _columns(none="id name", staff="note"),
    "emailoffload.GroupCompany": _columns(none="id group_id company_id company_name"),
    "emailoffload.SavedView": _columns(none="id shared created_at", staff="owner_id name query"),
    "emailoffload.Choice": _columns(none="id name", staff="user_id value"),
    # --- Accounts of staff: Django's own, and those of the packages that look after logins ---
    "auth.User": _columns(
        none="id password is_superuser is_staff is_active",
        staff="username first_name last_name email last_login date_joined",
    ),
    "auth.Group": _columns(none="id name"),
    "auth.Permission": _columns(none="id name content_type_id codename"),
    "auth.Group_permissions": _columns(none="id group_id permission_id"),
    "auth.User_groups": _columns(none="id group_id", staff="user_id"),
    "auth.User_user_permissions": _columns(none="id permission_id", staff="user_id"),
    "admin.LogEntry": _columns(
        none="id action_time content_type_id action_flag",
        staff="user_id object_id object_repr change_message",
    ),
    "contenttypes.ContentType": _columns(none="id app_label model"),
    "sessions.Session": _columns(none="session_key expire_date", staff="session_data"),
    "axes.AccessAttempt": _columns(
        none="id user_agent http_accept path_info attempt_time get_data post_data failures_since_start",
        staff="username ip_address",
    ),
    "axes.AccessAttemptExpiration": _columns(none="access_attempt_id expires_at"),
    "axes.AccessFailureLog": _columns(
        none="id user_agent http_accept path_info attempt_time locked_out username ip_address"
    ),
    "axes.AccessLog": _columns(
        none="id user_agent http_accept path_info attempt_time logout_time session_hash username ip_address"
    ),
    # --- The worker's triggers: names of functions, counts, classes of errors ---
    "django_q.Task": _columns(
        none="id name func hook args kwargs result group cluster started stopped success attempt_count"
    ),
    "django_q.Schedule": _columns(
        none="id name func hook args kwargs schedule_type minutes repeats next_run cron task cluster "
        "intended_date_kwarg"
    ),
    "django_q.OrmQ": _columns(none="id key payload lock"),
    # --- Single sign-on, where it is set up ---
    "account.EmailAddress": _columns(none="id verified primary", staff="user_id email"),
    "account.EmailConfirmation": _columns(none="id email_address_id created sent key"),
    "socialaccount.SocialApp": _columns(none="id provider provider_id name client_id secret key settings"),
    "socialaccount.SocialAccount": _columns(
        none="id provider last_login date_joined", staff="user_id uid extra_data"
    ),
    "socialaccount.SocialToken": _columns(none="id app_id account_id token token_secret expires_at"),
}
"""The class of every column, by table."""
