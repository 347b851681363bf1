"""As much of CloudFormation as it takes to say what a template would make: parameters, conditions, references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_ABSENT = object()
"""What AWS::NoValue stands for."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Sub x` becomes {"Sub": x}."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {suffix: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _short_form)
_FUNCTIONS = {"Ref", "Sub", "GetAtt", "If", "Not", "Equals"}


class Template:
    """A template with values for its parameters."""

    def __init__(self, path: Path, *, account: str, region: str, **values: str) -> None:
        self.data = yaml.load(path.read_text(), _Loader)
        parameters = {name: each["Default"] for name, each in self.data["Parameters"].items()}
        assert values.keys() <= parameters.keys()
        self.values = {
            **parameters,
            **values,
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
        }

    def resources(self) -> dict[str, dict[str, Any]]:
        """Type and properties of what would be made, by name in the template."""
        return {
            name: {"Type": each["Type"], "Properties": self.resolve(each["Properties"])}
            for name, each in self.data["Resources"].items()
            if "Condition" not in each or self._holds(each["Condition"])
        }

    def outputs(self) -> dict[str, str]:
        """What the template would report, by what its description calls it."""
        return {
            each["Description"]: self.resolve(each["Value"])
            for each in self.data["Outputs"].values()
            if "Condition" not in each or self._holds(each["Condition"])
        }

    def resolve(self, value: Any) -> Any:
        """A value with everything in it that refers to something else replaced."""
        if isinstance(value, list):
            return [found for each in value if (found := self.resolve(each)) is not _ABSENT]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and next(iter(value)) in _FUNCTIONS:
            ((name, argument),) = value.items()
            return self._function(name, argument)
        return {key: self.resolve(each) for key, each in value.items()}

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._reference(argument)
            case "GetAtt":
                resource, attribute = argument.split(".")
                assert attribute == "Arn"
                return self._arn(resource)
            case "Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(self._reference(found[1])), argument)
            case "If":
                condition, yes, no = argument
                return self.resolve(yes if self._holds(condition) else no)
            case "Not":
                return not self.resolve(argument[0])
            case _:
                left, right = (self.resolve(each) for each in argument)
                return left == right

    def _holds(self, condition: str) -> bool:
        return bool(self.resolve(self.data["Conditions"][condition]))

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _ABSENT
        if name in self.values:
            return self.values[name]
        kind = self.data["Resources"][name]["Type"]
        if kind == "AWS::SQS::Queue":
            account, region = self.values["AWS::AccountId"], self.values["AWS::Region"]
            return f"https://sqs.{region}.amazonaws.com/{account}/{self._name(name)}"
        return self._arn(name) if kind == "AWS::SNS::Topic" else self._name(name)

    def _name(self, resource: str) -> str:
        properties = self.data["Resources"][resource]["Properties"]
        for key in ("QueueName", "TopicName", "Name"):
            if key in properties:
                return str(self.resolve(properties[key]))
        return resource

    def _arn(self, resource: str) -> str:
        service = self.data["Resources"][resource]["Type"].split("::")[1].lower()
        account, region = self.values["AWS::AccountId"], self.values["AWS::Region"]
        return f"arn:aws:{service}:{region}:{account}:{self._name(resource)}"
