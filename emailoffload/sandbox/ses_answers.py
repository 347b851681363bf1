"""What SESv2 says about identities and configuration sets; in the sandbox all of them are well."""

from __future__ import annotations

from typing import Any


def identity(name: str) -> dict[str, Any]:
    """GetEmailIdentity: verified."""
    return {
        "IdentityType": "EMAIL_ADDRESS" if "@" in name else "DOMAIN",
        "FeedbackForwardingStatus": True,
        "VerifiedForSendingStatus": True,
        "VerificationStatus": "SUCCESS",
        "DkimAttributes": {"SigningEnabled": True, "Status": "SUCCESS"},
        "MailFromAttributes": {"BehaviorOnMxFailure": "USE_DEFAULT_VALUE"},
        "Policies": {},
        "Tags": [],
    }


def configuration_set(name: str) -> dict[str, Any]:
    """GetConfigurationSet: it may send."""
    return {
        "ConfigurationSetName": name,
        "TrackingOptions": {},
        "DeliveryOptions": {"TlsPolicy": "OPTIONAL"},
        "ReputationOptions": {"ReputationMetricsEnabled": True},
        "SendingOptions": {"SendingEnabled": True},
        "Tags": [],
    }


def listing(kind: str, names: list[str]) -> dict[str, Any]:
    """ListConfigurationSets, or ListEmailIdentities where `kind` is Identity."""
    if kind == "ConfigurationSet":
        return {"ConfigurationSets": names}
    return {
        "EmailIdentities": [
            {
                "IdentityName": name,
                "SendingEnabled": True,
                "VerificationStatus": "SUCCESS",
                "IdentityType": "EMAIL_ADDRESS" if "@" in name else "DOMAIN",
            }
            for name in names
        ]
    }
