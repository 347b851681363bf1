"""`manage.py sessetup`: what AWS needs for SES's events to reach us: printed, compared, made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from emailoffload.actions.sessetup import plan, steps
from emailoffload.actions.sessetup.plan import Choice
from emailoffload.actions.sessetup.steps import Step
from emailoffload.management.reporting import ReportingCommand, refusal

PLACEHOLDER = "123456789012"
_WORDS = {
    "exists": "exists",
    "missing": "missing",
    "differs": "DIFFERS",
    "made": "made",
    "changed": "changed",
}


class Command(ReportingCommand):
    """Prints the plan and asks AWS nothing; --check compares AWS with it, --apply makes what is missing."""

    help = (
        "Print what AWS needs for SES's events (configuration set, topic, queue, policies); "
        "--check compares, --apply creates."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        doing = parser.add_mutually_exclusive_group()
        doing.add_argument(
            "--check", action="store_true", help="say what exists and what differs; change nothing"
        )
        doing.add_argument("--apply", action="store_true", help="create what is missing, change what differs")
        parser.add_argument("--configuration-set", help="default: SES_CONFIGURATION_SET, else email-offload")
        parser.add_argument(
            "--name", default="email-offload-events", help="of topic, queue and event destination"
        )
        parser.add_argument("--region", help="default: AWS_REGION")
        parser.add_argument(
            "--account", default=PLACEHOLDER, help="AWS account, where the plan is only printed"
        )
        parser.add_argument(
            "--webhook", default="", metavar="URL", help="SNS posts to this address instead of a queue"
        )
        parser.add_argument(
            "--opens-and-clicks", action="store_true", help="also report who opened and clicked what"
        )
        parser.add_argument(
            "--identity",
            action="append",
            default=[],
            help="limit sending to this domain or address; repeatable",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print; look or make where asked."""
        region = options["region"] or boto3.session.Session().region_name
        if not region:
            raise CommandError("Set AWS_REGION, or name the region with --region.", returncode=2)
        looking = options["check"] or options["apply"]
        done: list[Step] = []
        try:
            amazon = steps.Amazon(region)
            choice = Choice(
                region=region,
                account=steps.account(amazon) if looking else options["account"],
                configuration_set=options["configuration_set"]
                or settings.SES_CONFIGURATION_SET
                or "email-offload",
                name=options["name"],
                webhook=options["webhook"],
                watch=options["opens_and_clicks"],
                identities=tuple(options["identity"]),
            )
            if not looking:
                self.report(_planned(choice), _plan_text(choice), as_json=options["json"])
                return
            for step in steps.carry_out(amazon, choice, change=options["apply"]):
                done.append(step)
                if not options["json"]:
                    self.stdout.write(_line(step))
        except plan.Unusable as error:
            raise CommandError(str(error), returncode=2) from error
        except steps.Refused as error:
            result = {"steps": [_as_dict(step) for step in done], "refused": str(error), "cure": error.cure}
            self.report(result, refusal(str(error), error.cure), as_json=options["json"], ok=False)
            return
        fine = all(step.state not in {"missing", "differs"} for step in done)
        result = {"steps": [_as_dict(step) for step in done], **_planned(choice)}
        self.report(result, _ending(choice, fine), as_json=options["json"], ok=fine)


def _as_dict(step: Step) -> dict[str, Any]:
    return {
        "what": step.what,
        "name": step.name,
        "state": step.state,
        "differing": step.differing,
        "note": step.note,
    }


def _line(step: Step) -> str:
    text = f"{_WORDS[step.state]:<8} {step.what} {step.name}"
    if step.differing:
        text += f": {', '.join(step.differing)}"
    return f"{text} ({step.note})" if step.note else text


def _planned(choice: Choice) -> dict[str, Any]:
    calls = [
        {"service": call.service, "operation": call.operation, "parameters": dict(call.parameters)}
        for call in plan.calls(choice)
    ]
    return {"calls": calls, "rights": plan.rights(choice), "settings": plan.settings_of(choice)}


def _plan_text(choice: Choice) -> str:
    parts = ["# Nothing was asked of AWS. These calls set it up where nothing exists; --apply makes them."]
    if choice.account == PLACEHOLDER:
        parts.append(f"# {PLACEHOLDER} stands for your AWS account.")
    for call in plan.calls(choice):
        parts += ["", f"{call.service} {call.operation}", _shown(_opened(call.parameters))]
    return "\n".join([*parts, "", *_closing(choice)])


def _opened(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Documents inside attributes as documents, for people to read."""
    shown = dict(parameters)
    attributes = shown.get("Attributes", {})
    if attributes:
        shown["Attributes"] = {
            name: json.loads(value) if value.startswith("{") else value for name, value in attributes.items()
        }
    return shown


def _closing(choice: Choice) -> list[str]:
    lines = [
        "# The rights that the product's own credentials need (IAM policy):",
        _shown(plan.rights(choice)),
        "",
        "# Settings:",
        *(f"{name}={value}" for name, value in plan.settings_of(choice).items()),
    ]
    if choice.webhook:
        lines += [
            "",
            "# Put the settings in place and restart the web server before --apply: SNS asks the webhook at once.",
        ]
    return lines


def _ending(choice: Choice, fine: bool) -> str:
    if not fine:
        return "\nNot all is as it should be: --apply makes and changes it."
    return "\n".join(["", *_closing(choice)])


def _shown(value: Any) -> str:
    return json.dumps(value, indent=2)
