"""`manage.py routing`: which mails are ours: the rules listed, set and removed, on record."""

from __future__ import annotations

import getpass
import itertools
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.forms.models import model_to_dict

from emailoffload.actions import routing
from emailoffload.management.reporting import ReportingCommand
from emailoffload.policy.models import RoutingRule
from emailoffload.policy.routing import MODES, RoutingRules, rule_of, scope_words
from emailoffload.sources import registry

MODE_WORDS = ("on", "shadow", "off")


class Command(ReportingCommand):
    """List the rules, or set or remove the rule of one scope."""

    needs_our_database = True
    help = "List routing rules, or switch a scope on, off or to shadow; without a scope it is the whole site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the action and the parts of a scope."""
        super().add_arguments(parser)
        parser.add_argument(
            "action", nargs="?", default="list", choices=["list", *MODE_WORDS, "remove"],
            help="list (default); on: we send; shadow: Moodle sends, we compare; off: Moodle sends; remove a rule",
        )  # fmt: skip
        scope = parser.add_argument_group("scope: all that is named must fit; none is the whole site")
        scope.add_argument("--activity", type=int, metavar="ID", help="one reengagement activity, its own id")
        scope.add_argument("--company", type=int, metavar="ID", help="users of one company of IOMAD")
        scope.add_argument("--course", type=int, metavar="ID", help="mails about one course")
        scope.add_argument("--source", choices=registry.NAMES, help="one source of mail")
        scope.add_argument("--template", metavar="NAME", help="mails of one template of IOMAD")
        parser.add_argument("--name", help="the rule's name; needed where several rules have the same scope")
        parser.add_argument("--percentage", type=int, metavar="P", help="for how many of the learners")
        parser.add_argument("--fallback", choices=RoutingRule.Fallback.values, help="when the cloud fails")
        parser.add_argument("--suppressed", choices=RoutingRule.Suppressed.values,
                            help="what is done about suppressed addresses")  # fmt: skip
        parser.add_argument("--reason", default="", help="why; kept in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and say what holds now."""
        action = options["action"]
        if action == "list":
            rules = [_as_dict(rule) for rule in _ordered()]
            self.report({"rules": rules}, _table(), as_json=options["json"])
            return
        if not options["reason"].strip():
            raise CommandError("Say why with --reason; it is kept in the audit log.", returncode=2)
        scope = _scope(options)
        rule = _rule(scope, options["name"])
        actor = f"command line ({getpass.getuser()})"
        if action == "remove":
            if rule is None:
                raise CommandError("There is no such rule: manage.py routing lists them.", returncode=2)
            done = routing.remove(rule, actor=actor, reason=options["reason"])
            self.report({"removed": done.rule.name}, f"Removed “{done.rule.name}”.", as_json=options["json"])
            return
        if rule is None:
            rule = RoutingRule(name=options["name"] or routing.name_for(scope), **scope)
        done = routing.save(_judged(rule, action, options), actor=actor, reason=options["reason"])
        still = _still_on(done.rule)
        result = {
            "changed": done.anything, "new": done.before is None, "rule": _as_dict(done.rule), "still_on": still,
        }  # fmt: skip
        self.report(result, _sentence(done) + _but(still), as_json=options["json"])


def _scope(options: dict[str, Any]) -> dict[str, Any]:
    ids = {f"{name}_id": options[name] for name in ("activity", "company", "course")}
    if any(value is not None and value < 1 for value in ids.values()):
        raise CommandError("Ids are numbers from 1.", returncode=2)
    texts = {name: options[name] or "" for name in ("source", "template")}
    return {**texts, **ids}


def _rule(scope: dict[str, Any], name: str | None) -> RoutingRule | None:
    """The rule that is meant, if it exists: by its name, else by its scope."""
    if name:
        found = RoutingRule.objects.filter(name=name).first()
        named = {field: value for field, value in scope.items() if value}
        if found and any(getattr(found, field) != value for field, value in named.items()):
            raise CommandError(
                f"The rule “{name}” has another scope ({scope_words(rule_of(found).scope)}). Choose another name.",
                returncode=2,
            )
        return found
    try:
        return routing.of_scope(scope)
    except routing.SeveralRules as error:
        raise CommandError(f"{error}. Say which one with --name.", returncode=2) from error


def _judged(rule: RoutingRule, mode: str, options: dict[str, Any]) -> RoutingRule:
    """The rule with its new values, if they can work: judged by the form of the admin."""
    from emailoffload.routing_admin import RoutingRuleForm

    values = {"enabled": True, "mode": mode}
    values |= {
        name: options[name] for name in ("percentage", "fallback", "suppressed") if options[name] is not None
    }
    form = RoutingRuleForm({**model_to_dict(rule, exclude=["id"]), **values}, instance=rule)
    if not form.is_valid():
        wrong = [
            f"{field}: {' '.join(map(str, texts))}" if field != "__all__" else " ".join(map(str, texts))
            for field, texts in form.errors.items()
        ]
        raise CommandError("This rule cannot work. " + " ".join(wrong), returncode=2)
    judged: RoutingRule = form.save(commit=False)
    return judged


def _ordered() -> list[RoutingRule]:
    """All rules; those that count in the order in which they do, then those that are switched off."""
    rules = {rule.pk: rule for rule in RoutingRule.objects.all()}
    first = [rules.pop(rule.id) for rule in RoutingRules.load().ordered]
    return [*first, *rules.values()]


def _as_dict(rule: RoutingRule) -> dict[str, Any]:
    return {**model_to_dict(rule), "scope": scope_words(rule_of(rule).scope)}


def _line(rule: RoutingRule) -> str:
    applied = rule_of(rule)
    part = f", for {rule.percentage} percent of the learners" if applied.partial else ""
    off = "" if rule.enabled else " (not enabled)"
    return f"“{rule.name}”{off}: {scope_words(applied.scope)}: {MODES[applied.mode]}{part}"


def _table() -> str:
    rules = _ordered()
    if not rules:
        return "There is no rule: every mail that can be offloaded is sent by us."
    return "\n".join(["The first rule that fits a mail decides:", *(f"  {_line(rule)}" for rule in rules)])


def _still_on(rule: RoutingRule) -> list[str]:
    """Names of the rules that win over one that leaves mails to Moodle, and have us send some of them."""
    if rule.mode == RoutingRule.Mode.ON:
        return []
    rules = [each for each in _ordered() if each.enabled]
    return [
        each.name
        for each in itertools.takewhile(lambda each: each.pk != rule.pk, rules)
        if each.mode == RoutingRule.Mode.ON
        and all(
            getattr(each, field) == getattr(rule, field)
            or not (getattr(each, field) and getattr(rule, field))
            for field in routing.SCOPE
        )
    ]


def _but(still: list[str]) -> str:
    """A rollback that does not reach everything says so."""
    if not still:
        return ""
    names = ", ".join(f"“{name}”" for name in still)
    return (
        f"\nMore specific rules win, and still have us send: {names}. Switch each off too, to stop all of it."
    )


def _sentence(done: routing.Changed) -> str:
    if not done.anything:
        return f"It is so already. {_line(done.rule)}."
    return (
        f"{'Added' if done.before is None else 'Changed'} {_line(done.rule)}. It holds from the next pass on."
    )
